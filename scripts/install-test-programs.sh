#!/bin/sh
# Programs that tests drive and that no package manager of Python or Rust brings: a browser, a database, Node.
# As root on Debian or its kin what is missing is installed; elsewhere it is named, and the tests that need it are skipped.
set -u
wanted=""

# need PACKAGE PROGRAM...: one of these programs has to be there.
need() {
    package=$1
    shift
    for program in "$@"; do
        command -v "$program" >/dev/null 2>&1 && return
    done
    wanted="$wanted $package"
}

need chromium chromium
need chromium-driver chromedriver
need postgresql initdb /usr/lib/postgresql/*/bin/initdb
need nodejs node
need npm npm

install_programs() {
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
        echo "test: missing:$wanted; the tests that need them are skipped"
        return
    fi
    echo "test: installing$wanted"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 - a list of words
    if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $wanted; } >"$log" 2>&1; then
        echo "test: cannot install$wanted ($(tail -n 1 "$log")); the tests that need them are skipped"
    fi
}

# Packages for Node that judge us, pinned by hash in each folder's lock file.
install_packages() {
    [ -e "$1/package-lock.json" ] || return
    # npm writes this file last.
    [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] && return
    if ! command -v npm >/dev/null 2>&1; then
        echo "test: missing: npm, for $1; the tests that need it are skipped"
    elif ! npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
        echo "test: cannot install the packages of $1 ($(tail -n 1 "$log")); the tests that need them are skipped"
    else
        touch "$1/node_modules/.package-lock.json"
    fi
}

log=$(mktemp)
[ -z "$wanted" ] || install_programs
cd "$(dirname "$0")/.." || exit 0
install_packages tests/conformance/identity/node
install_packages tests/integration/identity/pages/node
rm -f "$log"
exit 0

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

[ -n "$wanted" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "test: missing:$wanted; the tests that need them are skipped"
    exit 0
fi
echo "test: installing$wanted"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# shellcheck disable=SC2086 - a list of words
if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends $wanted; } >"$log" 2>&1; then
    echo "test: cannot install$wanted ($(tail -n 1 "$log")); the tests that need them are skipped"
fi
rm -f "$log"
exit 0

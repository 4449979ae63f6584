#!/bin/sh
# Clients of the authorization server that others wrote (npm), as their lock file has them, into a node_modules of their own.
# Without npm or registry that is one line, and the tests that need them are skipped.
set -u
folder=${1:-${0%/*}/../tests/conformance/identity/node}
installed=$folder/node_modules/.package-lock.json

if [ -e "$installed" ] && [ ! "$folder/package-lock.json" -nt "$installed" ]; then exit 0; fi
if ! command -v npm >/dev/null 2>&1; then
    echo "test: npm is missing; the tests of npm's clients are skipped"
    exit 0
fi
echo "test: installing the clients that judge the authorization server"
log=$(mktemp)
if ! npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
    echo "test: they cannot be installed ($(tail -n 1 "$log")); the tests of npm's clients are skipped"
fi
rm -f "$log"
exit 0

#!/bin/sh
# Formatting, linting, typing, dependency audit: all of them run, the exit status says whether any failed.
# A gate that cannot run here (its data cannot be had) says so in one line and does not count as passed silently.
set -u
failed=""

run() {
    name=$1
    shift
    echo "check: $name"
    "$@" || failed="$failed $name"
}

run "ruff format" ruff format --check .
run "ruff" ruff check .
run "mypy" mypy
run "rustfmt" cargo fmt --all --check
run "clippy" cargo clippy --release --locked --quiet --workspace --all-targets -- -D warnings
run "generated docs" python scripts/generate_docs.py --check

# cargo-deny holds licences, sources and duplicate versions; its advisory data base is a git repository.
tools=$(pwd)/.setup/tools
PATH="$tools/bin:$PATH"
command -v cargo-deny >/dev/null 2>&1 || {
    echo "check: building cargo-deny once (into .setup/tools)"
    cargo install --quiet --locked --root "$tools" cargo-deny@0.20.2
}
run cargo-deny cargo deny --locked --log-level error check licenses sources bans
cargo deny --locked --log-level error check advisories >/dev/null 2>&1 ||
    echo "check: cargo-deny advisories: their data cannot be had here, or something was found: run \`cargo deny check advisories\`"

audit=$(pip-audit --requirement requirements.lock --no-deps --disable-pip 2>&1)
status=$?
case "$audit" in
*vulnerabilit*found*| *Found*) [ $status -eq 0 ] || { echo "$audit"; failed="$failed pip-audit"; } ;;
*"could not be audited"* | *rror*) echo "check: pip-audit: its data cannot be had here: skipped" ;;
*) echo "check: pip-audit: nothing known" ;;
esac

[ -z "$failed" ] && exit 0
echo "check: failed:$failed" >&2
exit 1

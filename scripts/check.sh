#!/bin/sh
# Formatting, linting, typing, dependency audit: all of them run, the exit status says whether any failed.
# A gate that cannot run here (its data cannot be had) says so in one line and does not count as passed silently.
set -u
failed=""
skipped=""

run() {
    name=$1
    shift
    echo "check: $name"
    "$@" || failed="$failed, $name"
}

skip() {
    skipped="$skipped, $1 ($2)"
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
if command -v cargo-deny >/dev/null 2>&1; then
    run "cargo-deny" cargo deny --locked --log-level error check licenses sources bans
    if cargo deny --locked --log-level error fetch db >/dev/null 2>&1; then
        run "cargo-deny advisories" cargo deny --frozen --log-level error check advisories
    else
        skip "cargo-deny advisories" "their data cannot be had here"
    fi
else
    skip "cargo-deny" "it cannot be built here"
fi

echo "check: pip-audit"
audit=$(pip-audit --requirement requirements.lock --no-deps --disable-pip 2>&1)
status=$?
case "$status $audit" in
0*) ;;
*"Found "*" known vulnerabilit"*)
    echo "$audit"
    failed="$failed, pip-audit"
    ;;
*) skip "pip-audit" "its data cannot be had here" ;;
esac

[ -z "$skipped" ] || echo "check: skipped: ${skipped#, }"
if [ -n "$failed" ]; then
    echo "check: failed: ${failed#, }" >&2
    exit 1
fi
echo "check: passed"

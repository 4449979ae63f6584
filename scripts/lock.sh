#!/bin/sh
# Makes requirements.lock anew from pyproject.toml (every version pinned, every file by hash), and Cargo.lock.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --extra postgresql --group dev --custom-compile-command scripts/lock.sh -o requirements.lock pyproject.toml
cargo update --quiet

#!/bin/sh
# Says in one line what is missing, before a build fails half-way with something cryptic.
set -u
python="${PYTHON:-python3}"

missing() {
    echo "setup: error: $1" >&2
    exit 1
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    missing "Python 3.11 or newer is needed (\`$python\` is missing or older): install python3 and python3-venv, or say make PYTHON=/path/to/python3.11"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    missing "Python's venv module is missing: install python3-venv"
command -v cargo >/dev/null 2>&1 ||
    missing "Rust is missing: install it with rustup (stable, 1.88 or newer), then open a new shell"
version=$(cargo --version 2>/dev/null | cut -d' ' -f2)
"$python" -c 'import sys; sys.exit(tuple(map(int, sys.argv[1].split("-")[0].split(".")[:2])) < (1, 88))' "$version" 2>/dev/null ||
    missing "Rust 1.88 or newer is needed, this is ${version:-no toolchain at all}: run \`rustup update stable\`"
command -v cc >/dev/null 2>&1 ||
    missing "a C compiler is missing (the TLS library needs one): install build-essential"

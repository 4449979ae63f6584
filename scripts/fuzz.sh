#!/bin/sh
# Fuzzes the parsers of untrusted bytes (fuzz/README.md).
#   scripts/fuzz.sh [TARGET...] [--seconds N] [--seed N]     the driver for stable Rust (default: all, 60 s each)
#   scripts/fuzz.sh --coverage [TARGET...] [--seconds N]     libFuzzer, guided by coverage; needs a C++ compiler
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

if [ "${1:-}" != --coverage ]; then
    exec cargo run --release --locked --quiet -p stockade-fuzz -- "$@"
fi
shift
seconds=60
targets=
while [ $# -gt 0 ]; do
    case $1 in
    --seconds)
        seconds=$2
        shift
        ;;
    *) targets="$targets $1" ;;
    esac
    shift
done
cargo build --release --locked --quiet -p stockade-fuzz
driver=${CARGO_TARGET_DIR:-target}/release/stockade-fuzz
[ -n "$targets" ] || targets=$("$driver" --list)

# A folder of its own: what is instrumented must not be mixed with what is not.
work=${STOCKADE_FUZZ_WORK:-$root/fuzz/target}
(cd fuzz/libfuzzer && RUSTC_WRAPPER="$PWD/rustc.sh" CARGO_TARGET_DIR="$work" cargo build --release --locked --quiet)
failed=0
for target in $targets; do
    found=$work/corpus/$target
    mkdir -p "$found" "fuzz/artifacts/$target"
    "$driver" "$target" --export "$work/corpus"
    echo "fuzz: $target for $seconds s"
    STOCKADE_FUZZ_TARGET=$target "$work/release/stockade-libfuzzer" "$found" \
        -max_total_time="$seconds" -max_len=4096 -rss_limit_mb=1024 -timeout=60 -print_final_stats=1 -verbosity=0 \
        -artifact_prefix="fuzz/artifacts/$target/" || failed=1
done
exit $failed

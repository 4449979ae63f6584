#!/bin/sh
# RUSTC_WRAPPER: instruments the parsers and what they are made of, and nothing else (a whole instrumented tree is slower and
# says less). Only stable compiler flags: the LLVM pass that `cargo fuzz` uses, without a sanitizer, since `unsafe` is forbidden.
rustc=$1
shift
crate=
previous=
for word in "$@"; do
    [ "$previous" = --crate-name ] && crate=$word
    previous=$word
done
case $crate in
stockade_engine | stockade_gateway | stockade_fuzz)
    exec "$rustc" "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
    ;;
*) exec "$rustc" "$@" ;;
esac

#!/usr/bin/env bash
# Where the gateway's time goes: sample a process for some seconds while it is under load, and print the top of the list.
#
#   python -m bench --only rps --rounds 20 &     # load
#   bench/profile.sh "$(pgrep -of 'stockade.*gateway')" 10
#
# Needs perf, and a build with symbols (CARGO_PROFILE_RELEASE_DEBUG=line-tables-only). The samples stay in bench/.work.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
pid=${1:?usage: profile.sh PID [SECONDS]}
seconds=${2:-10}
mkdir -p "$here/.work"
perf record --quiet --freq 999 --call-graph dwarf,4096 --pid "$pid" --output "$here/.work/perf.data" -- sleep "$seconds"
perf report --input "$here/.work/perf.data" --stdio --no-children --percent-limit 0.5 --call-graph none 2>/dev/null |
    grep -v '^#' | grep . | head -60

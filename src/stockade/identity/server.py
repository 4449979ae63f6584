"""Listeners and life cycle: start, `ready`, reload on SIGHUP, drain on SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import uvicorn

from stockade.errors import StateError, StockadeError
from stockade.identity.admin_api import admin_app
from stockade.identity.apps import internal_app, mutual_tls_app, public_app
from stockade.identity.client_auth.throttle import Throttle
from stockade.identity.client_auth.tls_client_auth import registered_certificates
from stockade.identity.config import read_config
from stockade.identity.direct import Direct
from stockade.identity.errors import KeysUnavailable, Unavailable
from stockade.identity.external import ExternalTokens, https_fetch
from stockade.identity.keys.derive import ensure_derived_keys
from stockade.identity.keys.keyring import care, ensure_keys, open_keyring
from stockade.identity.keys.seal import load_seal
from stockade.identity.observability import Metrics, log, log_defect
from stockade.identity.protocol import Gatekeeper, bounded_protocol
from stockade.identity.revocation_feed import RevocationFeed
from stockade.identity.services import Services
from stockade.identity.storage import open_storage
from stockade.identity.storage.clients import read_self_signed
from stockade.identity.storage.lanes import Lanes
from stockade.identity.storage.purge import BATCH, purge_once
from stockade.identity.tls import ClientCertificates, internal_context, is_gateway, load_certificate, public_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.applications import Starlette

    from stockade.identity.config import Config, MutualTlsListener
    from stockade.identity.keys.seal import Seal
    from stockade.identity.storage import Storage

KEYS_SECONDS = 2.0
CERTIFICATES_SECONDS = 1.0
PURGE_SECONDS = 30.0
PURGE_ROUNDS = 500
BACKLOG = 1_024


async def serve(config_path: Path, config: Config) -> None:
    """Run until SIGTERM or SIGINT. Raises StockadeError when it cannot start."""
    seal = load_seal(config.key_encryption_key)
    with open_storage(config.database_url) as storage:
        if storage.migrated:
            log("info", "database_migrated", what=str(storage.migrated))
        services = _services(config, storage, seal)
        public_tls, internal_tls = public_context(config.public), internal_context(config.internal)
        certificates = _client_certificates(config)
        public = _listener(services, public_app(services), config.public.address, public_tls)
        internal = _listener(
            services, internal_app(services), config.internal.address, internal_tls, may_speak=is_gateway
        )
        listeners: tuple[_Listener, ...] = (public, internal)
        if config.mtls is not None and certificates is not None:
            await take_registered(services, certificates)
            listeners += (_mutual_tls_listener(services, config.mtls, certificates),)
        if config.admin_api is not None and config.external is None:
            listeners += (_listener(services, admin_app(services, storage), config.admin_api.address, None),)
        _on_signals(services, listeners, config_path, (public_tls, internal_tls), certificates)
        try:
            await _run(services, seal, listeners, certificates)
        finally:
            services.lanes.close()


def _services(config: Config, storage: Storage, seal: Seal) -> Services:
    lanes = Lanes(storage)
    metrics = Metrics()
    keyring = ensure_keys(storage, seal, int(time.time()))
    return Services(
        config=config,
        lanes=lanes,
        keyring=keyring,
        feed=RevocationFeed(lanes, metrics),
        throttle=Throttle(config.throttling),
        metrics=metrics,
        external=_external(config, metrics),
        seal=seal,
        derived=ensure_derived_keys(storage, seal),
    )


def _client_certificates(config: Config) -> ClientCertificates | None:
    """With an external issuer nothing is issued here, so nobody needs to prove anything."""
    if config.mtls is None or config.external is not None:
        return None
    return ClientCertificates(config.public, config.mtls)


def _external(config: Config, metrics: Metrics) -> ExternalTokens | None:
    if config.external is None:
        return None
    return ExternalTokens(config.external, https_fetch(config.external), metrics)


async def _run(
    services: Services, seal: Seal, listeners: tuple[_Listener, ...], certificates: ClientCertificates | None
) -> None:
    background = [asyncio.create_task(_keep_keys(services, seal)), asyncio.create_task(_purge(services))]
    if certificates is not None:
        background.append(asyncio.create_task(_keep_certificates(services, certificates)))
    if services.external is not None:
        background.append(asyncio.create_task(services.external.prepare()))
    serving = [asyncio.create_task(listener.serve([listener.socket])) for listener in listeners]
    announce = asyncio.create_task(_announce(listeners))
    try:
        await asyncio.gather(*serving)
    finally:
        for task in (*background, announce):
            task.cancel()
        await asyncio.gather(*background, announce, return_exceptions=True)
    log("info", "stopped")


async def _announce(listeners: tuple[_Listener, ...]) -> None:
    for listener in listeners:
        await listener.listening.wait()
    # What start-up made stays; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    log("info", "ready")
    print("ready", flush=True)  # noqa: T201 - the supervisor waits for this line


class _Listener(uvicorn.Server):
    """uvicorn's server with our socket, TLS, handshake deadline, and no signal handlers of its own."""

    def __init__(
        self, config: uvicorn.Config, listening: socket.socket, tls: ssl.SSLContext | None, handshake: float
    ) -> None:
        super().__init__(config)
        self.socket = listening
        self.listening = asyncio.Event()
        self._tls = tls
        self._handshake_seconds = handshake

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            self._protocol,
            sock=self.socket,
            ssl=self._tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=self._handshake_seconds if self._tls else None,
            ssl_shutdown_timeout=2 if self._tls else None,
        )
        self.servers = [server]
        self.started = True
        self.listening.set()

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state={}
        )


def _mutual_tls_listener(services: Services, mtls: MutualTlsListener, certificates: ClientCertificates) -> _Listener:
    app = mutual_tls_app(services)
    return _listener(services, app, mtls.address, certificates.context, describe=certificates.describe)


def _listener(
    services: Services,
    app: Starlette,
    address: str,
    tls: ssl.SSLContext | None,
    may_speak: Callable[[asyncio.Transport], bool] | None = None,
    describe: Callable[[asyncio.Transport], dict[str, Any]] | None = None,
) -> _Listener:
    limits = services.config.connections
    gatekeeper = Gatekeeper(limits, services.metrics, may_speak, describe)
    config = uvicorn.Config(
        Direct(app),
        http=bounded_protocol(gatekeeper),
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.idle_timeout_seconds,
        timeout_graceful_shutdown=services.config.drain_seconds,
    )
    return _Listener(config, _bind(address), tls, limits.handshake_timeout_seconds)


def _bind(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family, backlog=BACKLOG)
    except OSError as error:
        raise StateError(
            f"cannot listen on `{address}`: {(error.strerror or 'unknown').lower()}",
            hint="another program may have the port",
        ) from error


def _on_signals(
    services: Services,
    listeners: tuple[_Listener, ...],
    config_path: Path,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    certificates: ClientCertificates | None,
) -> None:
    def stop() -> None:
        again = listeners[0].should_exit
        services.feed.close()
        for listener in listeners:
            listener.should_exit = True
            listener.force_exit = again

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload, services, config_path, contexts, certificates)


def reload(
    services: Services,
    config_path: Path,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    certificates: ClientCertificates | None = None,
) -> None:
    """Take up scopes, audiences, lifetimes, throttling, external issuer, certificates. What is wrong changes nothing.

    Addresses and connection limits need a restart, and so do the fields of `_FIXED`, which are refused.
    """
    try:
        config = read_config(config_path)
        if fixed := [name for name in _FIXED if getattr(config, name) != getattr(services.config, name)]:
            raise StateError(f"`{fixed[0]}` can only change with a restart")
        if (config.external is None) != (services.config.external is None):
            raise StateError("`external` can only come or go with a restart")
        if (config.mtls is None) != (services.config.mtls is None):
            raise StateError("`mtls` can only come or go with a restart")
        # A broken file must not be noticed after half of the work: contexts are made anew to see whether they can be.
        public_context(config.public)
        internal_context(config.internal)
        if certificates is not None and config.mtls is not None:
            certificates.reload(config.public, config.mtls)
        load_certificate(contexts[0], config.public.certificate, config.public.key)
        load_certificate(contexts[1], config.internal.certificate, config.internal.key)
    except StockadeError as error:
        log("error", "reload_refused", reason=str(error))
        return
    if config.external != services.config.external:
        services.external = _external(config, services.metrics)
    services.throttle.limits = config.throttling
    services.config = config
    log("info", "reloaded")


_FIXED = ("database_url", "issuer", "key_encryption_key")


async def _keep_keys(services: Services, seal: Seal) -> None:
    """See rotations made elsewhere, rotate by age, and notice when keys are gone."""
    while True:
        await asyncio.sleep(KEYS_SECONDS)
        try:
            await refresh_keys(services, seal)
        except Unavailable:
            continue
        except Exception as error:  # noqa: BLE001 - must go on: what the rows hold may be mended
            services.keyring = None
            log_defect("signing_keys_unreadable", error)


async def refresh_keys(services: Services, seal: Seal) -> None:
    """Read the keys again. Without usable keys the server goes on and answers 503 until they are mended."""
    now, lifetimes = int(services.clock()), services.config.lifetimes
    try:
        keyring = await services.lanes.read(lambda connection: open_keyring(connection, seal))
        if keyring.needs_care(now, lifetimes):
            keyring = await services.lanes.write(lambda connection: care(connection, seal, now, lifetimes))
    except KeysUnavailable as error:
        log("error", "signing_keys_unusable", reason=error.reason, hint="restore database and key-encryption key")
        services.keyring = None
        return
    if services.keyring is not None and services.keyring.kid != keyring.kid:
        services.metrics.count("signing_key_rotations")
        log("info", "signing_key_in_force", kid=keyring.kid)
    services.keyring = keyring


async def take_registered(services: Services, certificates: ClientCertificates) -> None:
    """Take the self-signed certificates that clients have registered now (RFC 8705 §2.2)."""
    registered = await services.lanes.read(read_self_signed)
    certificates.register({der for jwks in registered for der in registered_certificates(jwks)})


async def _keep_certificates(services: Services, certificates: ClientCertificates) -> None:
    """See what was registered here, at the command line and by other servers."""
    while True:
        await asyncio.sleep(CERTIFICATES_SECONDS)
        try:
            await take_registered(services, certificates)
        except Unavailable as error:
            log("warning", "registered_certificates_unread", reason=error.reason)
        except Exception as error:  # noqa: BLE001 - housekeeping must not end the server, nor end silently
            log_defect("registered_certificates_unread", error)


async def _purge(services: Services) -> None:
    while True:
        await asyncio.sleep(PURGE_SECONDS)
        try:
            for _ in range(PURGE_ROUNDS):
                if await _purge_some(services) < BATCH:
                    break
                # Leaves room for callers between two batches.
                await asyncio.sleep(0.05)
        except Unavailable as error:
            log("warning", "purge_failed", reason=error.reason)
        except Exception as error:  # noqa: BLE001 - housekeeping must not end the server, nor end silently
            log_defect("purge_failed", error)


async def _purge_some(services: Services) -> int:
    now, keep = services.clock(), services.config.lifetimes.revocation_log_seconds
    removed = await services.lanes.write(lambda connection: purge_once(connection, now, keep))
    services.metrics.count("rows_purged", removed)
    return removed

"""`stockade up`: the installation as one supervised whole.

Order matters: sockets first (they tell the ports), then certificates, the authorization server, the bundle, and the
gateway, which attacks its own plan before it says `ready`. Afterwards the inputs are watched: a good change is in
force within a second, a bad one is reported and changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockade.control import admin_gateway, bundles
from stockade.control import state as st
from stockade.control.identity_config import identity_config, scope_texts_of, scopes_of
from stockade.control.metrics import MetricsServer
from stockade.control.sockets import free_port, listen, port_of, split
from stockade.control.watch import Watcher
from stockade.enforcement.admin import GatewayAdmin
from stockade.enforcement.gateway_config import Places, gateway_config, thread_count
from stockade.enforcement.supervision import Part, PartSpec
from stockade.errors import InputError, StockadeError, SupervisionError
from stockade.identity import certificates
from stockade.identity.keys.seal import ensure_key_file
from stockade.supervised import SUPERVISOR

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from stockade.control.admin_gateway import AdminGate
    from stockade.control.bundles import Built
    from stockade.control.state import StateFolder
    from stockade.policy import Policy
    from stockade.policy.model import AdminApi, MutualTls
    from stockade.spec.model import Description

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


# What the authorization server reads again on SIGHUP; anything else needs a restart.
TAKEN_UP_BY_SIGNAL = frozenset(
    {
        "scopes", "audiences", "internal_audience", "lifetimes", "public", "internal", "external", "profile",
        "token_binding", "dpop", "refresh", "par", "device", "sessions", "people",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens. 0 where the policy asks for no such listener."""

    gateway: int
    issuer: int
    internal: int
    mtls: int
    admin_gateway: int
    admin_upstream: int


@dataclass(frozen=True, slots=True)
class Ready:
    """What a newcomer needs to know once it runs. `ca_file` is None where certificates are the operator's own."""

    api_url: str
    issuer_url: str
    token_endpoint: str
    ca_file: Path | None
    state: Path
    serial: int
    sha256: str
    operations: int
    self_check: dict[str, Any]
    seconds: float
    admin_api_url: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for `--json` and `run/ready.json`."""
        return {
            "api_url": self.api_url,
            "issuer_url": self.issuer_url,
            "token_endpoint": self.token_endpoint,
            **({"admin_api_url": self.admin_api_url} if self.admin_api_url else {}),
            "ca_file": str(self.ca_file) if self.ca_file else None,
            "state": str(self.state),
            "bundle": {"serial": self.serial, "sha256": self.sha256},
            "operations": self.operations,
            "self_check": self.self_check,
            "seconds": round(self.seconds, 3),
        }


class Installation:
    """One running installation. `read_policy` is called again at each change; `say` speaks to the operator."""

    def __init__(self, read_policy: Callable[[], Policy], state: StateFolder, say: Callable[[str], None]) -> None:
        self._read_policy = read_policy
        self._state = state
        self._say = say
        self._policy: Policy
        self._watcher: Watcher
        self._built: Built
        self._sockets: list[socket.socket] = []
        self._gateway: Part
        self._admin_gateway: Part | None = None
        self._admin_built: Built | None = None
        self._admin_sockets: list[socket.socket] = []
        self._admin_config: dict[str, Any] = {}
        self._identity: Part
        self._gateway_config: dict[str, Any] = {}
        self._identity_config: dict[str, Any] = {}
        self._admin = GatewayAdmin(state.run / "gateway.sock")
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()
        self._metrics: MetricsServer | None = None

    async def run(self, on_ready: Callable[[Ready], None]) -> int:
        """Start, stay up until a signal, drain. Returns the exit status; raises StockadeError when it can't start."""
        with st.only_instance(self._state):
            keepers: list[asyncio.Task[Any]] = []
            self._catch_signals()
            stopping = asyncio.create_task(self._stop.wait())
            starting = asyncio.create_task(self._start())
            try:
                await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not self._stop.is_set():
                    on_ready(await starting)
                    keepers = [asyncio.create_task(part.keep_alive()) for part in self._parts()]
                    keepers.append(asyncio.create_task(self._watch()))
                    await stopping
            finally:
                await self._shut_down([starting, stopping, *keepers])
        return 0

    def stop(self) -> None:
        """Ask for an orderly end; a second call ends at once."""
        if self._stop.is_set():
            for part in self._parts():
                part.kill()
        self._stop.set()

    async def _start(self) -> Ready:
        loop = asyncio.get_running_loop()
        started = loop.time()
        asked = self._read_policy()
        self._sockets = listen(asked.listen.address, thread_count(asked))
        self._ports = _take_ports(asked, port_of(self._sockets[0]))
        self._policy = self._with_ports(asked)
        self._prepare_certificates()
        description = bundles.load_description(self._policy)
        # Now, not when all is ready: what is written meanwhile must count as a change.
        self._watcher = Watcher(self._inputs(description.inputs))
        self._identity_config = self._make_identity_config(description)
        self._identity = Part(self._identity_part(self._identity_config), self._remark)
        self._built, _ = await asyncio.gather(
            asyncio.to_thread(bundles.build, self._policy, self._state, description), self._identity.start()
        )
        bundles.publish(self._built, self._state)
        self._gateway_config = self._make_gateway_config()
        self._gateway = Part(self._gateway_part(self._gateway_config), self._remark)
        await asyncio.gather(self._gateway.start(), self._start_admin_gateway())
        self._start_metrics()
        ready = self._ready(await asyncio.to_thread(self._admin.status), loop.time() - started)
        st.write_atomically(self._state.run / "ready.json", json.dumps(ready.as_json()).encode())
        return ready

    async def _start_admin_gateway(self) -> None:
        gate = self._admin_gate()
        if gate is None:
            return
        self._admin_sockets = listen(gate.policy.listen.address, 1)
        self._admin_built = await admin_gateway.publish(gate, None)
        self._admin_config = self._make_gateway_config(gate)
        self._admin_gateway = Part(self._admin_part(gate, self._admin_config), self._remark)
        await self._admin_gateway.start()

    def _parts(self) -> list[Part]:
        """Those that there are by now, in the order in which they are drained."""
        found = (getattr(self, name, None) for name in ("_gateway", "_admin_gateway", "_identity"))
        return [part for part in found if part is not None]

    async def _shut_down(self, tasks: list[asyncio.Task[Any]]) -> None:
        (self._state.run / "ready.json").unlink(missing_ok=True)
        for part in self._parts():
            await part.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._metrics is not None:
            self._metrics.stop()
        for one in (*self._sockets, *self._admin_sockets):
            one.close()

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)

    # Changes

    async def _watch(self) -> None:
        while True:
            changed = await self._watcher.wait(self._reload)
            forced = self._reload.is_set()
            self._reload.clear()
            try:
                if forced:
                    await self._replace_gateway()
                await self._apply(certificates=forced or changed & set(self._certificate_files()))
            except StockadeError as error:
                self._say(f"the change is not in force: {error}" + (f" (hint: {error.hint})" if error.hint else ""))
            except Exception as error:  # noqa: BLE001  # a bug in the compiler must not end the gate
                self._say(f"the change is not in force: internal error {type(error).__name__}: please report it")
            self._watcher.retarget(self._inputs(self._built.inputs))

    async def _apply(self, *, certificates: bool | set[Path]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        asked = await asyncio.to_thread(self._read_policy)
        self._refuse_moved_listeners(asked)
        policy = self._with_ports(asked)
        built = await asyncio.to_thread(bundles.build, policy, self._state)
        if built.serial != self._built.serial:
            candidate = self._state.bundle.with_name("candidate.stkb")
            st.write_atomically(candidate, built.signed)
            await asyncio.to_thread(self._admin.swap_bundle, candidate)
            bundles.publish(built, self._state)
            took = (loop.time() - started) * 1000
            self._say(
                f"bundle {built.serial} is in force: {len(built.description.operations)} operations, {took:.0f} ms"
            )
        self._policy, self._built = policy, built
        await self._restart_what_changed()
        if certificates:
            await asyncio.to_thread(self._admin.reload_certificates)
            if (gate := self._admin_gate()) is not None:
                await asyncio.to_thread(gate.control.reload_certificates)
            self._identity.tell(signal.SIGHUP)
            self._say("certificates are read anew")

    async def _restart_what_changed(self) -> None:
        await self._renew_identity(self._make_identity_config(self._built.description))
        if self._make_gateway_config() != self._gateway_config:
            await self._replace_gateway()
        if (gate := self._admin_gate()) is not None:
            await self._renew_admin_gateway(gate)

    async def _renew_identity(self, wanted: dict[str, Any]) -> None:
        """Let the authorization server take `wanted` up: by a signal where that suffices, else by a restart.

        Raises SupervisionError when it does not start with it; then the one from before runs again.
        """
        before = self._identity_config
        changed = {name for name in wanted.keys() | before.keys() if wanted.get(name) != before.get(name)}
        if not changed:
            return
        if changed <= TAKEN_UP_BY_SIGNAL and ("external" in wanted) == ("external" in before):
            self._write_identity_config(wanted)
            self._identity.tell(signal.SIGHUP)
            self._say("the authorization server takes up its new configuration")
        else:
            self._say("restarting the authorization server with its new configuration")
            await self._identity.restart(self._identity_part(wanted), lambda: self._write_identity_config(before))
        self._identity_config = wanted

    async def _replace_gateway(self) -> None:
        """Raises SupervisionError when the new one does not start; then the old one stays, and so does its file."""
        wanted = self._make_gateway_config()
        try:
            await self._gateway.replace(self._gateway_part(wanted))
        except SupervisionError:
            self._gateway_part(self._gateway_config)
            raise
        self._gateway_config = wanted
        self._say("a new gateway has taken over")

    async def _renew_admin_gateway(self, gate: AdminGate) -> None:
        """As `_replace_gateway`, for the one before the administration API; its bundle changes with the issuer."""
        assert self._admin_gateway is not None  # noqa: S101  # it cannot come while running
        self._admin_built = await admin_gateway.publish(gate, self._admin_built)
        wanted = self._make_gateway_config(gate)
        if wanted == self._admin_config:
            return
        try:
            await self._admin_gateway.replace(self._admin_part(gate, wanted))
        except SupervisionError:
            self._admin_part(gate, self._admin_config)
            raise
        self._admin_config = wanted

    def _refuse_moved_listeners(self, asked: Policy) -> None:
        for name, new, old in (
            ("listen.address", asked.listen.address, self._asked.listen.address),
            ("listen.threads", thread_count(asked), thread_count(self._asked)),
            ("identity.listen", asked.identity.listen, self._asked.identity.listen),
            ("identity.mtls.listen", _listens(asked.identity.mtls), _listens(self._asked.identity.mtls)),
            ("identity.admin_api.listen", _listens(asked.identity.admin_api), _listens(self._asked.identity.admin_api)),
            ("state", asked.state, self._asked.state),
        ):
            if new != old:
                raise InputError(f"`{name}` cannot change while running", hint="stop Stockade and start it again")

    def _inputs(self, described: Sequence[Path]) -> list[Path]:
        policy_file = [self._policy.file] if self._policy.file else []
        return [*policy_file, *described, *self._certificate_files()]

    def _certificate_files(self) -> list[Path]:
        tls = self._policy.listen.tls
        return [path for path in (tls.certificate, tls.key, tls.client_ca) if path is not None]

    # What the parts are told

    def _with_ports(self, asked: Policy) -> Policy:
        """The policy with the ports that were taken, so that issuer and audience name them."""
        self._asked = asked
        mtls, admin_api = _listens(asked.identity.mtls), _listens(asked.identity.admin_api)
        return asked.with_addresses(
            _with_port(asked.listen.address, self._ports.gateway),
            _with_port(asked.identity.listen, self._ports.issuer),
            mtls=_with_port(mtls, self._ports.mtls) if mtls else None,
            admin_api=_with_port(admin_api, self._ports.admin_gateway) if admin_api else None,
        )

    def _prepare_certificates(self) -> None:
        ensure_key_file(self._state.identity / "kek")
        certificates.make_internal_ca(self._state.internal)
        names = [*LOOPBACK_NAMES, *self._policy.api.hosts]
        host = split(self._policy.listen.address)[0]
        if host not in ("0.0.0.0", "::", *names):  # noqa: S104  # compared, not bound
            names.append(host)
        certificates.make_development_ca(self._state.tls, names)

    def _write_identity_config(self, config: dict[str, Any]) -> Path:
        path = self._state.run / "identity.json"
        st.write_atomically(path, json.dumps(config, indent=1).encode())
        return path

    def _identity_part(self, config: dict[str, Any]) -> PartSpec:
        path = self._write_identity_config(config)
        return PartSpec(
            "authorization server",
            [sys.executable, "-m", "stockade.identity", str(path)],
            _environment(),
            drain_seconds=10,
        )

    def _make_identity_config(self, description: Description) -> dict[str, Any]:
        certificate, key = self._server_certificate()
        return identity_config(
            self._policy,
            self._state,
            scopes=scopes_of(description),
            scope_texts=scope_texts_of(description),
            certificate=certificate,
            key=key,
            public_address=self._policy.identity.listen,
            internal_address=f"127.0.0.1:{self._ports.internal}",
            admin_address=f"127.0.0.1:{self._ports.admin_upstream}",
        )

    def _gateway_part(self, config: dict[str, Any]) -> PartSpec:
        return self._part_of_a_gateway("gateway", self._state, self._sockets, config)

    def _admin_part(self, gate: AdminGate, config: dict[str, Any]) -> PartSpec:
        return self._part_of_a_gateway("admin gateway", gate.state, self._admin_sockets, config)

    def _part_of_a_gateway(
        self, name: str, state: StateFolder, sockets: list[socket.socket], config: dict[str, Any]
    ) -> PartSpec:
        path = state.run / "gateway.json"
        st.write_atomically(path, json.dumps(config, indent=1).encode())
        descriptors = tuple(one.fileno() for one in sockets)
        module = "stockade.enforcement.gateway_process"
        argv = [sys.executable, "-m", module, str(path), *map(str, descriptors)]
        return PartSpec(name, argv, _environment(), descriptors, drain_seconds=float(self._policy.listen.drain_seconds))

    def _admin_gate(self) -> AdminGate | None:
        """The gate before the administration API, where the policy asks for one."""
        address = _listens(self._policy.identity.admin_api)
        if address is None:
            return None
        return admin_gateway.admin_gate(self._policy, self._state, address, self._ports.admin_upstream)

    def _make_gateway_config(self, gate: AdminGate | None = None) -> dict[str, Any]:
        policy, state = (gate.policy, gate.state) if gate else (self._policy, self._state)
        own = policy.listen.tls.mode == "auto"
        certificate, key = self._server_certificate()
        places = Places(
            bundle=state.bundle,
            public_key=st.public_key_hex(st.signing_key(state)),
            certificate=certificate if own else None,
            key=key if own else None,
            events=state.events,
            admin_socket=state.run / "gateway.sock",
            authorization_server_url=f"https://127.0.0.1:{self._ports.internal}",
            internal_ca=self._state.internal / "ca.pem",
            internal_certificate=self._state.internal / "gateway.pem",
            internal_key=self._state.internal / "gateway.key",
        )
        return gateway_config(policy, places)

    def _server_certificate(self) -> tuple[Path, Path]:
        tls = self._policy.listen.tls
        if tls.certificate is not None and tls.key is not None:
            return tls.certificate.absolute(), tls.key.absolute()
        return self._state.tls / "server.pem", self._state.tls / "server.key"

    def _start_metrics(self) -> None:
        address = self._policy.metrics.address
        if address is not None:
            self._metrics = MetricsServer(address, self._admin, lambda: tuple(self._parts()))

    def _remark(self, part: str, line: str) -> None:
        self._say(f"{part}: {_plain(line)}")

    def _ready(self, status: dict[str, Any], seconds: float) -> Ready:
        scheme = "http" if self._policy.listen.tls.mode == "off" else "https"
        own = self._policy.listen.tls.mode != "files"
        return Ready(
            api_url=f"{scheme}://localhost:{self._ports.gateway}",
            issuer_url=self._policy.issuer,
            token_endpoint=f"{self._policy.issuer}/oauth2/token",
            ca_file=self._state.tls / "ca.pem" if own else None,
            state=self._state.root,
            serial=status["bundle"]["serial"],
            sha256=status["bundle"]["sha256"],
            operations=len(self._built.description.operations),
            self_check=status.get("self_check", {}),
            seconds=seconds,
            admin_api_url=f"{scheme}://localhost:{self._ports.admin_gateway}" if self._admin_gateway else None,
        )


def _take_ports(asked: Policy, gateway: int) -> Ports:
    mtls, admin_api = _listens(asked.identity.mtls), _listens(asked.identity.admin_api)
    return Ports(
        gateway=gateway,
        issuer=free_port(asked.identity.listen),
        internal=free_port("127.0.0.1:0"),
        mtls=free_port(mtls) if mtls else 0,
        admin_gateway=free_port(admin_api) if admin_api else 0,
        admin_upstream=free_port("127.0.0.1:0"),
    )


def _listens(section: MutualTls | AdminApi | None) -> str | None:
    return section.listen if section is not None else None


def _with_port(address: str, port: int) -> str:
    host = split(address)[0]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _plain(line: str) -> str:
    """A part's log line for a person: `{"level": "warning", "event": "a_b", "x": 1}` is `warning: a b (x=1)`."""
    try:
        entry = json.loads(line)
        level, event = entry.pop("level"), entry.pop("event")
    except (ValueError, TypeError, KeyError, AttributeError):
        return line
    fields = ", ".join(f"{key}={value}" for key, value in entry.items() if key not in ("time", "part"))
    said = str(event).replace("_", " ") + (f" ({fields})" if fields else "")
    return said if level == "info" else f"{level}: {said}"


def _environment() -> dict[str, str]:
    # Children import the same Stockade, however this one was found.
    environment = dict(os.environ)
    environment["PYTHONUNBUFFERED"] = "1"
    environment[SUPERVISOR] = str(os.getpid())
    with contextlib.suppress(KeyError):
        del environment["LISTEN_FDS"]
    return environment

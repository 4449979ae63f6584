"""uvicorn's HTTP/1.1 protocol with what a public listener needs and uvicorn leaves to a proxy in front of it.

Bounds on connections, on the head's size and on the time that head and body may take; and on the internal listener,
who may speak at all.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stockade.identity.observability import log

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.config import Config as UvicornConfig
    from uvicorn.server import ServerState

    from stockade.identity.config import Connections
    from stockade.identity.observability import Metrics

MAX_HEAD_BYTES = 16_384
MAX_HEADERS = 64


class Gatekeeper:
    """What connections may do, shared by the protocols of one listener."""

    def __init__(
        self,
        limits: Connections,
        metrics: Metrics,
        may_speak: Callable[[asyncio.Transport], bool] | None = None,
        describe: Callable[[asyncio.Transport], dict[str, Any]] | None = None,
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self._may_speak = may_speak
        self._describe = describe
        self._open: Counter[str] = Counter()

    def admit(self, transport: asyncio.Transport, address: str) -> str | None:
        """Count a new connection in. Returns why it may not stay, or None."""
        if self._may_speak is not None and not self._may_speak(transport):
            return "peer_not_allowed"
        if self._open.total() >= self.limits.max_connections:
            return "too_many_connections"
        if self._open[address] >= self.limits.max_per_address:
            return "too_many_connections_of_address"
        self._open[address] += 1
        return None

    def describe(self, transport: asyncio.Transport) -> dict[str, Any]:
        """What the application is told of the connection, in the ASGI state of its requests."""
        return self._describe(transport) if self._describe is not None else {}

    def leave(self, address: str) -> None:
        """Count a connection out."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]


def bounded_protocol(gatekeeper: Gatekeeper) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn's `http` setting."""

    class BoundedProtocol(_BoundedProtocol):
        def __init__(
            self, config: UvicornConfig, server_state: ServerState, app_state: dict[str, Any], **kw: Any
        ) -> None:
            super().__init__(config, server_state, app_state, **kw)
            self.gatekeeper = gatekeeper

    return BoundedProtocol


class _OneWrite:
    """A transport that sends an answer's head together with its body: one TLS record and one system call, not two.

    What is written first is held until more comes, the connection is closed, or the event loop's turn ends.
    """

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: bytes | None = None

    def write(self, data: bytes) -> None:
        if self._held is None:
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            held, self._held = self._held, None
            self._transport.write(held + data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._transport.write(held)


class _BoundedProtocol(HttpToolsProtocol):
    gatekeeper: Gatekeeper
    _address: str | None = None
    _deadline: asyncio.TimerHandle | None = None
    _reading_head = True
    _head_bytes = 0
    _fields_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        address = self.client[0] if self.client else ""
        refused = self.gatekeeper.admit(transport, address)
        if refused is not None:
            self.gatekeeper.metrics.count("connections_refused", reason=refused)
            log("warning", "connection_refused", reason=refused, address=address)
            transport.abort()
            return
        self.transport = _OneWrite(transport, self.loop)  # type: ignore[assignment]  # what uvicorn uses of it
        self._address = address
        self.app_state.update(self.gatekeeper.describe(transport))
        self._expect(self.gatekeeper.limits.head_timeout_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        if self._address is not None:
            self.gatekeeper.leave(self._address)
            self._address = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._address is None:
            return
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            # The first bytes after an answer; blank lines, say, would otherwise hold the connection for ever.
            self._expect(self.gatekeeper.limits.head_timeout_seconds)
        super().data_received(data)
        # A head that ends within this piece is measured by its fields; one that goes on, by the bytes so far.
        if self._reading_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._refuse("head_too_large")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading_head = True
        self._head_bytes = 0
        self._fields_bytes = 0
        self._expect(self.gatekeeper.limits.head_timeout_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._fields_bytes += len(name) + len(value)
        if len(self.headers) > MAX_HEADERS or len(self.url) + self._fields_bytes > MAX_HEAD_BYTES:
            # The parser turns it into its own error, which is answered 400.
            raise ValueError("head too large")

    def on_headers_complete(self) -> None:
        self._reading_head = False
        self._expect(self.gatekeeper.limits.body_timeout_seconds)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._expect(None)
        super().on_message_complete()

    def _expect(self, seconds: float | None) -> None:
        """Close the connection unless the next step comes in time."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self._refuse, "too_slow")

    def _refuse(self, reason: str) -> None:
        self.gatekeeper.metrics.count("connections_refused", reason=reason)
        self.transport.abort()

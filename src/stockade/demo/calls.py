"""What the demo sends and what it gets: calls, answers and the two places they go to.

A call is sent byte for byte the same to both places, but for who sends it: the API alone believes a header, the gate
wants a token.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import httptools
import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

Header = tuple[str, str]

TIMEOUT_SECONDS = 15.0
RAW_QUIET_SECONDS = 1.0
TOO_MANY_REQUESTS = 429
DIRECT_USER = "3"  # Mallory, who shops there


class Credentials(Protocol):
    """Where tokens come from. `client` is a label: one registered client each, with every scope of the description.

    A method that cannot deliver returns None; the attack is then shown as not run.
    """

    def access_token(self, scopes: tuple[str, ...], client: str) -> str:
        """Return a valid token with exactly these scopes."""

    def api_key(self) -> str:
        """Return a valid supplier's key."""

    def revoked_token(self, scopes: tuple[str, ...]) -> str | None:
        """Return a token that was revoked at least a second ago, so that the revocation must be in force."""

    def expired_token(self, scopes: tuple[str, ...]) -> str | None:
        """Return a token past its lifetime."""

    def foreign_token(self, scopes: tuple[str, ...]) -> str | None:
        """Return a token issued for another audience."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A legitimate identity with these scopes: the API alone is told a user, the gate gets a token."""

    scopes: tuple[str, ...]
    client: str = "shop-app"


@dataclass(frozen=True, slots=True)
class Call:
    """One request, or a burst of them: `burst` holds a body for each. `raw` replaces everything else, head and body."""

    method: str = "GET"
    target: str = "/"
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    caller: Caller | None = None
    burst: tuple[bytes, ...] = ()
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `status` 0: nothing, and `error` says how. `statuses` and `bodies` hold a burst's answers."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    statuses: tuple[int, ...] = ()
    bodies: tuple[bytes, ...] = ()
    error: str = ""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        """The body as JSON, or None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def event_id(self) -> str | None:
        """The id in the `instance` of a problem document (RFC 9457 §3.1.5), or None."""
        document = self.json
        instance = document.get("instance") if isinstance(document, dict) else None
        found = re.fullmatch(r"urn:uuid:([0-9a-fA-F-]{36})", instance) if isinstance(instance, str) else None
        return found[1] if found else None


class Place:
    """One of the two ends that a call goes to: the API alone, or the gate."""

    def __init__(self, url: str, credentials: Credentials, *, gate: bool, ca_file: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.credentials = credentials
        self.gate = gate
        self.memory: dict[str, Any] = {}
        self._tls = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else None
        self._client = httpx.Client(verify=self._tls or False, timeout=TIMEOUT_SECONDS, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @property
    def authority(self) -> str:
        """Host and port, as in a Host header."""
        return urlsplit(self.url).netloc

    def identity(self, caller: Caller | None) -> tuple[Header, ...]:
        """Return the header that says who calls, in this place's way."""
        if caller is None:
            return ()
        if self.gate:
            return (("Authorization", f"Bearer {self.credentials.access_token(caller.scopes, caller.client)}"),)
        return (("X-User-Id", DIRECT_USER),)

    def send(self, call: Call) -> Answer:
        """Send a call and return what comes back; a failing connection is an answer as well."""
        if call.raw:
            return self._send_raw(call.raw)
        if call.burst:
            return _together([self._send_one(call, body) for body in call.burst])
        return self._send_one(call, call.body)

    def _send_one(self, call: Call, body: bytes) -> Answer:
        headers = [("User-Agent", "stockade-demo"), *_with_identity(call.headers, self.identity(call.caller))]
        request = httpx.Request(call.method, self.url, headers=headers, content=body)
        request.extensions["target"] = call.target.encode("ascii")
        try:
            answer = self._client.send(request)
        except httpx.TransportError as error:
            return Answer(0, error=type(error).__name__)
        return Answer(answer.status_code, dict(answer.headers), answer.content, (answer.status_code,))

    def _send_raw(self, raw: bytes) -> Answer:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or 443
        received = b""
        try:
            with socket.create_connection((host, port), TIMEOUT_SECONDS) as plain:
                connection = self._tls.wrap_socket(plain, server_hostname=host) if self._tls else plain
                connection.sendall(raw)
                connection.settimeout(RAW_QUIET_SECONDS)
                while chunk := connection.recv(65536):
                    received += chunk
        except TimeoutError:
            pass
        except OSError as error:
            if not received:
                return Answer(0, error=type(error).__name__)
        return parse_answers(received)


def _with_identity(headers: tuple[Header, ...], identity: tuple[Header, ...]) -> list[Header]:
    """Put the identity first; a header of the call with the same name as the API's own one replaces it."""
    named = {name.lower() for name, _ in headers}
    return [*(pair for pair in identity if pair[0] == "Authorization" or pair[0].lower() not in named), *headers]


def _together(answers: list[Answer]) -> Answer:
    """Return the first 429 of a burst, else its last answer, with the statuses of all."""
    shown = next((answer for answer in answers if answer.status == TOO_MANY_REQUESTS), answers[-1])
    statuses = tuple(answer.status for answer in answers)
    return replace(shown, statuses=statuses, bodies=tuple(answer.body for answer in answers))


class _Collector:
    """Callbacks of httptools: gathers the answers in a stream of bytes."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body = b""

    def on_message_begin(self) -> None:
        self._headers, self._body = {}, b""

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.answers.append((self.parser.get_status_code(), self._headers, self._body))


def parse_answers(received: bytes) -> Answer:
    """Read all HTTP/1.1 answers in `received`; the first one is the answer, all are in `statuses` and `bodies`."""
    collector = _Collector()
    with contextlib.suppress(httptools.HttpParserError):  # what came before a broken part has been collected
        collector.parser.feed_data(received)
    if not collector.answers:
        return Answer(0, error="closed without an answer")
    status, headers, body = collector.answers[0]
    statuses = tuple(answer[0] for answer in collector.answers)
    return Answer(status, headers, body, statuses, tuple(answer[2] for answer in collector.answers))

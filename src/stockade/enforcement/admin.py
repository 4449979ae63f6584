"""Client of the gateway's admin interface: HTTP on a Unix socket with owner-only access (docs/contracts.md §5)."""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stockade.errors import BundleError, SupervisionError

if TYPE_CHECKING:
    from pathlib import Path

OK = 200
ACCEPTED = 202


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("gateway", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True, slots=True)
class GatewayAdmin:
    """Blocking calls; each raises SupervisionError when the gateway does not answer."""

    socket_path: Path
    timeout_seconds: float = 30.0

    def status(self) -> dict[str, Any]:
        """`GET /status`."""
        status, body = self._call("GET", "/status")
        if status != OK:
            raise SupervisionError(f"the gateway answered {status} to a status request")
        parsed: dict[str, Any] = json.loads(body)
        return parsed

    def metrics(self) -> str:
        """`GET /metrics`: OpenMetrics text."""
        return self._call("GET", "/metrics")[1].decode()

    def swap_bundle(self, path: Path) -> dict[str, Any]:
        """Put the bundle at `path` in force. Raises BundleError with the gateway's reason; then nothing has changed."""
        status, body = self._call("POST", "/bundle", {"path": str(path)})
        answer: dict[str, Any] = json.loads(body)
        if status != OK:
            raise BundleError(f"the gateway refused the bundle: {answer.get('error', status)}")
        return answer

    def reload_certificates(self) -> None:
        """Read certificate and key files anew. Raises SupervisionError when they are refused."""
        status, body = self._call("POST", "/certificates")
        if status != OK:
            raise SupervisionError(f"the gateway refused the certificates: {body.decode('utf-8', 'replace')}")

    def _call(self, method: str, target: str, payload: dict[str, Any] | None = None) -> tuple[int, bytes]:
        connection = _UnixConnection(self.socket_path, self.timeout_seconds)
        try:
            body = json.dumps(payload).encode() if payload is not None else None
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise SupervisionError(
                f"the gateway's admin socket `{self.socket_path}` does not answer: {error}",
                hint="is `stockade up` running on this state folder?",
            ) from error
        finally:
            connection.close()

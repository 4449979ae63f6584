"""Reads `vectors/` (format: vectors/README.md) for whatever mount runs them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[3] / "vectors"
NOW = 1764018000


@dataclass(frozen=True, slots=True)
class VectorFile:
    """One file of vectors. `payload` is the bundle's, as bytes."""

    name: str
    payload: bytes
    credentials: dict[str, dict[str, Any]]
    cases: list[dict[str, Any]]

    def secrets(self, text: str) -> str:
        """Put the credentials' secrets where `{name}` stands."""
        for name, credential in self.credentials.items():
            text = text.replace("{" + name + "}", credential["secret"])
        return text

    def headers(self, request: dict[str, Any]) -> list[tuple[str, str]]:
        """The request's fields with what the format adds."""
        headers = [(name, self.secrets(value)) for name, value in request.get("headers", [])]
        names = {name.lower() for name, _ in headers}
        if "host" not in names and not request.get("no_host"):
            headers.append(("Host", "api.example"))
        if "as" in request:
            headers.append(("Authorization", f"Bearer {self.credentials[request['as']]['secret']}"))
        if "body" in request and not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(body(request)))))
        return headers


def body(message: dict[str, Any]) -> bytes:
    """The message's body as bytes; empty where there is none."""
    found = message.get("body", "")
    return found.encode() if isinstance(found, str) else base64.b64decode(found["base64"])


def response_headers(response: dict[str, Any]) -> list[tuple[str, str]]:
    """The response's fields with what the format adds."""
    headers = [(name, value) for name, value in response.get("headers", [])]
    bodiless = response["status"] < 200 or response["status"] in (204, 304)
    if not bodiless and not any(name.lower() == "content-length" for name, _ in headers):
        headers.append(("Content-Length", str(len(body(response)))))
    return headers


def load() -> list[VectorFile]:
    """Read every file, by name."""
    files = []
    for path in sorted(FOLDER.glob("*.json")):
        text = json.loads(path.read_text(encoding="utf-8"))
        payload = json.dumps(text["payload"], ensure_ascii=False).encode()
        files.append(VectorFile(path.stem, payload, text["credentials"], text["cases"]))
    return files


def holds(expected: Any, found: Any) -> bool:
    """Whether all that `expected` says is so; objects are compared member by member."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(holds(value, found.get(key)) for key, value in expected.items())
    return bool(expected == found)

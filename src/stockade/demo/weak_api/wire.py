"""What the shop believes of a request: everything.

Paths are decoded, folded and tidied until they match a route, methods and paths can be overridden by headers, bodies
are read whatever they claim to be, and the caller is whoever the request says it is.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus, unquote_to_bytes

from starlette.responses import PlainTextResponse, Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OVERRIDES = (b"x-http-method-override", b"x-http-method", b"x-method-override")
REWRITES = (b"x-original-url", b"x-rewrite-url")


class InsecureHttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 with llhttp's leniencies on: what old servers do, and what "insecure parser" switches bring back."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_transfer_encoding=True,
            lenient_version=True,
            lenient_data_after_close=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )


class TrustingFrontDoor:
    """ASGI middleware: rewrites path and method as the request asks, and tells every origin that it is welcome."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, as it asks to be seen."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = [(name.replace(b"_", b"-"), value) for name, value in scope["headers"]]
        known = dict(headers)
        path = next((known[name] for name in REWRITES if name in known), scope["raw_path"])
        method = next((known[name] for name in OVERRIDES if name in known), scope["method"].encode())
        method = dict(parse_qsl(scope["query_string"])).get(b"_method", method)
        scope = {**scope, "headers": headers, "path": tidy_path(path), "method": method.decode("latin-1").upper()}
        app = _preliminary_answer(scope) or self.app
        await app(scope, receive, _welcoming(known.get(b"origin"), send))


def tidy_path(raw: bytes) -> str:
    """Make something routable of any path: `//Internal%252Fdebug;x/` and friends all become `/internal/debug`."""
    text = raw.partition(b"?")[0]
    for _ in range(2):
        text = unquote_to_bytes(text)
    path = re.sub(r";[^/]*", "", text.decode("utf-8", "replace").replace("\\", "/")).lower()
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept)


def _preliminary_answer(scope: Scope) -> Response | None:
    headers = b"\r\n".join(b"%b: %b" % pair for pair in scope["headers"])
    if scope["method"] == "TRACE":
        return Response(b"TRACE %b\r\n%b" % (scope["raw_path"], headers), media_type="message/http")
    return PlainTextResponse("welcome") if scope["method"] == "OPTIONS" else None


def _welcoming(origin: bytes | None, send: Send) -> Send:
    async def send_with_cors(message: Message) -> None:
        if origin and message["type"] == "http.response.start":
            cors = [(b"access-control-allow-origin", origin), (b"access-control-allow-credentials", b"true")]
            cors.append((b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE"))
            message = {**message, "headers": [*message.get("headers", []), *cors]}
        await send(message)

    return send_with_cors


def claimed_identity(request: Request) -> tuple[str, str] | None:
    """Return ("user", id) or ("subject", sub) as the request claims, or None. Nothing is verified."""
    if user_ids := request.headers.getlist("x-user-id"):
        return ("user", user_ids[-1])
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or token.count(".") != 2:  # noqa: PLR2004 - the dots of a JWT
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        return ("user", str(claims["user_id"])) if "user_id" in claims else ("subject", str(claims["sub"]))
    except (ValueError, KeyError, TypeError):
        return None


async def read_payload(request: Request) -> Any:
    """Return the body as JSON or form fields: any size, any charset, compressed or not, whatever type it claims."""
    raw = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        raw = gzip.decompress(raw)
    claimed = request.headers.get("content-type", "")
    charset = re.search(r"charset=([\w-]+)", claimed)
    text = raw.decode(charset[1] if charset else "utf-8", "replace")
    if claimed.startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(text))
    return json.loads(text)


def own_name(request: Request) -> str:
    """Return the host name to write into links: the one that the request names."""
    hosts = request.headers.getlist("x-forwarded-host") or request.headers.getlist("host")
    return hosts[-1]


def decoded_twice(value: str) -> str:
    """Decode a query value once more, because some client once sent it encoded twice."""
    return unquote_plus(value)

"""Static files. Their names hold a digest of their content, so a browser may keep them for ever."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).with_name("static")
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_HEADERS = {
    "Cache-Control": "public, max-age=31536000, immutable",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def asset_path(name: str) -> str:
    """Where a file of static/ stands, below the issuer's path. Raises KeyError for what is not there."""
    return _names()[name]


def asset(path: str) -> Response | None:
    """The file that stands under this very path."""
    found = _contents().get(path)
    if found is None:
        return None
    content, media_type = found
    return Response(content, headers={**_HEADERS, "Content-Type": media_type})


@lru_cache(maxsize=1)
def _names() -> Mapping[str, str]:
    names = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in _TYPES:
            digest = urlsafe_b64encode(sha256(path.read_bytes()).digest()[:9]).decode()
            names[path.name] = f"/static/{path.stem}.{digest}{path.suffix}"
    return names


@lru_cache(maxsize=1)
def _contents() -> Mapping[str, tuple[bytes, str]]:
    return {path: ((FOLDER / name).read_bytes(), _TYPES[Path(name).suffix]) for name, path in _names().items()}

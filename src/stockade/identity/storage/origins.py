"""Where applications that run in browsers are at home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from stockade.identity.storage.clients import AuthMethod, read_metadata
from stockade.identity.storage.schema import clients

if TYPE_CHECKING:
    from sqlalchemy import Connection


def public_redirect_uris(connection: Connection) -> list[str]:
    """The redirect URIs of all public clients that are enabled."""
    rows = connection.execute(
        select(clients.c.metadata).where(
            clients.c.auth_method == AuthMethod.NONE.value, clients.c.disabled_at.is_(None)
        )
    ).scalars()
    return [uri for text in rows for uri in read_metadata(text).redirect_uris]

"""Refresh tokens: made here, stored as digests; and the seal under which a used one keeps its successor."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.keys.seal import Seal
from stockade.identity.storage.refresh_tokens import RefreshRow

if TYPE_CHECKING:
    from stockade.identity.binding import Binding
    from stockade.identity.config import Config
    from stockade.identity.storage.clients import ClientRecord
    from stockade.identity.storage.tokens import Authorization

_BOUND_TO = "refresh token successor"


@dataclass(frozen=True, slots=True)
class MadeRefreshToken:
    """A refresh token that is not stored yet. The text is shown once and kept out of the repr."""

    refresh_token: str = field(repr=False)
    row: RefreshRow


def make_refresh_token(
    config: Config,
    client: ClientRecord,
    authorization: Authorization,
    scopes: tuple[str, ...],
    audience: str,
    binding: Binding | None,
    grant_expires_at: int,
    now: int,
) -> MadeRefreshToken:
    """The first one of a grant that a user gave. It lives until it idles too long, and never longer than the grant."""
    who = authorization
    if who.user_id is None or who.user_generation is None or who.grant_id is None or who.auth_time is None:
        raise ValueError("a refresh token stands on a user's grant")
    text = generate(Kind.REFRESH_TOKEN)
    row = RefreshRow(
        digest=digest(text),
        grant_id=who.grant_id,
        client_id=client.client_id,
        client_generation=client.generation,
        user_id=who.user_id,
        user_generation=who.user_generation,
        session_id=who.session_id,
        scopes=scopes,
        audience=audience,
        binding=binding,
        auth_time=who.auth_time,
        acr=who.acr or "",
        amr=who.amr,
        issued_at=now,
        expires_at=expiry(config, grant_expires_at, now),
    )
    return MadeRefreshToken(text, row)


def make_successor(config: Config, row: RefreshRow, grant_expires_at: int, now: int) -> MadeRefreshToken:
    """The next one of the family: the same in all but name and time."""
    text = generate(Kind.REFRESH_TOKEN)
    expires_at = expiry(config, grant_expires_at, now)
    return MadeRefreshToken(text, replace(row, digest=digest(text), issued_at=now, expires_at=expires_at))


def expiry(config: Config, grant_expires_at: int, now: int) -> int:
    """When a token that is used now will have idled too long."""
    return min(grant_expires_at, now + config.refresh.idle_seconds)


def seal_successor(refresh_token: str, successor: str) -> bytes:
    """Close the successor so that only who has the token itself can open it: the database alone gives nothing."""
    return _seal(refresh_token).close(successor.encode(), _BOUND_TO)


def open_successor(refresh_token: str, sealed: bytes) -> str:
    """The inverse. Raises ValueError."""
    return _seal(refresh_token).open(sealed, _BOUND_TO).decode()


def _seal(refresh_token: str) -> Seal:
    """RFC 5869. The token is 256 random bits, so no salt is needed."""
    return Seal(HKDF(SHA256(), 32, salt=None, info=b"stockade refresh successor").derive(refresh_token.encode()))

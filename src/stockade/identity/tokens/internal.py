"""The internal token: a short-lived RFC 9068 `at+jwt` for the upstream alone, in place of the client's credential."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stockade.identity.config import Config
    from stockade.identity.keys.keyring import Keyring
    from stockade.identity.tokens.verified import VerifiedCredential


@dataclass(frozen=True, slots=True)
class InternalToken:
    """The signed token, kept out of the repr, and its `exp`."""

    text: str = field(repr=False)
    exp: int

    def as_json(self) -> dict[str, Any]:
        """Its part of the introspection answer."""
        return {"internal_token": self.text, "internal_token_exp": self.exp}


def mint_internal_token(
    keyring: Keyring, config: Config, verified: VerifiedCredential, now: float, operation: str | None = None
) -> InternalToken:
    """Sign who calls and for what (RFC 9068 §2.2). It never outlives the credential it stands for.

    `operation` (`GET /orders/{id}`) binds it to that operation alone, for seconds.
    """
    issued_at = int(now)
    lifetimes = config.lifetimes
    exp = issued_at + (lifetimes.internal_token_seconds if operation is None else lifetimes.operation_token_seconds)
    if verified.exp is not None:
        exp = min(exp, verified.exp)
    claims = {
        "iss": config.issuer,
        "aud": config.internal_audience,
        "sub": verified.sub,
        "client_id": verified.client_id,
        "scope": " ".join(verified.scopes),
        "iat": issued_at,
        "exp": exp,
        "jti": secrets.token_urlsafe(16),
    }
    if operation is not None:
        claims["operation"] = operation
    return InternalToken(keyring.sign(claims, "at+jwt"), exp)

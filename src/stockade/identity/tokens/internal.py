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
        # Of the administration API its own: what another upstream was handed must not open it.
        "aud": verified.aud if verified.aud == config.admin_audience else config.internal_audience,
        "sub": verified.sub,
        "client_id": verified.client_id,
        "scope": " ".join(verified.scopes),
        "iat": issued_at,
        "exp": exp,
        "jti": secrets.token_urlsafe(16),
        **_authentication(verified),
    }
    if operation is not None:
        claims["operation"] = operation
    return InternalToken(keyring.sign(claims, "at+jwt"), exp)


def _authentication(verified: VerifiedCredential) -> dict[str, Any]:
    """RFC 9068 §2.2.1: how the person signed in, where there is one."""
    who = verified.authorization
    known = {"auth_time": who.auth_time, "acr": who.acr, "amr": list(who.amr) or None}
    return {name: value for name, value in known.items() if value is not None}

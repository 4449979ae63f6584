"""The signed introspection answer (RFC 9701): what the server said of a token, to whom, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stockade.identity.keys.keyring import Keyring

# RFC 9701 §8.1: its own `typ`, so that it cannot pass for an access token.
TYPE = "token-introspection+jwt"
MEDIA_TYPE = "application/token-introspection+jwt"


def sign_introspection(keyring: Keyring, issuer: str, client_id: str, answer: Mapping[str, Any], now: float) -> str:
    """Sign the answer for the resource server that asked (RFC 9701 §5).

    It has no `sub`, `exp`, `scope` or `client_id` of its own: those stand within `token_introspection` only, so a
    reader that forgets to look at `typ` finds nothing that it could take for authority.
    """
    claims = {"iss": issuer, "aud": client_id, "iat": int(now), "token_introspection": dict(answer)}
    return keyring.sign(claims, TYPE)

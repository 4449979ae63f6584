"""What is known of a credential once it is believed, whoever issued it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from stockade.identity.storage.tokens import NOBODY, Authorization

if TYPE_CHECKING:
    from stockade.identity.binding import Binding


@dataclass(frozen=True, slots=True)
class VerifiedCredential:
    """Claims of RFC 7662 §2.2. `exp` is None for an API key that does not expire; times are NumericDate."""

    client_id: str
    sub: str
    scopes: tuple[str, ...]
    iss: str
    aud: str
    iat: int | None
    exp: int | None
    jti: str
    token_type: Literal["Bearer", "DPoP", "api_key"]
    binding: Binding | None = None
    authorization: Authorization = NOBODY

    def as_json(self) -> dict[str, Any]:
        """The introspection answer of docs/contracts.md §3, without the internal token."""
        who = self.authorization
        known: dict[str, Any] = {
            "auth_time": who.auth_time,
            "acr": who.acr,
            "amr": list(who.amr) or None,
            "sid": who.session_id,
            "grant_id": who.grant_id,
            "act": who.act,
            "cnf": self.binding.cnf if self.binding else None,
        }
        return {name: value for name, value in known.items() if value is not None} | {
            "active": True,
            "client_id": self.client_id,
            "sub": self.sub,
            "scope": " ".join(self.scopes),
            "iss": self.iss,
            "aud": self.aud,
            "iat": self.iat,
            "exp": self.exp,
            "jti": self.jti,
            "token_type": self.token_type,
        }

"""What is known of a credential once it is believed, whoever issued it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


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
    token_type: Literal["Bearer", "api_key"]

    def as_json(self) -> dict[str, Any]:
        """The introspection answer of docs/contracts.md §3, without the internal token."""
        return {
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

"""`none`: a public client says who it is and proves nothing (RFC 6749 §2.1, §3.2.1; RFC 7591 §2).

What it may do is small: it has no grant of its own, its codes need PKCE, its refresh tokens are bound or rotated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.identity.storage.clients import AuthMethod

if TYPE_CHECKING:
    from stockade.identity.storage.clients import ClientRecord


@dataclass(frozen=True, slots=True)
class PublicClaim:
    """A `client_id` that came alone."""

    client_id: str
    method = AuthMethod.NONE

    def proves(self, client: ClientRecord | None) -> bool:
        """A confidential client must prove who it is, whatever is asked for."""
        return client is not None and client.auth_method is self.method

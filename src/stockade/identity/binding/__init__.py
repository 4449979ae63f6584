"""What a token is bound to: a key (RFC 9449) or a client certificate (RFC 8705).

The proof is checked at the edge of an endpoint (dpop.py, mtls.py); from there on only the thumbprint travels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BindingKind = Literal["jkt", "x5t#S256"]


@dataclass(frozen=True, slots=True)
class Binding:
    """`thumbprint` is base64url of SHA-256: of the JWK (RFC 7638) or of the certificate's DER."""

    kind: BindingKind
    thumbprint: str

    @property
    def stored(self) -> str:
        """As the column `binding` has it."""
        return f"{self.kind}:{self.thumbprint}"

    @property
    def cnf(self) -> dict[str, str]:
        """The confirmation claim (RFC 7800 §3.1)."""
        return {self.kind: self.thumbprint}

    @property
    def token_type(self) -> Literal["DPoP", "Bearer"]:
        """RFC 9449 §5; a certificate-bound token is of type Bearer (RFC 8705 §3)."""
        return "DPoP" if self.kind == "jkt" else "Bearer"


def read_binding(stored: str | None) -> Binding | None:
    """The inverse of `stored`. Raises ValueError for what nothing of ours wrote."""
    if stored is None:
        return None
    kind, _, thumbprint = stored.rpartition(":")
    if kind == "jkt":
        return Binding("jkt", thumbprint)
    if kind == "x5t#S256":
        return Binding("x5t#S256", thumbprint)
    raise ValueError("the database holds a binding of an unknown kind")

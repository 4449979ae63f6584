"""What a grant works with: the token request after client and key have been proved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stockade.identity.binding import Binding
    from stockade.identity.endpoints.form import Form
    from stockade.identity.storage.clients import ClientRecord


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """`binding` is what the caller proved to hold in this very request, None where it proved nothing."""

    client: ClientRecord
    form: Form
    binding: Binding | None
    # Of the caller, for the audit log.
    address: str

"""How many authorization requests one address may leave with us: each is a row until it is answered or expires.

Anybody can begin one, so the bound is by address (a /64 of IPv6) alone. It is wide: a whole office behind one address
signs in on a Monday morning.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from stockade.identity.client_auth.throttle import Throttle
from stockade.identity.config import Throttling
from stockade.identity.errors import OAuthError

if TYPE_CHECKING:
    from starlette.requests import Request

    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

BURST = 300
_SECONDS_EACH = 0.2
_BEGINNINGS = Throttle(
    Throttling(
        client_burst=BURST, client_seconds_each=_SECONDS_EACH, address_burst=BURST, address_seconds_each=_SECONDS_EACH
    )
)


def take_one(services: Services, request: Request, client: ClientRecord) -> None:
    """Count one more. Raises `temporarily_unavailable` (429) where there were too many."""
    attempt = _BEGINNINGS.attempt(request.client.host if request.client else "", client.client_id)
    if (wait := attempt.refused_for()) is not None:
        services.metrics.count("authorizations", result="too_many")
        headers = {"Retry-After": str(math.ceil(wait))}
        raise OAuthError("temporarily_unavailable", "too many requests; try again later", 429, headers)
    attempt.failed()

"""The small endpoints of the internal listener: revocations (docs/contracts.md §3), health, metrics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response

from stockade.identity.endpoints.guard import private_json
from stockade.identity.errors import invalid_request
from stockade.identity.storage.revocations import read_head

if TYPE_CHECKING:
    from starlette.requests import Request

    from stockade.identity.services import Services

MAX_WAIT_SECONDS = 60.0
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,6})?")


async def revocations(services: Services, request: Request) -> Response:
    """Long poll: at once when there is something newer than `after`, else after `wait` seconds."""
    after = int(_number(request, "after"))
    wait = min(_number(request, "wait"), MAX_WAIT_SECONDS)
    news = await services.feed.wait(after, request.query_params.get("epoch", ""), wait)
    return private_json(news.as_json(services.clock()))


async def health(services: Services, _request: Request) -> Response:
    """200 only when a credential could be verified now: the keys are usable and the database answers."""
    services.usable_keyring()
    await services.lanes.read(read_head)
    return private_json({"status": "ok"})


async def metrics(services: Services, _request: Request) -> Response:
    """OpenMetrics text."""
    services.metrics.set("revocation_waiters", services.feed.waiters)
    content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return Response(services.metrics.render(), headers={"Content-Type": content_type, "Cache-Control": "no-store"})


def _number(request: Request, name: str) -> float:
    values = request.query_params.getlist(name)
    if not values:
        return 0
    if len(values) > 1 or not _NUMBER.fullmatch(values[0]):
        raise invalid_request(f"`{name}` must be one number")
    return float(values[0])

"""The security events of one's own account."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from stockade.identity.pages.naming import client_name
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.schema import audit_events

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row
    from starlette.responses import Response

    from stockade.identity.pages.visit import Visit
    from stockade.identity.storage.clients import ClientRecord

NEWEST = 50


@dataclass(frozen=True, slots=True)
class Event:
    """What a person sees of a row of the audit record."""

    time: float
    text: str
    address: str | None
    about: str


async def show(visit: Visit) -> Response:
    """The newest first."""
    user_id = visit.here().user.user_id

    def work(connection: Connection) -> list[Event]:
        statement = (
            select(audit_events)
            .where(audit_events.c.user_id == user_id)
            .order_by(audit_events.c.sequence.desc())
            .limit(NEWEST)
        )
        return [_event(connection, visit, row) for row in connection.execute(statement).all()]

    events = await visit.services.lanes.read(work)
    return visit.account("account_activity.html", "activity", events=events)


def _about(visit: Visit, client: ClientRecord | None, factor: str) -> str:
    if client is not None:
        return client_name(client)
    return visit.locale.text(factor) if visit.locale.known(factor) else ""


def _event(connection: Connection, visit: Visit, row: Row[tuple[object, ...]]) -> Event:
    key = f"event.{row.kind.replace('.', '_')}"
    factor = f"factor.{json.loads(row.detail).get('factor')}"
    client = find_client(connection, row.client_id, visit.services.clock()) if row.client_id else None
    return Event(
        time=row.time,
        text=visit.locale.text(key if visit.locale.known(key) else "activity.other"),
        address=row.address,
        about=_about(visit, client, factor),
    )

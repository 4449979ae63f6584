"""The apps that a person has allowed something, and taking it away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.pages.naming import client_name, scope_texts
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.consents import forget_consent, list_consents
from stockade.identity.storage.grants import list_grants, revoke_grants_of

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.responses import Response

    from stockade.identity.pages.naming import ScopeText
    from stockade.identity.pages.visit import Visit


@dataclass(frozen=True, slots=True)
class App:
    """`since`: of the oldest access that still holds; None where only the consent is remembered."""

    client_id: str
    name: str
    scopes: list[ScopeText]
    since: int | None


async def show(visit: Visit) -> Response:
    """By name. What is remembered and what is in use are one list: taking away ends both."""
    user_id, now = visit.here().user.user_id, visit.services.clock()

    def work(connection: Connection) -> list[App]:
        consents, grants = list_consents(connection, user_id), list_grants(connection, user_id, now)
        apps = []
        for client_id in {*consents, *(grant.client_id for grant in grants)}:
            mine = [grant for grant in grants if grant.client_id == client_id]
            client = find_client(connection, client_id, now)
            scopes = dict.fromkeys([*consents.get(client_id, ()), *(scope for grant in mine for scope in grant.scopes)])
            apps.append(
                App(
                    client_id=client_id,
                    name=client_name(client) if client else client_id,
                    scopes=scope_texts(visit.services, visit.locale, scopes),
                    since=min((grant.created_at for grant in mine), default=None),
                )
            )
        return sorted(apps, key=lambda app: (app.name.casefold(), app.client_id))

    return visit.account("account_apps.html", "apps", apps=await visit.services.lanes.read(work))


async def revoke(visit: Visit) -> Response:
    """Forget the consent and revoke all grants, with their tokens: gateways hear of it at once."""
    session, now = visit.here(), visit.services.clock()
    user_id, client_id = session.user.user_id, visit.form.optional("client") or ""

    def work(connection: Connection) -> None:
        known = client_id in list_consents(connection, user_id)
        forget_consent(connection, user_id, client_id)
        if revoke_grants_of(connection, user_id, client_id, now) or known:
            event = AuditEvent("consent.revoked", user_id, client_id, session.session_id, visit.address)
            audit.record(connection, event, now)

    await visit.services.lanes.write(work)
    visit.services.feed.announce()
    return visit.see_other("/account/apps", done="app_revoked")

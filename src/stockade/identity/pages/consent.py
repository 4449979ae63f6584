"""Consent: what a client asks for, in words, and the person's answer (RFC 6749 §10.2, RFC 8628 §3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stockade.identity.device import decide as decide_device
from stockade.identity.interactions import Decision, DeviceRequest, Step, consented, continue_url, finish, next_step
from stockade.identity.pages.errors import PageError, interaction_gone
from stockade.identity.pages.naming import client_name, destination, scope_texts, unverified

if TYPE_CHECKING:
    from starlette.responses import Response

    from stockade.identity.interactions import Interaction
    from stockade.identity.pages.visit import Visit

_DECISIONS = {"allow": Decision.ALLOWED, "deny": Decision.REFUSED}


async def show(visit: Visit) -> Response:
    """Ask, unless something else comes first or nothing is left to ask."""
    interaction = _interaction(visit)
    before = await consented(visit.services, interaction.client, visit.session)
    if next_step(interaction, visit.session, before, visit.services.clock()) is not Step.CONSENT:
        return visit.see_other("/oauth2/authorize/continue")
    request, client = interaction.request, interaction.client
    return visit.page(
        "device_confirm.html" if isinstance(request, DeviceRequest) else "consent.html",
        client=client_name(client),
        unverified=unverified(client),
        scopes=scope_texts(visit.services, visit.locale, request.scopes, before),
        stays="offline_access" in request.scopes,
        destination=destination(request, visit.locale),
        home=client.metadata.client_uri,
        policy=client.metadata.policy_uri,
        tos=client.metadata.tos_uri,
    )


async def decide(visit: Visit) -> Response:
    """Record the answer. Only who would be asked now may answer: the same conditions hold as for asking."""
    interaction = _interaction(visit)
    decision = _DECISIONS.get(visit.form.optional("decision") or "")
    if decision is None:
        raise PageError("bad_request")
    before = await consented(visit.services, interaction.client, visit.session)
    if next_step(interaction, visit.session, before, visit.services.clock()) is Step.CONSENT:
        record = decide_device if isinstance(interaction.request, DeviceRequest) else finish
        await record(visit.services, interaction, visit.here(), decision, visit.address)
    return visit.onward(continue_url(visit.services, interaction.secret))


def _interaction(visit: Visit) -> Interaction:
    if visit.interaction is None:
        raise interaction_gone()
    return visit.interaction

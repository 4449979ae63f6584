"""One authorization (or device) request on its way through sign-in, second factor and consent.

The seam between `endpoints` and `pages`: an endpoint starts an interaction and sends the browser to a page; the page
does its one step and sends it back to `continue_url`, where `next_step` says what is left to ask. Pages never see a
code, nor where the browser will go in the end.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from stockade.identity.audit import AuditEvent, record
from stockade.identity.errors import OAuthError
from stockade.identity.people.assurance import satisfies, weakest
from stockade.identity.storage import interactions as table
from stockade.identity.storage.clients import find_client
from stockade.identity.storage.consents import find_consent, remember_consent

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection

    from stockade.identity.browser import Browser
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services
    from stockade.identity.storage.clients import ClientRecord

SECONDS = 600


class Step(StrEnum):
    """What a page must ask next; the value is the page's path below the issuer."""

    SIGN_IN = "/sign-in"
    SECOND_FACTOR = "/sign-in/second-factor"
    CONSENT = "/consent"


class Decision(StrEnum):
    """What the user said. `UNMET`: the assurance that is needed cannot be had from this user (RFC 9470 §5)."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    UNMET = "unmet"


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request to `/oauth2/authorize`, checked: nothing in it needs another look.

    `acr_values` are known ones only, in the client's order; any of them will do. `pushed` is the digest (hex) of the
    `request_uri` that it came by, spent with the answer.
    """

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    audience: str
    code_challenge: str
    state: str | None = None
    nonce: str | None = None
    response_mode: str = "query"
    prompt: frozenset[str] = frozenset()
    max_age: int | None = None
    acr_values: tuple[str, ...] = ()
    login_hint: str | None = None
    ui_locales: tuple[str, ...] = ()
    dpop_jkt: str | None = None
    pushed: str | None = None
    # Who it must be: of `id_token_hint`, or `sub` of the `claims` parameter.
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What a device asks for (RFC 8628), once the user has typed its code. `device` is the row's digest (hex)."""

    client_id: str
    scopes: tuple[str, ...]
    audience: str
    device: str
    acr_values: tuple[str, ...] = ()
    # Signed in and consented in this very interaction: what a stranger sends one to type must be looked at.
    prompt: frozenset[str] = frozenset({"consent"})
    max_age: int | None = None
    login_hint: str | None = None
    ui_locales: tuple[str, ...] = ()
    subject: str | None = None


AnyRequest = AuthorizationRequest | DeviceRequest


@dataclass(frozen=True, slots=True)
class Interaction:
    """`step` is what was found missing last. `decided_by` is the user whose `decision` it is."""

    request: AnyRequest
    client: ClientRecord
    step: Step
    started_at: int
    # The sign-in that the browser had when it came.
    sign_in_before: str | None
    decision: Decision | None = None
    decided_by: str | None = None
    # Who the user said to go on as (`prompt=select_account`).
    chosen: str | None = None
    secret: str = field(default="", repr=False)

    @property
    def needed_acr(self) -> str | None:
        """The weakest assurance that will do; None where any will."""
        return weakest(self.request.acr_values)

    @property
    def reauthenticate(self) -> bool:
        """Whether a session that is there may not be enough: ask for a factor again, whoever is signed in."""
        return "login" in self.request.prompt or self.request.max_age is not None

    @property
    def select_account(self) -> bool:
        """Whether to show who is signed in and let the user go on as that (`choose`) or sign in as another."""
        return "select_account" in self.request.prompt


def csp_source(uri: str) -> str:
    """The origin of an http(s) URI, the bare scheme of another (CSP3 §2.3.1)."""
    parts = urlsplit(uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"{parts.scheme}:"


def page_url(services: Services, step: Step, secret: str) -> str:
    """Where a page asks for a step."""
    return f"{services.config.issuer}{step.value}?i={secret}"


def continue_url(services: Services, secret: str) -> str:
    """Where a page sends the browser after its step."""
    return f"{services.config.issuer}/oauth2/authorize/continue?i={secret}"


def next_step(
    interaction: Interaction, session: Session | None, consented: Collection[str], now: float
) -> Step | OAuthError | None:
    """What is left to ask, None where nothing is. Pure: everything it depends on is an argument.

    OIDC Core §3.1.2.3: with `prompt=none` nothing may be asked, and what would have to be is the error. `consented` is
    what this user has allowed this client before.
    """
    step = _missing(interaction, session, consented, now)
    if "none" not in interaction.request.prompt or not isinstance(step, Step):
        return step
    return _UNASKED[step]


_ENDED_BY = {
    Decision.REFUSED: OAuthError("access_denied", "the user refused"),
    Decision.UNMET: OAuthError("unmet_authentication_requirements", "the user cannot sign in as strongly as is needed"),
}
_ANOTHER_USER = OAuthError("login_required", "another user signed in than the one asked for")
_UNASKED = {
    Step.SIGN_IN: OAuthError("login_required", "the user must sign in"),
    Step.SECOND_FACTOR: OAuthError("interaction_required", "the user must prove more"),
    Step.CONSENT: OAuthError("consent_required", "the user must agree"),
}


def _missing(
    interaction: Interaction, session: Session | None, consented: Collection[str], now: float
) -> Step | OAuthError | None:
    if interaction.decision in _ENDED_BY:
        return _ENDED_BY[interaction.decision]
    if session is None or not _recent_enough(interaction, session, now) or not _chosen(interaction, session):
        return Step.SIGN_IN
    if interaction.request.subject not in (None, session.user.user_id):
        # OIDC Core §3.1.2.1: not the user of `id_token_hint`, even after signing in again.
        return _ANOTHER_USER if _fresh(interaction, session) else Step.SIGN_IN
    if not satisfies(session.acr, interaction.needed_acr):
        return Step.SECOND_FACTOR
    if not _agreed(interaction, session, consented):
        return Step.CONSENT
    return None


def _fresh(interaction: Interaction, session: Session) -> bool:
    """Signed in since the interaction began."""
    return session.auth_time >= interaction.started_at and _sign_in(session) != interaction.sign_in_before


def _sign_in(session: Session | None) -> str | None:
    """Names a sign-in: the session's id stays when its user signs in again."""
    return None if session is None else f"{session.session_id} {session.auth_time}"


def _recent_enough(interaction: Interaction, session: Session, now: float) -> bool:
    if _fresh(interaction, session):
        return True
    if "login" in interaction.request.prompt:
        return False
    return interaction.request.max_age is None or now - session.auth_time <= interaction.request.max_age


def _chosen(interaction: Interaction, session: Session) -> bool:
    named = (interaction.chosen, interaction.decided_by)
    return not interaction.select_account or session.user.user_id in named or _fresh(interaction, session)


def _agreed(interaction: Interaction, session: Session, consented: Collection[str]) -> bool:
    if interaction.decision is Decision.ALLOWED and interaction.decided_by == session.user.user_id:
        return True
    if "consent" in interaction.request.prompt:
        return False
    if interaction.client.metadata.first_party:
        return True
    return _can_be_recognised(interaction) and set(interaction.request.scopes) <= set(consented)


def _can_be_recognised(interaction: Interaction) -> bool:
    """RFC 8252 §8.6: any program can pretend to be a native public client, so the user is asked each time."""
    request = interaction.request
    return interaction.client.confidential or (
        isinstance(request, AuthorizationRequest) and request.redirect_uri.startswith("https://")
    )


def unsaved(request: AnyRequest, client: ClientRecord, session: Session | None, now: float) -> Interaction:
    """An interaction that has just begun. Nothing is stored: what needs nothing from the user never is."""
    return Interaction(
        request=request, client=client, step=Step.SIGN_IN, started_at=int(now), sign_in_before=_sign_in(session)
    )


async def start(
    services: Services,
    request: AnyRequest,
    client: ClientRecord,
    browser: Browser,
    session: Session | None,
    step: Step = Step.SIGN_IN,
) -> Interaction:
    """Store a new interaction for SECONDS, bound to the browser."""
    now = int(services.clock())
    begun = replace(unsaved(request, client, session, now), step=step, secret=secrets.token_urlsafe(32))
    row = table.InteractionRow(
        digest=_digest(begun.secret),
        browser_digest=browser.digest,
        client_id=client.client_id,
        request=_request_text(request),
        state=_state_text(begun),
        user_id=None,
        created_at=now,
        expires_at=now + SECONDS,
    )
    await services.lanes.write(lambda connection: table.insert_interaction(connection, row))
    return begun


async def load(services: Services, secret: str, browser: Browser | None) -> Interaction | None:
    """None: unknown, expired, done, of another browser, or its client is gone."""
    if browser is None or not secret:
        return None
    now = services.clock()

    def work(connection: Connection) -> Interaction | None:
        row = table.find_interaction(connection, _digest(secret), now)
        if row is None or not secrets.compare_digest(row.browser_digest, browser.digest):
            return None
        client = find_client(connection, row.client_id, now)
        if client is None or client.disabled_at is not None:
            return None
        return _interaction(row, client, secret)

    return await services.lanes.read(work)


async def consented(services: Services, client: ClientRecord, session: Session | None) -> tuple[str, ...]:
    """What this user has allowed this client before."""
    if session is None:
        return ()
    user_id = session.user.user_id
    return await services.lanes.read(lambda connection: find_consent(connection, user_id, client.client_id))


async def move(services: Services, interaction: Interaction, step: Step) -> Interaction:
    """Remember which step is next."""
    if step is interaction.step:
        return interaction
    return await _store(services, replace(interaction, step=step))


async def choose(services: Services, interaction: Interaction, session: Session) -> Interaction:
    """The user goes on as who is signed in (`prompt=select_account`)."""
    return await _store(services, replace(interaction, chosen=session.user.user_id))


async def finish(
    services: Services,
    interaction: Interaction,
    session: Session,
    decision: Decision,
    address: str | None = None,
    also: Callable[[Connection, float], None] | None = None,
) -> bool:
    """Record what the user decided: once, with the consent and the audit row, in one transaction.

    `also` is done in the same transaction (a device's approval). False: it was decided before, and nothing is done.
    """
    now = services.clock()
    decided = replace(interaction, decision=decision, decided_by=session.user.user_id)

    def work(connection: Connection) -> bool:
        undecided = _state_text(interaction)
        changed = table.update_state(
            connection, _digest(interaction.secret), undecided, _state_text(decided), session.user.user_id, now
        )
        if not changed:
            return False
        if decision is Decision.ALLOWED:
            remember_consent(
                connection, session.user.user_id, interaction.client.client_id, interaction.request.scopes, int(now)
            )
        record(connection, _audited(interaction, session, decision, address), now)
        if also is not None:
            also(connection, now)
        return True

    return await services.lanes.write(work)


def _audited(interaction: Interaction, session: Session, decision: Decision, address: str | None) -> AuditEvent:
    return AuditEvent(
        "consent.given" if decision is Decision.ALLOWED else "consent.refused",
        user_id=session.user.user_id,
        client_id=interaction.client.client_id,
        session_id=session.session_id,
        address=address,
        detail={"scopes": list(interaction.request.scopes), "decision": decision.value},
    )


async def _store(services: Services, interaction: Interaction) -> Interaction:
    secret_digest, text, now = _digest(interaction.secret), _state_text(interaction), services.clock()
    await services.lanes.write(lambda connection: table.replace_state(connection, secret_digest, text, now))
    return interaction


def interaction_digest(interaction: Interaction) -> bytes:
    """What the database has of its secret."""
    return _digest(interaction.secret)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


def _request_text(request: AnyRequest) -> str:
    kind = "device" if isinstance(request, DeviceRequest) else "authorization"
    return json.dumps({"kind": kind, **asdict(request), "prompt": sorted(request.prompt)})


def _read_request(text: str) -> AnyRequest:
    members: dict[str, Any] = json.loads(text)
    kind = members.pop("kind")
    for name in ("scopes", "acr_values", "ui_locales"):
        members[name] = tuple(members[name])
    members["prompt"] = frozenset(members["prompt"])
    return DeviceRequest(**members) if kind == "device" else AuthorizationRequest(**members)


def _state_text(interaction: Interaction) -> str:
    state = {
        "step": interaction.step,
        "sign_in_before": interaction.sign_in_before,
        "decision": interaction.decision,
        "decided_by": interaction.decided_by,
        "chosen": interaction.chosen,
    }
    return json.dumps(state, sort_keys=True)


def _interaction(row: table.InteractionRow, client: ClientRecord, secret: str) -> Interaction:
    state = json.loads(row.state)
    return Interaction(
        request=_read_request(row.request),
        client=client,
        step=Step(state["step"]),
        started_at=row.created_at,
        sign_in_before=state["sign_in_before"],
        decision=None if state["decision"] is None else Decision(state["decision"]),
        decided_by=state["decided_by"],
        chosen=state["chosen"],
        secret=secret,
    )

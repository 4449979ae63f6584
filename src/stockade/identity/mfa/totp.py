"""Codes of an authenticator app: TOTP (RFC 6238), SHA-1, 6 digits, 30 seconds, each accepted once.

RFC 6238 §5.2: one step of delay either way, and a code is not accepted twice. RFC 4226 §4 R6: a secret of 160 bits.
"""

from __future__ import annotations

import hmac
import io
import re
import secrets
from base64 import b32encode, b64decode, b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyotp
import segno

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.errors import KeysUnavailable
from stockade.identity.mfa.changes import FactorProblem, may_change_factors
from stockade.identity.people.assurance import CODE
from stockade.identity.people.client import origin_of
from stockade.identity.people.cookies import browser_digest, new_secret, secret_digest
from stockade.identity.people.sessions import rising
from stockade.identity.storage.pending import Pending, Purpose, find_pending, insert_pending, spend_pending
from stockade.identity.storage.recovery import delete_codes
from stockade.identity.storage.totp import advance_totp, delete_totp, find_totp, replace_totp
from stockade.identity.storage.users import find_user

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import HTTPConnection

    from stockade.identity.keys.seal import Seal
    from stockade.identity.people.cookies import Cookie
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services

SECRET_BYTES = 20
STEP_SECONDS = 30
DELAY_STEPS = 1
ENROLMENT_SECONDS = 900
_CODE = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True)
class TotpEnrolment:
    """What the page shows once: the QR code (an SVG without style or script), the secret to type, and a ticket.

    The ticket comes back with the first code, in a hidden field.
    """

    ticket: str = field(repr=False)
    secret: str = field(repr=False)
    uri: str = field(repr=False)
    svg: str = field(repr=False)


async def begin(services: Services, request: HTTPConnection, session: Session) -> TotpEnrolment | FactorProblem:
    """Make a secret. It is worth nothing before its first code, and the one before stays good until then."""
    browser, now = browser_digest(request), services.clock()
    if not may_change_factors(session, now):
        return FactorProblem.REAUTHENTICATE
    if browser is None:
        return FactorProblem.EXPIRED
    user_id, ticket, secret = session.user.user_id, new_secret(), secrets.token_bytes(SECRET_BYTES)
    sealed = b64encode(services.seal.close(secret, _bound_to(user_id))).decode()
    pending = Pending(Purpose.TOTP_REGISTRATION, user_id, {"sealed": sealed}, int(now) + ENROLMENT_SECONDS)
    await services.lanes.write(lambda connection: insert_pending(connection, pending, secret_digest(ticket), browser))
    text = b32encode(secret).decode()
    uri = pyotp.TOTP(text).provisioning_uri(name=session.user.username, issuer_name=services.config.people.title)
    return TotpEnrolment(ticket, text, uri, _svg(uri))


async def confirm(
    services: Services, request: HTTPConnection, session: Session, ticket: str, code: str
) -> tuple[Session, Cookie] | FactorProblem:
    """Take the secret into use with its first code. The session rises by it, under a new secret."""
    browser, now, digest = browser_digest(request), services.clock(), secret_digest(ticket)
    if not may_change_factors(session, now):
        return FactorProblem.REAUTHENTICATE
    if browser is None:
        return FactorProblem.EXPIRED
    rise = rising(services, request, session, CODE)

    def work(connection: Connection) -> Session | FactorProblem:
        pending = find_pending(connection, digest, browser, now)
        user_id = session.user.user_id
        if pending is None or pending.purpose is not Purpose.TOTP_REGISTRATION or pending.user_id != user_id:
            return FactorProblem.EXPIRED
        sealed = b64decode(pending.state["sealed"])
        step = _matching_step(_open(services.seal, sealed, user_id), code, now)
        if step is None:
            return FactorProblem.WRONG
        if not spend_pending(connection, digest, browser, now):
            return FactorProblem.EXPIRED
        replace_totp(connection, user_id, sealed, step, int(now))
        _record(connection, "factor.added", session, rise.origin.address, now)
        return rise.run(connection) or FactorProblem.EXPIRED

    outcome = await services.lanes.write(work)
    return outcome if isinstance(outcome, FactorProblem) else (outcome, rise.cookie)


async def remove(
    services: Services, request: HTTPConnection, session: Session, *, confirmed: bool = False
) -> FactorProblem | None:
    """Remove the app. None: done. `confirmed`: the person knows that no second factor is left."""
    now, address = services.clock(), origin_of(request).address
    if not may_change_factors(session, now):
        return FactorProblem.REAUTHENTICATE

    def work(connection: Connection) -> FactorProblem | None:
        user = find_user(connection, session.user.user_id)
        if user is None or not user.has_totp:
            return FactorProblem.UNKNOWN
        if user.passkeys == 0 and not confirmed:
            return FactorProblem.CONFIRM_LAST
        delete_totp(connection, user.user_id)
        if user.passkeys == 0:
            delete_codes(connection, user.user_id)
        _record(connection, "factor.removed", session, address, now)
        return None

    return await services.lanes.write(work)


def looks_like_code(text: str) -> bool:
    """Whether it is a code of an app rather than a recovery code."""
    return _CODE.fullmatch(_compact(text)) is not None


def accept(connection: Connection, seal: Seal, user_id: str, code: str, now: float) -> bool:
    """Check a code and spend its time step, in the caller's transaction. Raises KeysUnavailable."""
    sealed = find_totp(connection, user_id)
    if sealed is None:
        return False
    step = _matching_step(_open(seal, sealed, user_id), code, now)
    return step is not None and advance_totp(connection, user_id, step)


def _matching_step(secret: bytes, code: str, now: float) -> int | None:
    text, current = _compact(code), int(now) // STEP_SECONDS
    if not _CODE.fullmatch(text):
        return None
    generator = pyotp.TOTP(b32encode(secret).decode())
    steps = range(current - DELAY_STEPS, current + DELAY_STEPS + 1)
    # All are computed, whichever fits.
    fitting = [step for step in steps if hmac.compare_digest(generator.generate_otp(step), text)]
    return fitting[-1] if fitting else None


def _compact(text: str) -> str:
    return text.replace(" ", "").replace("\u00a0", "")


def _open(seal: Seal, sealed: bytes, user_id: str) -> bytes:
    try:
        return seal.open(sealed, _bound_to(user_id))
    except ValueError as error:
        raise KeysUnavailable("a TOTP secret cannot be opened") from error


def _bound_to(user_id: str) -> str:
    return f"totp {user_id}"


def _svg(uri: str) -> str:
    """With a `viewBox` and no size of its own: whatever size the page gives it, nothing of the code is cut off."""
    image = io.BytesIO()
    segno.make_qr(uri, error="m").save(
        image,
        kind="svg",
        border=4,
        xmldecl=False,
        svgclass=None,
        lineclass=None,
        dark="#000",
        light="#fff",
        omitsize=True,
    )
    return image.getvalue().decode()


def _record(connection: Connection, kind: str, session: Session, address: str, now: float) -> None:
    detail = {"factor": "totp"}
    event = AuditEvent(kind, session.user.user_id, session_id=session.session_id, address=address, detail=detail)
    audit.record(connection, event, now)

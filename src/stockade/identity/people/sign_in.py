"""The way in: name and password, or a passkey → the second factor where there is one → a session.

Each step answers with a session, the next step, or a refusal that says the same whatever was wrong. A wrong name
costs what a wrong password does: the same reads and writes, one argon2id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, TypeAlias

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.errors import PasswordsBusy
from stockade.identity.mfa import passkeys, recovery, totp
from stockade.identity.mfa.changes import FactorProblem
from stockade.identity.people.assurance import CODE, PASSKEY, PASSWORD, PHR, PWD, acr_of
from stockade.identity.people.client import origin_of
from stockade.identity.people.cookies import (
    SIGN_IN,
    Cookie,
    browser_digest,
    forget,
    new_secret,
    read_digest,
    secret_digest,
)
from stockade.identity.people.devices import known_device, remember
from stockade.identity.people.passwords import usable
from stockade.identity.people.sessions import Session, rising, starting
from stockade.identity.people.throttle import code_budgets, passkey_budgets, password_budgets
from stockade.identity.people.users import new_password_problem, replace_password, username_key
from stockade.identity.storage.pending import Pending, Purpose, find_pending, insert_pending, spend_pending
from stockade.identity.storage.sign_in_failures import Taken, take
from stockade.identity.storage.users import find_user, find_with_password, replace_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection
    from starlette.requests import HTTPConnection

    from stockade.identity.people.passwords import PasswordProblem
    from stockade.identity.people.sessions import Start
    from stockade.identity.people.throttle import Budgets
    from stockade.identity.services import Services
    from stockade.identity.storage.users import UserRecord

STEP_SECONDS = 600
# Of whom there is no record: devices are looked for all the same.
_NOBODY = "u_nobody"


class Method(StrEnum):
    """How a person can prove something. `Waiting.methods` has the second factors."""

    PASSWORD = "password"  # noqa: S105 - a method
    PASSKEY = "passkey"
    TOTP = "totp"
    RECOVERY_CODE = "recovery_code"


class Refusal(StrEnum):
    """What the person is told."""

    # Name, password, code or passkey: which of them, and whether the name exists, is not told.
    WRONG = "wrong"
    WAIT = "wait"
    # The step took too long, was done before, or came from another browser: start over.
    EXPIRED = "expired"
    NEW_PASSWORD = "new_password"  # noqa: S105 - a reason


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Set the cookies and go on."""

    session: Session
    cookies: tuple[Cookie, ...]


@dataclass(frozen=True, slots=True)
class NextStep:
    """Set the cookies and show the page of the step; `waiting` tells what it needs."""

    purpose: Purpose
    cookies: tuple[Cookie, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing happened. `retry_after_seconds` with WAIT, `problem` with NEW_PASSWORD."""

    reason: Refusal
    retry_after_seconds: int | None = None
    problem: PasswordProblem | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A sign-in between two steps, for the page. `methods` are those that help, the best first."""

    purpose: Purpose
    user: UserRecord
    proofs: tuple[str, ...]
    needed_acr: str | None
    methods: tuple[Method, ...]
    digest: bytes = field(repr=False)


Outcome: TypeAlias = SignedIn | NextStep | Refused
Accept: TypeAlias = "Callable[[Connection], bool]"


async def with_password(
    services: Services, request: HTTPConnection, username: str, password: str, needed_acr: str | None = None
) -> Outcome:
    """The first step. Raises PasswordsBusy, StorageUnavailable."""
    key = username_key(username)
    if key is None or not usable(password):
        return Refused(Refusal.WRONG)
    proved = await _prove_password(services, request, key, password)
    if isinstance(proved, Refused):
        return proved
    return await _go_on(services, request, _Progress(proved.user, PASSWORD, needed_acr, proved))


async def with_passkey(
    services: Services, request: HTTPConnection, response: str, needed_acr: str | None = None
) -> Outcome:
    """First step or second: a passkey (`AuthenticationResponseJSON`) is both factors at once."""
    shown = await _show_passkey(services, request, response)
    if isinstance(shown, Refused):
        return shown
    before = await waiting(services, request)
    known = before.proofs if before is not None and before.user.user_id == shown.user.user_id else ()
    progress = _Progress(shown.user, (*known, *PASSKEY), needed_acr, shown)
    return await _go_on(services, request, progress)


async def with_code(services: Services, request: HTTPConnection, code: str) -> Outcome:
    """The second step by a code, of an app or a recovery code; which one is told by its form."""
    before = await waiting(services, request)
    if before is None or before.purpose is not Purpose.SECOND_FACTOR:
        return Refused(Refusal.EXPIRED)
    method = _method_of(code)
    if method not in before.methods:
        return Refused(Refusal.WRONG)
    attempt = await _try_code(services, request, before.user, code)
    if isinstance(attempt, Refused):
        return attempt
    progress = _Progress(before.user, (*before.proofs, *CODE), before.needed_acr, attempt, digest=before.digest)
    return await _go_on(services, request, progress)


async def with_new_password(services: Services, request: HTTPConnection, password: str) -> Outcome:
    """The last step where an administrator set the password: the person's own."""
    before = await waiting(services, request)
    if before is None or before.purpose is not Purpose.NEW_PASSWORD:
        return Refused(Refusal.EXPIRED)
    problem = new_password_problem(services.config, before.user, password)
    if problem is not None:
        return Refused(Refusal.NEW_PASSWORD, problem=problem)
    hashed = await services.passwords.hash(password)
    progress = _Progress(before.user, before.proofs, before.needed_acr, digest=before.digest, new_hash=hashed)
    return await _go_on(services, request, progress)


async def step_up_with_code(services: Services, request: HTTPConnection, session: Session, code: str) -> Outcome:
    """Raise a session by a code (RFC 9470: the client asked for more than there is)."""
    attempt = await _try_code(services, request, session.user, code)
    if isinstance(attempt, Refused):
        return attempt
    return await _raise(services, request, session, CODE, attempt)


async def step_up_with_passkey(services: Services, request: HTTPConnection, session: Session, response: str) -> Outcome:
    """Raise a session by a passkey of the same person."""
    shown = await _show_passkey(services, request, response)
    if isinstance(shown, Refused):
        return shown
    if shown.user.user_id != session.user.user_id:
        return await _failed(services, request, session.user, Method.PASSKEY, shown.taken)
    return await _raise(services, request, session, PASSKEY, shown)


async def waiting(services: Services, request: HTTPConnection) -> Waiting | None:
    """The sign-in that this browser is in the middle of; None: there is none, start over."""
    digest, browser = read_digest(request, SIGN_IN), browser_digest(request)
    if digest is None or browser is None:
        return None
    now = services.clock()

    def look(connection: Connection) -> tuple[Pending, UserRecord] | None:
        pending = find_pending(connection, digest, browser, now)
        user = find_user(connection, pending.user_id) if pending else None
        return (pending, user) if pending and user else None

    found = await services.lanes.read(look)
    if found is None or found[0].purpose not in (Purpose.SECOND_FACTOR, Purpose.NEW_PASSWORD):
        return None
    pending, user = found
    if not _is_still(user, pending.state["generation"]):
        return None
    proofs, needed = tuple(pending.state["proofs"]), pending.state["needed_acr"]
    return Waiting(pending.purpose, user, proofs, needed, methods(services, user, needed), digest)


def methods(services: Services, user: UserRecord, needed_acr: str | None) -> tuple[Method, ...]:
    """The second factors of a person that help towards `needed_acr`, the best first."""
    passkey = user.passkeys > 0 and passkeys.available(services.config)
    if passkey and needed_acr == PHR:
        return (Method.PASSKEY,)
    has = {Method.PASSKEY: passkey, Method.TOTP: user.has_totp, Method.RECOVERY_CODE: user.recovery_codes > 0}
    return tuple(method for method, there in has.items() if there)


@dataclass(frozen=True, slots=True)
class _Progress:
    """What was shown so far. `attempt` has the last word, in the transaction that goes on; `digest` is of the step."""

    user: UserRecord
    proofs: tuple[str, ...]
    needed_acr: str | None
    attempt: _Attempt | None = None
    digest: bytes | None = None
    new_hash: str | None = None

    def next_purpose(self, services: Services) -> Purpose | None:
        """The step that comes now; None: all was shown that this person can and must."""
        acr, ways = acr_of(self.proofs), methods(services, self.user, self.needed_acr)
        enough = acr == PHR if ways == (Method.PASSKEY,) and self.needed_acr == PHR else acr != PWD
        if self.user.has_second_factor and not enough:
            return Purpose.SECOND_FACTOR
        if self.user.must_change_password and "pwd" in self.proofs and self.new_hash is None:
            return Purpose.NEW_PASSWORD
        return None


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A second factor that is about to be believed or not."""

    user: UserRecord
    method: Method
    budgets: Budgets
    accept: Accept
    taken: Taken


async def _prove_password(services: Services, request: HTTPConnection, key: str, password: str) -> _Attempt | Refused:
    """The person whose name and password these are. Nobody's name costs the same work."""
    found = await services.lanes.read(lambda connection: find_with_password(connection, key))
    user, hashed = found or (None, None)
    device = known_device(services, request, user.user_id if user else _NOBODY)
    budgets = password_budgets(services, key, origin_of(request).network, device)
    taken = await _take(services, budgets)
    if isinstance(taken, Refused):
        return taken
    may = user is not None and user.disabled_at is None
    try:
        right = await services.passwords.verify(hashed if may else None, password)
    except PasswordsBusy:
        # Nothing was tried, so nothing may count: load must not lock people out.
        await services.lanes.write(budgets.untouched)
        raise
    if user is None or hashed is None or not right:
        return await _failed(services, request, user, Method.PASSWORD, taken)
    if services.passwords.outdated(hashed):
        stronger = await services.passwords.hash(password)
        await services.lanes.write(lambda connection: replace_hash(connection, user.user_id, hashed, stronger))
    return _Attempt(user, Method.PASSWORD, budgets, _accepted, taken)


def _accepted(_connection: Connection) -> bool:
    """A password's last word was spoken off the database."""
    return True


async def _show_passkey(services: Services, request: HTTPConnection, response: str) -> _Attempt | Refused:
    origin = origin_of(request)
    budgets = passkey_budgets(services, origin.network)
    taken = await _take(services, budgets)
    if isinstance(taken, Refused):
        return taken
    shown = await passkeys.verify(services, request, response)
    if isinstance(shown, FactorProblem):
        return await _failed(services, request, None, Method.PASSKEY, taken)
    now = services.clock()

    def accept(connection: Connection) -> bool:
        return passkeys.accept(connection, shown, origin.address, now)

    return _Attempt(shown.user, Method.PASSKEY, budgets, accept, taken)


async def _try_code(services: Services, request: HTTPConnection, user: UserRecord, code: str) -> _Attempt | Refused:
    now, address, user_id = services.clock(), origin_of(request).address, user.user_id
    method = _method_of(code)
    budgets = code_budgets(services, method, user_id, known_device(services, request, user_id))
    taken = await _take(services, budgets)
    if isinstance(taken, Refused):
        return taken

    def accept(connection: Connection) -> bool:
        if method is Method.TOTP:
            return totp.accept(connection, services.seal, user_id, code, now)
        return recovery.accept(connection, services.derived, user_id, code, now, address)

    return _Attempt(user, method, budgets, accept, taken)


def _method_of(code: str) -> Method:
    return Method.TOTP if totp.looks_like_code(code) else Method.RECOVERY_CODE


async def _take(services: Services, budgets: Budgets) -> Refused | Taken:
    """Draw on the budgets before the attempt."""
    now = services.clock()
    taken = await services.lanes.write(lambda connection: take(connection, budgets.all, now))
    if taken.wait_seconds is None:
        return taken
    services.metrics.count("sign_ins", result="throttled")
    return Refused(Refusal.WAIT, retry_after_seconds=max(1, ceil(taken.wait_seconds)))


async def _failed(
    services: Services, request: HTTPConnection, user: UserRecord | None, factor: Method, taken: Taken
) -> Refused:
    """Record a failure: the same for names that exist and names that do not."""
    failure = _Failure.of(services, request, user, factor, taken)
    await services.lanes.write(failure.record)
    services.metrics.count("sign_ins", result="failed")
    return Refused(Refusal.WRONG)


@dataclass(frozen=True, slots=True)
class _Failure:
    """What the audit record says of a failed attempt."""

    events: tuple[AuditEvent, ...]
    now: float

    @classmethod
    def of(
        cls, services: Services, request: HTTPConnection, user: UserRecord | None, factor: Method, taken: Taken
    ) -> _Failure:
        """`sign_in.throttled` once, when a budget is used up: the record must not grow with an attacker's patience."""
        user_id, address = user.user_id if user else None, origin_of(request).address
        kinds = ("sign_in.failed", "sign_in.throttled") if taken.last else ("sign_in.failed",)
        events = tuple(AuditEvent(kind, user_id, address=address, detail={"factor": factor.value}) for kind in kinds)
        return cls(events, services.clock())

    def record(self, connection: Connection) -> None:
        """In the caller's transaction."""
        for event in self.events:
            audit.record(connection, event, self.now)


async def _go_on(services: Services, request: HTTPConnection, progress: _Progress) -> Outcome:
    """Accept what was shown and take the next step, in one transaction."""
    browser = browser_digest(request)
    if browser is None:
        return Refused(Refusal.EXPIRED)
    advance = _Advance(
        progress=progress,
        purpose=progress.next_purpose(services),
        start=starting(services, request, progress.user, progress.proofs),
        failure=_failure_of(services, request, progress.attempt) if progress.attempt else None,
        browser=browser,
        step_secret=new_secret(),
    )
    outcome = await services.lanes.write(advance.run)
    if isinstance(outcome, Refusal):
        services.metrics.count("sign_ins", result="failed")
        return Refused(outcome)
    if isinstance(outcome, Purpose):
        return NextStep(outcome, (Cookie(SIGN_IN, advance.step_secret, max_age=STEP_SECONDS),))
    services.metrics.count("sign_ins", result="succeeded")
    # Another person's session may have ended.
    services.feed.announce()
    device = remember(services, request, progress.user.user_id)
    return SignedIn(outcome, (advance.start.cookie, device, forget(SIGN_IN)))


@dataclass(frozen=True, slots=True)
class _Advance:
    """A step about to be taken. `run` may run twice (lanes.py)."""

    progress: _Progress
    purpose: Purpose | None
    start: Start
    failure: _Failure | None
    browser: bytes
    step_secret: str = field(repr=False)

    def run(self, connection: Connection) -> Session | Purpose | Refusal:
        """Take it: a session, the next step, or why not."""
        progress, now = self.progress, self.start.now
        refusal = self._refusal(connection)
        if refusal is not None:
            return refusal
        if progress.attempt is not None:
            progress.attempt.budgets.succeeded(connection)
        if progress.new_hash is not None:
            replace_password(connection, progress.user.user_id, progress.new_hash, now, self.start.origin.address)
        if self.purpose is None:
            return self.start.run(connection)
        pending = _pending(progress, self.purpose, now)
        insert_pending(connection, pending, secret_digest(self.step_secret), self.browser)
        return self.purpose

    def _refusal(self, connection: Connection) -> Refusal | None:
        progress, now = self.progress, self.start.now
        if progress.attempt is not None and self.failure is not None and not progress.attempt.accept(connection):
            self.failure.record(connection)
            return Refusal.WRONG
        if progress.digest is not None and not spend_pending(connection, progress.digest, self.browser, now):
            return Refusal.EXPIRED
        still = _is_still(find_user(connection, progress.user.user_id), progress.user.generation)
        return None if still else Refusal.EXPIRED


async def _raise(
    services: Services, request: HTTPConnection, session: Session, proofs: tuple[str, ...], attempt: _Attempt
) -> Outcome:
    rise = rising(services, request, session, proofs)
    failure = _failure_of(services, request, attempt)

    def work(connection: Connection) -> Session | Refusal:
        if not attempt.accept(connection):
            failure.record(connection)
            return Refusal.WRONG
        attempt.budgets.succeeded(connection)
        return rise.run(connection) or Refusal.EXPIRED

    outcome = await services.lanes.write(work)
    services.metrics.count("sign_ins", result="failed" if isinstance(outcome, Refusal) else "raised")
    if isinstance(outcome, Refusal):
        return Refused(outcome)
    return SignedIn(outcome, (rise.cookie, remember(services, request, session.user.user_id)))


def _pending(progress: _Progress, purpose: Purpose, now: float) -> Pending:
    user = progress.user
    state = {"proofs": progress.proofs, "needed_acr": progress.needed_acr, "generation": user.generation}
    return Pending(purpose, user.user_id, state, int(now) + STEP_SECONDS)


def _is_still(user: UserRecord | None, generation: int) -> bool:
    """Whether the person was not disabled since."""
    return user is not None and user.disabled_at is None and user.generation == generation


def _failure_of(services: Services, request: HTTPConnection, attempt: _Attempt) -> _Failure:
    return _Failure.of(services, request, attempt.user, attempt.method, attempt.taken)

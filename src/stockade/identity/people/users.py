"""People's names and passwords."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.mfa.changes import may_change_factors
from stockade.identity.people.passwords import MIN_CHARS, MIN_CHARS_ALONE, PasswordProblem, problem_of
from stockade.identity.people.sessions import end_in, rising
from stockade.identity.storage.grants import revoke_lasting_grants
from stockade.identity.storage.sessions import live_session_ids
from stockade.identity.storage.users import set_password

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection
    from starlette.requests import HTTPConnection

    from stockade.identity.config import Config
    from stockade.identity.people.cookies import Cookie
    from stockade.identity.people.sessions import Session
    from stockade.identity.services import Services
    from stockade.identity.storage.users import UserRecord

MAX_NAME_CHARS = 128


def username_key(text: str) -> str | None:
    """What user names are compared by: NFKC and case-folded. None: nobody can have this name.

    1 to 128 visible characters without space, so that two names that look alike differ by more than what is unseen.
    """
    if not 0 < len(text) <= MAX_NAME_CHARS:
        return None
    key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    visible = key.isprintable() and not any(char.isspace() for char in key)
    return key if visible and 0 < len(key) <= MAX_NAME_CHARS else None


def new_password_problem(config: Config, user: UserRecord, password: str) -> PasswordProblem | None:
    """What is wrong with a new password for this person; None: it will do."""
    alone = config.profile == "fapi2" and not user.has_second_factor
    return problem_of(password, names_of(config, user), MIN_CHARS_ALONE if alone else MIN_CHARS)


def names_of(config: Config, user: UserRecord) -> Iterable[str | None]:
    """What the person's password must not hold."""
    return (user.username, user.name, user.email, config.people.title)


async def change_password(
    services: Services, request: HTTPConnection, session: Session, new: str
) -> tuple[Session, Cookie] | PasswordProblem | None:
    """Set a new password for a person who has just signed in (changes.may_change_factors).

    Every other session of theirs ends, with what clients hold beyond sessions, and this one gets a new secret. None:
    sign in anew first, or it was ended meanwhile.
    """
    if not may_change_factors(session, services.clock()):
        return None
    problem = new_password_problem(services.config, session.user, new)
    if problem is not None:
        return problem
    hashed = await services.passwords.hash(new)
    rise = rising(services, request, session, ())

    def work(connection: Connection) -> Session | None:
        replace_password(connection, session.user.user_id, hashed, rise.now, rise.origin.address)
        others = [one for one in live_session_ids(connection, session.user.user_id) if one != session.session_id]
        end_in(connection, session.user.user_id, others, "password_changed", rise.now, rise.origin.address)
        revoke_lasting_grants(connection, session.user.user_id, rise.now)
        return rise.run(connection)

    raised = await services.lanes.write(work)
    services.feed.announce()
    return None if raised is None else (raised, rise.cookie)


def replace_password(connection: Connection, user_id: str, hashed: str, now: float, address: str) -> None:
    """Set it and record that, in the caller's transaction."""
    set_password(connection, user_id, hashed, int(now), must_change=False)
    audit.record(connection, AuditEvent("password.changed", user_id, address=address), now)

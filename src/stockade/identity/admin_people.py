"""Administration of people: the operations behind `stockade user`, `stockade audit` and the admin API.

As in admin.py, each takes an open Storage and works whether a server runs or not. A person is named by id or user
name. Nobody can be deleted: ids in tokens and in the audit record must not come to mean another; people are disabled.
"""

from __future__ import annotations

import secrets
import time
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from stockade.identity import audit
from stockade.identity.audit import AuditEvent
from stockade.identity.config import People, Sessions
from stockade.identity.errors import AdministrationError, AlreadyThereError, NoSuchRecordError
from stockade.identity.people.passwords import PasswordProblem, Passwords, problem_of
from stockade.identity.people.sessions import end_in
from stockade.identity.people.users import username_key
from stockade.identity.storage import users as table
from stockade.identity.storage.grants import revoke_lasting_grants
from stockade.identity.storage.passkeys import delete_passkeys
from stockade.identity.storage.recovery import delete_codes
from stockade.identity.storage.revocations import RevocationKind, record_revocation
from stockade.identity.storage.sessions import SessionRow, find_session_by_id, live_session_ids
from stockade.identity.storage.sessions import list_sessions as stored_sessions
from stockade.identity.storage.totp import delete_totp
from stockade.identity.storage.users import UserRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

    from stockade.identity.audit import AuditRow
    from stockade.identity.storage import Storage

ADMIN_ROLE = "admin"
PAGE = 100
_MAX_PROFILE_CHARS = 256
_MAX_EMAIL_CHARS = 320
_MAX_ROLE_CHARS = 64
_SAID = {
    PasswordProblem.TOO_SHORT: "the password is too short",
    PasswordProblem.TOO_LONG: "the password has more than 256 characters",
    PasswordProblem.UNUSABLE: "the password has a control character",
    PasswordProblem.COMMON: "the password is in the list of common and breached ones",
    PasswordProblem.HOLDS_NAME: "the password holds the person's name",
    PasswordProblem.PATTERN: "the password is a simple pattern",
}


def create_user(
    storage: Storage,
    username: str,
    password: str | None = None,
    *,
    email: str | None = None,
    name: str | None = None,
    roles: Sequence[str] = (),
    must_change: bool = True,
    passwords: Passwords | None = None,
    by: str = "operator",
) -> UserRecord:
    """Make an account. With a password it must be changed at the first sign-in, unless the person chose it.

    Without one nobody can sign in to it before `set_password`.
    """
    key, now = username_key(username), time.time()
    if key is None:
        raise AdministrationError("a user name has 1 to 128 visible characters and no space")
    record = UserRecord(
        user_id=f"u_{secrets.token_hex(10)}",
        username=unicodedata.normalize("NFKC", username),
        name=_text("name", name, _MAX_PROFILE_CHARS),
        email=_email(email),
        email_verified=False,
        locale=None,
        roles=_roles(roles),
        generation=0,
        created_at=int(now),
        disabled_at=None,
        has_password=password is not None,
        must_change_password=password is not None and must_change,
        has_totp=False,
        passkeys=0,
        recovery_codes=0,
    )
    hashed = None if password is None else _hash(record, password, passwords)
    try:
        with storage.write() as connection:
            table.insert_user(connection, record, key, hashed)
            _record(connection, "user.created", record.user_id, by, now)
    except IntegrityError as error:
        raise AlreadyThereError(f"a user named `{username}` exists", hint="choose another name") from error
    return record


def list_users(storage: Storage, after: str = "", limit: int = PAGE) -> list[UserRecord]:
    """People by name, those after the user name `after`."""
    with storage.read() as connection:
        return table.list_users(connection, username_key(after) or "", limit)


def show_user(storage: Storage, user: str) -> UserRecord:
    """One person."""
    with storage.read() as connection:
        return _find(connection, user)


def update_user(storage: Storage, user: str, changes: Mapping[str, Any], by: str = "operator") -> UserRecord:
    """Change `name`, `email` (then unverified) or `roles`; the others stay. Unknown fields are refused."""
    values: dict[str, Any] = {}
    for field_name, value in changes.items():
        if field_name == "name":
            values["name"] = _text("name", value, _MAX_PROFILE_CHARS)
        elif field_name == "email":
            values |= {"email": _email(value), "email_verified": False}
        elif field_name == "roles":
            values["roles"] = " ".join(_roles(value))
        else:
            raise AdministrationError(f"unknown field `{field_name}`")
    with storage.write() as connection:
        record = _find(connection, user)
        if values:
            table.update_profile(connection, record.user_id, values)
            _record(connection, "user.updated", record.user_id, by, time.time(), fields=sorted(changes))
        return _find(connection, record.user_id)


def disable_user(storage: Storage, user: str, by: str = "operator") -> UserRecord:
    """Stop a person: sessions end, and every token that was given out for them is dead for good.

    Gateways hear of it through the revocation log.
    """
    now = time.time()
    with storage.write() as connection:
        record = _find(connection, user)
        if table.set_user_disabled(connection, record.user_id, int(now)):
            record_revocation(connection, RevocationKind.USER, record.user_id, now)
            _record(connection, "user.disabled", record.user_id, by, now)
        end_in(connection, record.user_id, live_session_ids(connection, record.user_id), "user_disabled", now, by=by)
        return _find(connection, record.user_id)


def enable_user(storage: Storage, user: str, by: str = "operator") -> UserRecord:
    """Let a person sign in again. Sessions and tokens from before stay dead."""
    with storage.write() as connection:
        record = _find(connection, user)
        if table.set_user_disabled(connection, record.user_id, None):
            _record(connection, "user.enabled", record.user_id, by, time.time())
        return _find(connection, record.user_id)


def set_password(
    storage: Storage, user: str, password: str, *, passwords: Passwords | None = None, by: str = "operator"
) -> UserRecord:
    """Set a password that must be changed at the next sign-in; all sessions of the person end."""
    record = show_user(storage, user)
    hashed, now = _hash(record, password, passwords), time.time()
    with storage.write() as connection:
        table.set_password(connection, record.user_id, hashed, int(now), must_change=True)
        _record(connection, "user.password_set", record.user_id, by, now)
        end_in(connection, record.user_id, live_session_ids(connection, record.user_id), "password_changed", now, by=by)
        revoke_lasting_grants(connection, record.user_id, now)
        return _find(connection, record.user_id)


def reset_factors(storage: Storage, user: str, by: str = "operator") -> UserRecord:
    """Remove TOTP, passkeys and recovery codes of a person who lost them; all their sessions end."""
    now = time.time()
    with storage.write() as connection:
        record = _find(connection, user)
        delete_totp(connection, record.user_id)
        delete_passkeys(connection, record.user_id)
        delete_codes(connection, record.user_id)
        _record(connection, "user.factors_reset", record.user_id, by, now)
        end_in(connection, record.user_id, live_session_ids(connection, record.user_id), "factors_reset", now, by=by)
        revoke_lasting_grants(connection, record.user_id, now)
        return _find(connection, record.user_id)


def list_sessions(storage: Storage, user: str, idle_seconds: int = Sessions().idle_seconds) -> list[SessionRow]:
    """The live sessions of a person, the last seen first. `idle_seconds`: as the server is configured."""
    with storage.read() as connection:
        record = _find(connection, user)
        return stored_sessions(connection, record.user_id, int(time.time()), idle_seconds)


def revoke_session(storage: Storage, session_id: str, by: str = "operator") -> bool:
    """End a session and what depends on it. False: it had ended. Raises NoSuchRecordError."""
    now = time.time()
    with storage.write() as connection:
        row = find_session_by_id(connection, session_id)
        if row is None:
            raise _no_session(session_id)
        return end_in(connection, row.user_id, [session_id], "revoked", now, by=by) > 0


def revoke_sessions(storage: Storage, user: str, session_id: str | None = None, by: str = "operator") -> int:
    """End the sessions of a person, or the one that is named. Returns how many."""
    now = time.time()
    with storage.write() as connection:
        user_id = _find(connection, user).user_id
        live = live_session_ids(connection, user_id)
        if session_id is not None and session_id not in live:
            raise _no_session(session_id)
        return end_in(connection, user_id, [session_id] if session_id else live, "revoked", now, by=by)


def audit_page(storage: Storage, after: int | None, limit: int, user_id: str | None = None) -> list[AuditRow]:
    """Up to `limit` events newer than number `after`, oldest first; without `after` the last ones."""
    with storage.read() as connection:
        if after is None:
            return audit.read_last(connection, limit, user_id)
        return list(islice(audit.read(connection, after, user_id), limit))


def verify_audit(storage: Storage, known: tuple[int, bytes] | None = None) -> tuple[int, bytes]:
    """Walk the chain. Returns the last event's number and digest, to be kept elsewhere and given as `known` later.

    Raises BrokenChainError.
    """
    with storage.read() as connection:
        return audit.verify(connection, known)


def _find(connection: Connection, user: str) -> UserRecord:
    key = username_key(user)
    record = table.find_user(connection, user) or (table.find_user_by_key(connection, key) if key else None)
    if record is None:
        raise NoSuchRecordError(f"no user `{user}`", hint="list them with `stockade user list`")
    return record


def _no_session(session_id: str) -> NoSuchRecordError:
    return NoSuchRecordError(f"no session `{session_id}`", hint="list them with `stockade user sessions NAME`")


def _hash(record: UserRecord, password: str, passwords: Passwords | None) -> str:
    problem = problem_of(password, (record.username, record.name, record.email, People().title))
    if problem is not None:
        raise AdministrationError(_SAID[problem], hint="use several unrelated words, 8 to 256 characters")
    return (passwords or Passwords()).hash_now(password)


def _text(field_name: str, value: str | None, longest: int) -> str | None:
    if not value:
        return None
    if len(value) > longest or not value.isprintable():
        raise AdministrationError(f"`{field_name}` has at most {longest} printable characters")
    return unicodedata.normalize("NFC", value)


def _email(value: str | None) -> str | None:
    """Kept as given; whether it works is seen when a mail arrives."""
    text = _text("email", value, _MAX_EMAIL_CHARS)
    if text is None:
        return None
    local, _, domain = text.rpartition("@")
    if not local or not domain or any(char.isspace() for char in text):
        raise AdministrationError("`email` must be an address like `name@example.com`")
    return text


def _roles(values: Sequence[str]) -> tuple[str, ...]:
    for value in values:
        if not 0 < len(value) <= _MAX_ROLE_CHARS or not value.isprintable() or " " in value:
            raise AdministrationError(f"a role has 1 to {_MAX_ROLE_CHARS} visible characters and no space")
    return tuple(dict.fromkeys(values))


def _record(connection: Connection, kind: str, user_id: str, by: str, now: float, **detail: Any) -> None:
    audit.record(connection, AuditEvent(kind, user_id, detail={"by": by, **detail}), now)

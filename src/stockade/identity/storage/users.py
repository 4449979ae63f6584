"""People: the account, its password hash, and which factors it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, insert, select, update

from stockade.identity.storage.schema import passkeys, recovery_codes, totp_secrets, users

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A person. `username` as shown; times are NumericDate; `recovery_codes` counts the unused ones."""

    user_id: str
    username: str
    name: str | None
    email: str | None
    email_verified: bool
    locale: str | None
    roles: tuple[str, ...]
    generation: int
    created_at: int
    disabled_at: int | None
    has_password: bool
    must_change_password: bool
    has_totp: bool
    passkeys: int
    recovery_codes: int

    @property
    def has_second_factor(self) -> bool:
        """Whether a password alone is not all that this person can show."""
        return self.has_totp or self.passkeys > 0


# Of a user in the same statement: which factors there are.
_PASSKEYS = select(func.count()).where(passkeys.c.user_id == users.c.user_id).scalar_subquery()
_TOTP = (
    select(func.count())
    .where(totp_secrets.c.user_id == users.c.user_id, totp_secrets.c.confirmed_at.is_not(None))
    .scalar_subquery()
)
_CODES = (
    select(func.count())
    .where(recovery_codes.c.user_id == users.c.user_id, recovery_codes.c.used_at.is_(None))
    .scalar_subquery()
)
WITH_FACTORS = select(users, _PASSKEYS.label("passkey_count"), _TOTP.label("totp_count"), _CODES.label("code_count"))
_BY_ID = WITH_FACTORS.where(users.c.user_id == bindparam("user_id"))
_BY_KEY = WITH_FACTORS.where(users.c.username_key == bindparam("username_key"))


def find_user(connection: Connection, user_id: str) -> UserRecord | None:
    """Look a person up by id."""
    row = connection.execute(_BY_ID, {"user_id": user_id}).one_or_none()
    return user_of(row) if row else None


def find_user_by_key(connection: Connection, username_key: str) -> UserRecord | None:
    """Look a person up by the folded user name (people/users.py `username_key`)."""
    row = connection.execute(_BY_KEY, {"username_key": username_key}).one_or_none()
    return user_of(row) if row else None


def find_with_password(connection: Connection, username_key: str) -> tuple[UserRecord, str | None] | None:
    """A person with the password's hash, in one statement whether there is one or not."""
    row = connection.execute(_BY_KEY, {"username_key": username_key}).one_or_none()
    return (user_of(row), row.password_hash) if row else None


def password_hash(connection: Connection, user_id: str) -> str | None:
    """The hash; None where the person has no password, or is unknown."""
    found: str | None = connection.execute(select(users.c.password_hash).where(users.c.user_id == user_id)).scalar()
    return found


def list_users(connection: Connection, after: str = "", limit: int = 100) -> list[UserRecord]:
    """People in the order of their folded names, those after the one called `after`."""
    statement = WITH_FACTORS.where(users.c.username_key > after).order_by(users.c.username_key).limit(limit)
    return [user_of(row) for row in connection.execute(statement)]


def insert_user(connection: Connection, record: UserRecord, username_key: str, hashed: str | None) -> None:
    """Store a new person. Raises IntegrityError when the name is taken."""
    connection.execute(
        insert(users).values(
            user_id=record.user_id,
            username_key=username_key,
            username=record.username,
            name=record.name,
            email=record.email,
            email_verified=record.email_verified,
            locale=record.locale,
            roles=" ".join(record.roles),
            password_hash=hashed,
            password_changed_at=None if hashed is None else record.created_at,
            must_change_password=record.must_change_password,
            generation=record.generation,
            created_at=record.created_at,
            disabled_at=record.disabled_at,
        )
    )


def update_profile(connection: Connection, user_id: str, changes: dict[str, Any]) -> None:
    """Change `name`, `email`, `email_verified`, `locale` or `roles` (space separated)."""
    connection.execute(update(users).where(users.c.user_id == user_id).values(changes))


def set_password(connection: Connection, user_id: str, hashed: str, now: int, *, must_change: bool) -> None:
    """Replace the password."""
    connection.execute(
        update(users)
        .where(users.c.user_id == user_id)
        .values(password_hash=hashed, password_changed_at=now, must_change_password=must_change)
    )


def replace_hash(connection: Connection, user_id: str, before: str, after: str) -> None:
    """The same password under stronger parameters; nothing happens where it was changed meanwhile."""
    connection.execute(
        update(users).where(users.c.user_id == user_id, users.c.password_hash == before).values(password_hash=after)
    )


def set_user_disabled(connection: Connection, user_id: str, now: int | None) -> bool:
    """Disable (`now`) or enable (None); False where it was so already.

    Disabling starts a new generation: sessions and tokens of the old one are dead for good.
    """
    changes: dict[str, Any] = {"disabled_at": now}
    if now is not None:
        changes["generation"] = users.c.generation + 1
    otherwise = users.c.disabled_at.is_(None) if now is not None else users.c.disabled_at.is_not(None)
    changed = connection.execute(update(users).where(users.c.user_id == user_id, otherwise).values(changes))
    return changed.rowcount == 1


def user_of(row: Row[Any]) -> UserRecord:
    """The person of a row of `WITH_FACTORS`."""
    return UserRecord(
        user_id=row.user_id,
        username=row.username,
        name=row.name,
        email=row.email,
        email_verified=row.email_verified,
        locale=row.locale,
        roles=tuple(row.roles.split()),
        generation=row.generation,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        has_password=row.password_hash is not None,
        must_change_password=row.must_change_password,
        has_totp=row.totp_count > 0,
        passkeys=row.passkey_count,
        recovery_codes=row.code_count,
    )

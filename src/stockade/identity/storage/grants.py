"""Grants: what a user allowed a client once, and all that hangs on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, update

from stockade.identity.storage.revocations import RevocationKind, record_revocation
from stockade.identity.storage.schema import clients, grants, sessions, users

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row, Select, Table


@dataclass(frozen=True, slots=True)
class GrantRow:
    """`session_id` is None where the grant outlives its session. `expires_at` bounds everything issued under it."""

    grant_id: str
    client_id: str
    user_id: str
    session_id: str | None
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int


def insert_grant(connection: Connection, grant: GrantRow) -> None:
    """Store a new grant."""
    connection.execute(
        insert(grants).values(
            grant_id=grant.grant_id,
            client_id=grant.client_id,
            user_id=grant.user_id,
            session_id=grant.session_id,
            scopes=" ".join(grant.scopes),
            created_at=grant.created_at,
            expires_at=grant.expires_at,
        )
    )


def revoke_grant(connection: Connection, grant_id: str, now: float) -> int | None:
    """Revoke a grant with its code, refresh and access tokens, and tell the gateways.

    Returns the number in the revocation log; None when there was nothing left to revoke.
    """
    changed = connection.execute(
        update(grants).where(grants.c.grant_id == grant_id, grants.c.revoked_at.is_(None)).values(revoked_at=int(now))
    )
    return record_revocation(connection, RevocationKind.GRANT, grant_id, now) if changed.rowcount else None


def list_grants(connection: Connection, user_id: str, now: float) -> list[GrantRow]:
    """What a user has allowed and what still holds, newest first."""
    rows = connection.execute(
        select(grants)
        .where(grants.c.user_id == user_id, grants.c.revoked_at.is_(None), grants.c.expires_at > now)
        .order_by(grants.c.created_at.desc(), grants.c.grant_id)
    )
    return [
        GrantRow(
            row.grant_id,
            row.client_id,
            row.user_id,
            row.session_id,
            tuple(row.scopes.split()),
            row.created_at,
            row.expires_at,
        )
        for row in rows
    ]


def revoke_grants_of(connection: Connection, user_id: str, client_id: str, now: float) -> int:
    """Revoke all that a user allowed a client. Returns how many grants that were."""
    mine = [grant.grant_id for grant in list_grants(connection, user_id, now) if grant.client_id == client_id]
    for grant_id in mine:
        revoke_grant(connection, grant_id, now)
    return len(mine)


def revoke_lasting_grants(connection: Connection, user_id: str, now: float) -> int:
    """Revoke a user's grants that outlive their sessions (`offline_access`); the others end with those.

    RFC 9700 §4.14.2: who took over an account must not stay in it after its password was changed.
    """
    lasting = [grant.grant_id for grant in list_grants(connection, user_id, now) if grant.session_id is None]
    for grant_id in lasting:
        revoke_grant(connection, grant_id, now)
    return len(lasting)


def with_standing(table: Table) -> Select[Any]:
    """All of a code's or refresh token's row, and what tells whether its client, user, grant and session still hold.

    The row is locked where the database locks rows, so of two redemptions that race one sees what the other did.
    """
    return (
        select(
            table,
            clients.c.generation.label("live_client_generation"),
            clients.c.disabled_at.label("client_disabled_at"),
            users.c.generation.label("live_user_generation"),
            users.c.disabled_at.label("user_disabled_at"),
            grants.c.session_id.label("grant_session_id"),
            grants.c.revoked_at.label("grant_revoked_at"),
            grants.c.expires_at.label("grant_expires_at"),
            sessions.c.revoked_at.label("session_revoked_at"),
            sessions.c.expires_at.label("session_expires_at"),
        )
        .outerjoin(clients, clients.c.client_id == table.c.client_id)
        .outerjoin(users, users.c.user_id == table.c.user_id)
        .outerjoin(grants, grants.c.grant_id == table.c.grant_id)
        .outerjoin(sessions, sessions.c.session_id == table.c.session_id)
        .with_for_update(of=table)
    )


def stands(row: Row[Any], now: float) -> bool:
    """Whether all that a row of `with_standing` depends on still holds. What cannot be found counts as gone."""
    if row.session_id is not None and (
        row.session_revoked_at is not None or row.session_expires_at is None or row.session_expires_at <= now
    ):
        return False
    return bool(
        row.live_client_generation == row.client_generation
        and row.client_disabled_at is None
        and row.live_user_generation == row.user_generation
        and row.user_disabled_at is None
        and row.grant_revoked_at is None
        and row.grant_expires_at is not None
        and row.grant_expires_at > now
    )

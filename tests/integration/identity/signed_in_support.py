"""A person with a session, put into the database: for what comes after signing in."""

from __future__ import annotations

import secrets
import time
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import insert

from stockade.identity.storage.schema import sessions, users
from stockade.identity.storage.tokens import Authorization

if TYPE_CHECKING:
    from stockade.identity.storage import Storage


def make_person(storage: Storage, username: str | None = None, acr: str = "pwd") -> Authorization:
    """Somebody who signed in just now."""
    name, now = username or f"user-{secrets.token_hex(4)}", int(time.time())
    who = Authorization(
        user_id=f"u_{secrets.token_hex(10)}",
        user_generation=0,
        session_id=f"s_{secrets.token_hex(10)}",
        auth_time=now,
        acr=acr,
        amr=("pwd",),
    )
    with storage.write() as connection:
        connection.execute(
            insert(users).values(user_id=who.user_id, username_key=name, username=name, generation=0, created_at=now)
        )
        connection.execute(
            insert(sessions).values(
                session_id=who.session_id,
                digest=sha256(secrets.token_bytes(32)).digest(),
                user_id=who.user_id,
                user_generation=0,
                auth_time=now,
                acr=acr,
                amr="pwd",
                address="127.0.0.1",
                user_agent="test",
                created_at=now,
                last_seen_at=now,
                expires_at=now + 3_600,
            )
        )
    return who

"""Bringing a database to the schema of this program (Alembic): all of it in one transaction, or nothing.

Revisions are numbered: `0001` is the schema of version 1, before Alembic, known by `meta.schema_version`. A program
refuses a database with a number that it does not know. To add one, write `versions/000N_….py`, set HEAD, and let
tests/integration/identity/test_identity_migrations.py compare it with schema.py.

Alembic is imported only when there is something to do: the server need not carry it.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, MetaData, String, Table, delete, insert, inspect, select, update

from stockade.errors import StateError
from stockade.identity.storage.schema import audit_head, meta, metadata, revocation_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Engine

HEAD = "0002"
WAIT_SECONDS = 60
_ADVISORY_LOCK = 5715421
_BEFORE_ALEMBIC = {"1": "0001", "2": "0002"}
# As Alembic makes it.
_alembic_version = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


@dataclass(frozen=True, slots=True)
class Migrated:
    """What was done. `copy` is the SQLite database as it was before."""

    before: str
    after: str
    copy: Path | None

    def __str__(self) -> str:
        kept = f"; the one from before is `{self.copy}`" if self.copy else ""
        return f"the identity database is brought from schema {self.before} to {self.after}{kept}"


def bring_up_to_date(engine: Engine) -> Migrated | None:
    """Make the tables in an empty database, or migrate. None when nothing had to be migrated.

    Of several that start at once one does it and the others wait. A crash at any point leaves the old schema. Raises
    StateError with what to do; SQLAlchemyError when the database cannot be used.
    """
    with engine.connect() as connection:
        if _revision(connection) == HEAD:
            return None
    with _alone(engine) as connection:
        # Another process may have been faster while we waited for the lock.
        before = _revision(connection)
        if before == HEAD:
            return None
        if before is None:
            _create(connection)
            return None
        _refuse_newer(before)
        copy = _copy_before(engine, before)
        _upgrade(connection, before)
        return Migrated(before, HEAD, copy)


def refuse_other_schema(engine: Engine) -> None:
    """Raise StateError unless the schema is today's; nothing is changed."""
    with engine.connect() as connection:
        found = _revision(connection)
    if found != HEAD:
        raise StateError(
            f"the identity database has {f'schema {found}' if found else 'no tables'}, not {HEAD}",
            hint="`stockade up` brings it up to date",
        )


def _revision(connection: Connection) -> str | None:
    """Of the database as it is; None for an empty one."""
    tables = inspect(connection)
    if tables.has_table(_alembic_version.name):
        found = connection.execute(select(_alembic_version.c.version_num)).scalar()
        if found is not None:
            return str(found)
    if not tables.has_table(meta.name):
        return None
    version = connection.execute(select(meta.c.value).where(meta.c.name == "schema_version")).scalar()
    return _BEFORE_ALEMBIC.get(str(version), f"of version {version}")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """One transaction that keeps every other migration, and on SQLite every other writer, out. It takes its time."""
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - the driver that engine.py chose
            (patience,) = raw.execute("PRAGMA busy_timeout").fetchone()
            raw.execute(f"PRAGMA busy_timeout={WAIT_SECONDS * 1000}")
            connection.execution_options(stockade_write=True)
            with connection.begin():
                yield connection
            raw.execute(f"PRAGMA busy_timeout={patience}")
            return
        with connection.begin():
            for setting in (f"lock_timeout = '{WAIT_SECONDS}s'", "statement_timeout = 0"):
                connection.exec_driver_sql(f"SET LOCAL {setting}")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})")
            yield connection


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    connection.execute(insert(meta).values(name="schema_version", value=str(int(HEAD))))
    connection.execute(insert(revocation_head).values(id=1, epoch=secrets.token_hex(12), sequence=0, floor=0))
    connection.execute(insert(audit_head).values(id=1, sequence=0, digest=bytes(32)))
    _stamp(connection, HEAD)


def _refuse_newer(revision: str) -> None:
    if revision.isdecimal() and int(revision) < int(HEAD):
        return
    raise StateError(
        f"the identity database has schema {revision}, and this Stockade knows up to {HEAD}",
        hint="use the newer Stockade that made it, or restore the copy that it left beside it: `….before-…`",
    )


def _upgrade(connection: Connection, before: str) -> None:
    from alembic.migration import MigrationContext  # noqa: PLC0415 - see the module
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    _stamp(connection, before)
    scripts = ScriptDirectory(str(Path(__file__).parent))
    context = MigrationContext.configure(
        connection,
        opts={"fn": lambda revision, _: scripts._upgrade_revs(HEAD, revision), "script": scripts},  # noqa: SLF001
    )
    with Operations.context(context):
        context.run_migrations()
    # Programs from before Alembic look here, and refuse.
    connection.execute(update(meta).where(meta.c.name == "schema_version").values(value=str(int(HEAD))))


def _stamp(connection: Connection, revision: str) -> None:
    _alembic_version.create(connection, checkfirst=True)
    connection.execute(delete(_alembic_version))
    connection.execute(insert(_alembic_version).values(version_num=revision))


def _copy_before(engine: Engine, before: str) -> Path | None:
    """A copy of the SQLite file beside it, whole or not at all: the way back. The lock is held, so nothing changes."""
    if engine.dialect.name != "sqlite" or engine.url.database is None:
        return None
    path = Path(engine.url.database)
    copy = path.with_name(f"{path.name}.before-{HEAD}")
    temporary = copy.with_name(f".{copy.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(temporary)) as target:
            source.backup(target)
            # One file, without a log beside it.
            target.execute("PRAGMA journal_mode=DELETE")
        temporary.replace(copy)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StateError(
            f"cannot copy the identity database before it is brought from schema {before} to {HEAD}",
            hint=f"`{copy}` needs {path.stat().st_size >> 20} MiB of free space; the database is as it was",
        ) from error
    return copy

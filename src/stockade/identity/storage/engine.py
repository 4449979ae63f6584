"""Opening the database, and the two kinds of transaction.

SQLite runs with a write-ahead log and `synchronous=FULL`: a token that was answered, a revocation that was
acknowledged and an assertion that was used survive a power cut. Group commit (lanes.py) makes that affordable.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from stockade.errors import StateError
from stockade.identity.errors import StorageUnavailable
from stockade.identity.storage.migrations import Migrated, bring_up_to_date, refuse_other_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import URL

BUSY_TIMEOUT_MS = 3_000


# A transaction of ours does the work of many callers (lanes.py) and locks rows in whatever order they came: two servers
# at once would soon wait for each other, and PostgreSQL takes a second to notice. One writes at a time, as with SQLite.
_ONE_WRITER = text("SELECT pg_advisory_xact_lock(5715422)")


@dataclass(frozen=True, slots=True)
class Storage:
    """An open database. Any number of processes may hold one; each transaction stands for itself."""

    engine: Engine
    migrated: Migrated | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent snapshot. Raises StorageUnavailable."""
        with _translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed when the block ends. Raises StorageUnavailable: then nothing was kept."""
        with _translated(), self.engine.connect() as connection:
            connection.execution_options(stockade_write=True)
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(_ONE_WRITER)
                yield connection

    def close(self) -> None:
        """Give every connection back."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_storage(database_url: str, *, as_it_is: bool = False) -> Storage:
    """Open the database; make its tables if it has none, migrate it if it has older ones (`Storage.migrated`).

    `sqlite:///PATH` (the file is made with mode 0600) or `postgresql://…`. `as_it_is` changes nothing, and refuses
    what would need it. Raises StateError with what to do.
    """
    url = _parse(database_url)
    storage = Storage(_sqlite(url) if url.get_backend_name() == "sqlite" else _postgresql(url))
    try:
        with _translated():
            if as_it_is:
                refuse_other_schema(storage.engine)
                return storage
            migrated = bring_up_to_date(storage.engine)
    except StorageUnavailable as error:
        storage.close()
        raise StateError(
            f"the identity database cannot be used: {error.reason}", hint="check its path, rights and free space"
        ) from error
    except StateError:
        storage.close()
        raise
    return replace(storage, migrated=migrated)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's trouble into ours. A broken constraint is the caller's question, not trouble."""
    try:
        yield
    except IntegrityError:
        raise
    except SQLAlchemyError as error:
        # hide_parameters keeps bound values out of the message; the driver's own line names no data either.
        reason = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
        raise StorageUnavailable(reason) from error


def _parse(database_url: str) -> URL:
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise StateError("`database_url` is not a database URL") from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise StateError("`database_url` must be `sqlite:///PATH` or `postgresql://…`")
    return url


def _sqlite(url: URL) -> Engine:
    if url.database is None:
        raise StateError("`database_url` names no file")
    _create_private(url.database)
    engine = create_engine(url, hide_parameters=True, pool_size=4, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: object) -> None:
        # The driver's own transactions start lazily and as readers; ours start explicitly (see `_begin`).
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the lock at once: upgrading a reader later fails without waiting.
        writes = connection.get_execution_options().get("stockade_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _create_private(path: str | Path) -> None:
    """SQLite gives its journals the mode of the database file, so that is made first and closed to others."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StateError(
            f"cannot open the identity database `{path}`: {error.strerror}", hint="check the folder and its rights"
        ) from error


def _postgresql(url: URL) -> Engine:
    try:
        return create_engine(
            url,
            hide_parameters=True,
            pool_size=8,
            pool_pre_ping=True,
            pool_timeout=BUSY_TIMEOUT_MS / 1000,
            connect_args={
                "connect_timeout": 3,
                "options": f"-c statement_timeout=5000 -c lock_timeout={BUSY_TIMEOUT_MS} -c synchronous_commit=on",
            },
        )
    except (ImportError, NoSuchModuleError) as error:
        raise StateError("PostgreSQL needs a driver", hint="pip install 'stockade[postgresql]'") from error

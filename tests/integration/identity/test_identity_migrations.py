"""Databases of version 1 go on under this program, on both engines; what cannot be migrated stays as it is."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schema_version_1
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from identity_support import (
    AUDIENCE,
    SOURCE,
    assert_with,
    assertion,
    basic,
    introspect,
    jwks_of,
    signing_key,
)
from sqlalchemy import MetaData, column, create_engine, func, insert, inspect, select, table, update
from sqlalchemy.engine import make_url

from stockade.errors import StateError
from stockade.identity import admin, audit
from stockade.identity.credentials import Kind, digest, generate
from stockade.identity.keys.keyring import ensure_keys
from stockade.identity.keys.seal import load_seal
from stockade.identity.storage import migrations, open_storage
from stockade.identity.storage.engine import Storage
from stockade.identity.storage.schema import metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from identity_support import Cluster, Server
    from sqlalchemy import Connection, Engine

FOLDER = Path(migrations.__file__).parent
TABLES_OF_1 = set(schema_version_1.metadata.tables)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'identity.db'}"
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.database(f"m{secrets.token_hex(4)}")


def engine_of(database_url: str) -> Engine:
    return create_engine(make_url(database_url.replace("postgresql:", "postgresql+psycopg:")))


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = engine_of(database_url)
    yield made
    made.dispose()


def make_version_1(engine: Engine) -> None:
    """As that version's `open_storage` did."""
    with engine.begin() as connection:
        schema_version_1.metadata.create_all(connection)
        connection.execute(insert(schema_version_1.meta).values(name="schema_version", value="1"))
        head = {"id": 1, "epoch": "e" * 24, "sequence": 7, "floor": 3}
        connection.execute(insert(schema_version_1.revocation_head).values(**head))


def fill(connection: Connection, keys: dict[str, Any]) -> dict[str, str]:
    """Clients, tokens and an API key as version 1 stored them. Returns the secrets."""
    now = int(time.time())
    texts = {
        "secret": generate(Kind.CLIENT_SECRET),
        "token": generate(Kind.ACCESS_TOKEN),
        "revoked": generate(Kind.ACCESS_TOKEN),
        "api_key": generate(Kind.API_KEY),
    }
    digests = {name: digest(text) for name, text in texts.items()}
    common = {"scopes": "orders:read", "generation": 0, "created_at": now}
    old = schema_version_1
    connection.execute(
        insert(old.clients),
        [
            {"client_id": "c_old", "name": "old", "auth_method": "client_secret_basic", "jwks": None, **common},
            {"client_id": "c_jwt", "name": "jwt", "auth_method": "private_key_jwt", "jwks": json.dumps(keys), **common},
        ],
    )
    connection.execute(insert(old.client_secrets).values(digest=digests["secret"], client_id="c_old", created_at=now))
    token = {
        "client_id": "c_old", "generation": 0, "scopes": "orders:read", "audience": AUDIENCE, "issued_at": now,
        "expires_at": now + 600,
    }  # fmt: skip
    connection.execute(
        insert(old.access_tokens),
        [
            {**token, "digest": digests["token"], "jti": "t1", "revoked_at": None},
            {**token, "digest": digests["revoked"], "jti": "t2", "revoked_at": now},
        ],
    )
    connection.execute(
        insert(old.api_keys).values(
            digest=digests["api_key"], key_id="k_old", client_id="c_old", name="k", scopes="", created_at=now
        )
    )
    connection.execute(insert(old.used_assertions).values(digest=digest("c_jwt\0once"), expires_at=now + 600))
    return texts


def test_what_version_1_gave_out_goes_on_working(
    make_server: Callable[..., Server], database_url: str, engine: Engine
) -> None:
    server = make_server(database_url=database_url)
    make_version_1(engine)
    key = signing_key(kid="k")
    seal = load_seal_of(server)
    kid = ensure_keys(Storage(engine), seal, int(time.time())).kid
    with engine.begin() as connection:
        texts = fill(connection, jwks_of(key))
    with server.start().outside() as http, server.gateway() as gateway:
        assert [line["event"] for line in server.log_lines()].count("database_migrated") == 1
        assert introspect(gateway, texts["token"])["client_id"] == "c_old"
        assert introspect(gateway, texts["revoked"]) == {"active": False}
        assert introspect(gateway, texts["api_key"])["jti"] == "k_old"
        form = {"grant_type": "client_credentials"}
        assert http.post("/oauth2/token", data=form, headers=basic("c_old", texts["secret"])).status_code == 200
        assert assert_with(http, assertion(server, "c_jwt", key, jti="twice")).status_code == 200
        assert assert_with(http, assertion(server, "c_jwt", key, jti="once")).status_code == 401
        assert kid in [one["kid"] for one in http.get("/oauth2/jwks").json()["keys"]]
        news = gateway.get("/internal/revocations", params={"after": 7, "epoch": "e" * 24}).json()
        assert (news["reset"], news["sequence"]) == (False, 7)
    with server.storage() as storage:
        assert storage.migrated is None
        admin.create_client(storage, "new", ["orders:read"])
        with storage.read() as connection:
            assert audit.verify(connection)[0] == 1


def load_seal_of(server: Server) -> Any:
    from stockade.identity.config import KeyEncryptionKey

    return load_seal(KeyEncryptionKey(file=server.folder / "kek"))


def test_revision_1_is_the_schema_that_version_1_had(engine: Engine) -> None:
    with engine.begin() as connection:
        run_revisions(connection, "0001")
        assert differences(connection, schema_version_1.metadata) == []


@pytest.mark.parametrize("start", ["nothing", "version 1"])
def test_migrations_lead_to_the_schema_that_is_declared(engine: Engine, start: str) -> None:
    if start == "version 1":
        make_version_1(engine)
        migrations.bring_up_to_date(engine)
    else:
        with engine.begin() as connection:
            run_revisions(connection, migrations.HEAD)
    with engine.begin() as connection:
        assert differences(connection, metadata) == []
        migrated = shape(connection)
        drop_all(connection)
    migrations.bring_up_to_date(engine)
    with engine.begin() as connection:
        assert shape(connection) == migrated


def test_the_newest_revision_is_the_one_that_the_program_wants() -> None:
    scripts = ScriptDirectory(str(FOLDER))
    assert scripts.get_current_head() == migrations.HEAD
    assert [script.revision for script in scripts.walk_revisions()] == sorted(
        (script.revision for script in scripts.walk_revisions()), reverse=True
    )


def run_revisions(connection: Connection, target: str) -> None:
    scripts = ScriptDirectory(str(FOLDER))
    context = MigrationContext.configure(
        connection, opts={"fn": lambda revision, _: scripts._upgrade_revs(target, revision), "script": scripts}
    )
    with Operations.context(context):
        context.run_migrations()


def differences(connection: Connection, wanted: MetaData) -> list[Any]:
    # Defaults are compared by `shape`: Alembic takes DEFAULT '' for a difference on SQLite.
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), wanted))


def shape(connection: Connection) -> dict[str, Any]:
    """What `compare_metadata` does not look at as well: primary keys, uniqueness, and SQLite's table options."""
    found = inspect(connection)
    tables = sorted(found.get_table_names())
    described = {
        name: {
            "columns": sorted(
                (one["name"], str(one["type"]), one["nullable"], one["default"]) for one in found.get_columns(name)
            ),
            "key": found.get_pk_constraint(name)["constrained_columns"],
            "unique": sorted(str(one["column_names"]) for one in found.get_unique_constraints(name)),
            "foreign": sorted(str(one["constrained_columns"]) for one in found.get_foreign_keys(name)),
            "indexes": sorted(str((one["name"], one["column_names"])) for one in found.get_indexes(name)),
        }
        for name in tables
    }
    if connection.dialect.name == "sqlite":
        for name in tables:
            sql = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (name,)).scalar_one()
            described[name]["without rowid"] = "WITHOUT ROWID" in sql
    return described


def drop_all(connection: Connection) -> None:
    found = MetaData()
    found.reflect(connection)
    found.drop_all(connection)


def test_a_copy_is_kept_and_closed_to_others(tmp_path: Path) -> None:
    engine = engine_of(f"sqlite:///{tmp_path / 'identity.db'}")
    make_version_1(engine)
    with engine.begin() as connection:
        fill(connection, {"keys": []})
    engine.dispose()
    with open_storage(f"sqlite:///{tmp_path / 'identity.db'}") as storage:
        assert storage.migrated is not None
        copy = storage.migrated.copy
    assert copy == tmp_path / "identity.db.before-0002"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with sqlite3.connect(copy) as connection:
        assert connection.execute("SELECT value FROM meta").fetchall() == [("1",)]
        assert connection.execute("SELECT count(*) FROM access_tokens").fetchone() == (2,)
    connection.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity.db", "identity.db.before-0002"]


def test_without_room_for_the_copy_nothing_is_changed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'identity.db'}"
    engine = engine_of(url)
    make_version_1(engine)
    engine.dispose()
    (tmp_path / ".identity.db.before-0002.new").mkdir()
    with pytest.raises(StateError, match="cannot copy"):
        open_storage(url)
    (tmp_path / ".identity.db.before-0002.new").rmdir()
    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == TABLES_OF_1
    engine.dispose()
    with open_storage(url) as storage:
        assert storage.migrated is not None


@pytest.mark.parametrize("number", ["0003", "9999", "ae1027a6acf"])
def test_a_newer_database_is_refused_and_left_alone(database_url: str, engine: Engine, number: str) -> None:
    open_storage(database_url).close()
    with engine.begin() as connection:
        connection.execute(update(table("alembic_version", column("version_num"))).values(version_num=number))
    with pytest.raises(StateError, match=number) as refused:
        open_storage(database_url)
    assert "newer Stockade" in (refused.value.hint or "")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == number


def test_version_1_refuses_what_was_migrated(database_url: str, engine: Engine) -> None:
    """It looks into `meta` alone."""
    make_version_1(engine)
    open_storage(database_url).close()
    with engine.connect() as connection:
        version = connection.exec_driver_sql("SELECT value FROM meta WHERE name = 'schema_version'").scalar()
    assert version != "1"


def test_of_many_that_open_it_at_once_one_migrates(database_url: str, engine: Engine) -> None:
    make_version_1(engine)

    def migrate(_: int) -> bool:
        with open_storage(database_url) as storage:
            return storage.migrated is not None

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(migrate, range(6))) == [False] * 5 + [True]


KILLED_AT = """
import os, signal, sys
from sqlalchemy import Engine, event
from stockade.identity.storage import open_storage

url, last = sys.argv[1], int(sys.argv[2])
done = 0

def die():
    print("dying", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

@event.listens_for(Engine, "after_cursor_execute")
def count(connection, cursor, statement, *_):
    global done
    if statement.lstrip().upper().startswith(("CREATE", "ALTER", "INSERT", "UPDATE", "DELETE")):
        done += 1
        if done == last:
            die()

@event.listens_for(Engine, "commit")
def committing(connection):
    if last < 0 and done:
        die()

open_storage(url).close()
print("done", done, flush=True)
"""


def test_a_crash_in_the_middle_leaves_the_old_schema(database_url: str, engine: Engine) -> None:
    """Killed after the first statement, somewhere, and after the last one but before the commit."""
    make_version_1(engine)
    with engine.begin() as connection:
        fill(connection, {"keys": []})
    for last in (1, 9, 30, -1):
        ended = open_and_die(database_url, last)
        assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "dying\n"), ended.stderr
        with engine.connect() as connection:
            assert set(inspect(connection).get_table_names()) == TABLES_OF_1
            assert differences(connection, schema_version_1.metadata) == []
            assert connection.scalar(select(func.count()).select_from(schema_version_1.access_tokens)) == 2
    with open_storage(database_url) as storage:
        assert storage.migrated is not None


def open_and_die(database_url: str, last: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED_AT, database_url, str(last)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        timeout=60,
        check=False,
    )


def test_a_start_without_work_does_not_import_alembic(tmp_path: Path) -> None:
    """It would cost every start and every idle server."""
    program = (
        "import sys; from stockade.identity.storage import open_storage;"
        f"[open_storage('sqlite:///{tmp_path / 'identity.db'}').close() for _ in range(2)];"
        "print('alembic' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert said.stdout == "False\n"

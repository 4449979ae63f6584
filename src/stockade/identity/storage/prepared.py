"""Statements of the hot path: written with SQLAlchemy, compiled once, run by the driver itself.

SQLAlchemy's own execution costs several times what SQLite takes for the statement. What it would do besides (types,
result metadata, events) these statements do not need: their columns hold text, integers, floats and bytes, which both
drivers hand over as they are.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection, Executable
    from sqlalchemy.sql.compiler import SQLCompiler


class Prepared:
    """One statement with `bindparam`s, of other names than the columns that it sets.

    Rows are named tuples with the columns' names. The connection's transaction is used; errors are SQLAlchemy's.
    """

    __slots__ = ("_columns", "_compiled", "_statement")

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        """`columns` are those that an INSERT sets, each from a parameter of its name."""
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def one_or_none(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """The only row, or None. The statement must not give more."""
        compiled = self._for(connection)
        cursor = compiled.execute(connection, parameters)
        row = cursor.fetchone()
        cursor.close()
        return None if row is None else compiled.row(*row)

    def all(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """All rows."""
        compiled = self._for(connection)
        cursor = compiled.execute(connection, parameters)
        rows = cursor.fetchall()
        cursor.close()
        return [compiled.row(*row) for row in rows]

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Run what gives no rows. Returns how many it touched."""
        cursor = self._for(connection).execute(connection, parameters)
        count: int = cursor.rowcount
        cursor.close()
        return count

    def _for(self, connection: Connection) -> _Compiled:
        name = connection.dialect.name
        if name not in self._compiled:
            self._compiled[name] = _Compiled(
                self._statement.compile(dialect=connection.dialect, column_keys=self._columns)  # type: ignore[attr-defined]
            )
        return self._compiled[name]


class _Compiled:
    """For one database. Immutable: two threads that make it at once make the same."""

    def __init__(self, compiled: SQLCompiler) -> None:
        self._text = str(compiled)
        self._order = tuple(compiled.positiontup) if compiled.positional and compiled.positiontup is not None else None
        self._fixed = {key: value for key, value in compiled.params.items() if value is not None}
        names = [entry.keyname for entry in compiled._result_columns]  # noqa: SLF001 - nothing public names them
        # The names are known only now.
        self.row: Callable[..., Any] = namedtuple("Row", names)  # type: ignore[misc]  # noqa: PYI024

    def execute(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """Run it in the connection's transaction and return the driver's cursor."""
        values = {**self._fixed, **parameters} if self._fixed else parameters
        cursor = connection.connection.cursor()
        driver = connection.dialect.loaded_dbapi
        try:
            cursor.execute(self._text, [values[name] for name in self._order] if self._order is not None else values)
        except driver.Error as error:
            cursor.close()
            raise DBAPIError.instance(
                self._text, None, error, driver.Error, hide_parameters=True, dialect=connection.dialect
            ) from error
        return cursor

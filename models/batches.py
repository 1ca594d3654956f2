"""Many rows in one statement, past the ORM: what a drain reads and writes. Knows no table of its own.

PostgreSQL gets one array for each column, written here since the driver takes ten times as long for it; SQLite gets
one prepared statement for all rows. Values are stored just as the ORM stores them: by the column types' processors.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    LargeBinary,
    Table,
    Uuid,
    any_,
    cast,
    literal,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import NullType
from sqlmodel import Session, col

from models.database import Record

Row = Mapping[str, Any]


def insert_many(session: Session, model: type[Record], rows: Sequence[Row]) -> None:
    """Insert rows that all name the same columns: every one of the table that may not be NULL."""
    if rows:
        names = tuple(rows[0])
        connection = session.connection()
        _run(connection, _insert(_table(model), names, connection.dialect.name), _table(model), names, rows)


def update_many(
    session: Session,
    model: type[Record],
    rows: Sequence[Row],
    *,
    where: Sequence[str] = (),
    keep: Sequence[str] = (),
    also: str = "",
) -> int:
    """Update rows that all name the same columns, found by `id` and by the columns in `where`; how many were found.

    Of the columns in `keep` a None leaves what is stored. `also` is SQL of ours that changes others.
    """
    if not rows:
        return 0
    names, table, connection = tuple(rows[0]), _table(model), session.connection()
    statement = _update(table, names, ("id", *where), tuple(keep), also, connection.dialect.name)
    return _run(connection, statement, table, names, rows)


def among(session: Session, column: Any, ids: Iterable[uuid.UUID]) -> ColumnElement[bool]:
    """Whether a column of ids holds one of many.

    On PostgreSQL they are one parameter, so that the statement is the same whatever their number: it is prepared and
    planned once. SQLite gains nothing by that. The parameter has no type of its own, since a text would be cast anew
    for every row that is looked at.
    """
    if session.get_bind().dialect.name != "postgresql":
        return col(column).in_(list(ids))
    array = literal(f"{{{','.join(map(str, ids))}}}", NullType())
    return col(column) == any_(cast(array, postgresql.ARRAY(Uuid)))


def _run(connection: Connection, statement: str, table: Table, names: tuple[str, ...], rows: Sequence[Row]) -> int:
    columns = [_stored(table, name, connection.dialect, [row[name] for row in rows]) for name in names]
    if connection.dialect.name == "postgresql":
        found = connection.exec_driver_sql(statement, tuple(f"{{{','.join(map(_literal, each))}}}" for each in columns))
    else:
        found = connection.exec_driver_sql(statement, list(zip(*columns, strict=True)))
    return found.rowcount


def _stored(table: Table, name: str, dialect: Dialect, values: list[Any]) -> list[Any]:
    process = _processor(table, name, dialect)
    return values if process is None else [process(value) for value in values]


@lru_cache(maxsize=512)
def _processor(table: Table, name: str, dialect: Dialect) -> Callable[[Any], Any] | None:
    kind = table.c[name].type
    return None if isinstance(kind, LargeBinary) else kind.dialect_impl(dialect).bind_processor(dialect)


@lru_cache(maxsize=64)
def _insert(table: Table, names: tuple[str, ...], dialect: str) -> str:
    columns = ", ".join(names)
    if dialect == "postgresql":
        return f"INSERT INTO {table.name} ({columns}) SELECT * FROM {_arrays(table, names)}"  # noqa: S608  # our names
    return f"INSERT INTO {table.name} ({columns}) VALUES ({_places(names)})"  # noqa: S608  # as above


@lru_cache(maxsize=64)
def _update(
    table: Table, names: tuple[str, ...], where: tuple[str, ...], keep: tuple[str, ...], also: str, dialect: str
) -> str:
    """Both read the values as `new`; SQLite has UPDATE … FROM since 3.33."""
    news = {name: f"coalesce(new.{name}, {table.name}.{name})" if name in keep else f"new.{name}" for name in names}
    changes = ", ".join([*(f"{name} = {news[name]}" for name in names if name not in where), *filter(None, [also])])
    found = " AND ".join(f"{table.name}.{name} = new.{name}" for name in where)
    if dialect == "postgresql":
        source = f"{_arrays(table, names)} AS new ({', '.join(names)})"
    else:
        source = f"(SELECT {', '.join(f'? AS {name}' for name in names)}) AS new"
    return f"UPDATE {table.name} SET {changes} FROM {source} WHERE {found}"  # noqa: S608  # our own names


def _arrays(table: Table, names: tuple[str, ...]) -> str:
    kinds = [table.c[name].type.compile(postgresql.dialect()) for name in names]  # type: ignore[no-untyped-call]
    return f"unnest({', '.join(f'%s::{kind}[]' for kind in kinds)})"


def _literal(value: Any) -> str:
    """One element of an array (PostgreSQL manual 8.15.2, 8.4.1)."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return f'"{value}"'


def _places(names: tuple[str, ...]) -> str:
    return ", ".join("?" for _ in names)


def _table(model: type[Record]) -> Table:
    table = model.metadata.tables[str(model.__tablename__)]
    assert isinstance(table, Table)
    return table

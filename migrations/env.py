"""Runs migrations on the database of the settings; started by `flask db upgrade` only."""

from __future__ import annotations

from typing import Literal

from alembic import context
from sqlalchemy import Connection
from sqlmodel import AutoString

from models import Record
from models.types import UtcDateTime, Words


def run(connection: Connection) -> None:
    """Migrate over `connection`.

    SQLite alters a table by copying it, and with foreign keys on, dropping the old copy would take the
    children along: they are off meanwhile and checked afterwards.
    """
    if connection.dialect.name != "sqlite":
        _migrate(connection)
        return
    _watch_references(connection, "OFF")
    try:
        _migrate(connection)
    finally:
        connection.rollback()
        _watch_references(connection, "ON")


def _migrate(connection: Connection) -> None:
    sqlite = connection.dialect.name == "sqlite"
    context.configure(
        connection=connection,
        target_metadata=Record.metadata,
        render_as_batch=sqlite,
        transactional_ddl=True,  # SQLite can, once transactions begin where ours do
        compare_type=True,
        render_item=plain_type,
    )
    with context.begin_transaction():
        context.run_migrations()
        if sqlite:
            _refuse_broken_references(connection)
    connection.commit()


def _watch_references(connection: Connection, on_or_off: str) -> None:
    """Switch foreign keys, past SQLAlchemy: it would begin a transaction first, and inside one SQLite ignores this."""
    driver = connection.connection.driver_connection
    assert driver is not None and not connection.in_transaction()
    driver.execute(f"PRAGMA foreign_keys={on_or_off}")


def plain_type(kind: str, item: object, _autogen: object) -> str | Literal[False]:
    """Migrations name plain database types, so that they run as written whatever becomes of ours."""
    if kind == "type" and isinstance(item, Words):
        return "sa.String(40)"
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, AutoString):
        return f"sa.String({item.length})" if item.length else "sa.Text()"
    return False


def _refuse_broken_references(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise RuntimeError(f"the migration would break {len(broken)} references; nothing was changed")


run(context.config.attributes["connection"])

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
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.commit()
    context.configure(
        connection=connection,
        target_metadata=Record.metadata,
        render_as_batch=sqlite,
        compare_type=True,
        render_item=plain_type,
    )
    with context.begin_transaction():
        context.run_migrations()
        if sqlite:
            _refuse_broken_references(connection)
    if sqlite:
        connection.commit()
        connection.exec_driver_sql("PRAGMA foreign_keys=ON")


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

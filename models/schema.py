"""The schema's version: bring a database up to date, and tell whether it is."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

FOLDER = Path(__file__).resolve().parent.parent / "migrations"


def upgrade(engine: Engine) -> None:
    """Run every migration the database has not had yet; nothing where newer code has been at it."""
    config = _config()
    if _is_ahead(_current(engine)):
        return
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def pending(engine: Engine) -> bool:
    """Whether migrations are missing.

    None are where newer code has migrated already: what it adds, this code works without, so that old and new
    processes can run side by side while a new version is put in place.
    """
    current = _current(engine)
    return current != _head() and not _is_ahead(current)


def _current(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


@cache
def _head() -> str | None:
    """The newest migration this code has; read once, since the code of a process does not change."""
    return ScriptDirectory.from_config(_config()).get_current_head()


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _is_ahead(current: str | None) -> bool:
    """Whether the database is at a migration this code does not have."""
    return current is not None and current not in _known()


def draft(engine: Engine, message: str) -> None:
    """Write a new migration from the difference between the models and the database (for maintainers)."""
    config = _config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.revision(config, message=message, autogenerate=True)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    return config

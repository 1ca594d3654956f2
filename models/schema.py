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
    """Run every migration the database has not had yet."""
    config = _config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def pending(engine: Engine) -> bool:
    """Whether migrations are missing."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    return current != _head()


@cache
def _head() -> str | None:
    """The newest migration this code has; read once, since the code of a process does not change."""
    return ScriptDirectory.from_config(_config()).get_current_head()


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

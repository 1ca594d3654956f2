"""`flask db …`."""

from __future__ import annotations

from flask.cli import AppGroup

from commands.console import Report, reporting
from models import schema
from services.resources import Resources

db = AppGroup("db", help="The database.")


@db.command("upgrade")
@reporting
def upgrade(resources: Resources) -> Report:
    """Bring the database up to date; running processes may go on meanwhile."""
    engine = resources.database.engine
    was_pending = schema.pending(engine)
    schema.upgrade(engine)
    words = "The database is up to date now." if was_pending else "The database was up to date already."
    return Report(words, {"changed": was_pending})

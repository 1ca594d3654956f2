"""The operator's commands: parse, call a service, print. Attached to Flask's own command line."""

from __future__ import annotations

from flask import Flask

from commands import database, people, processes


def init_app(app: Flask) -> None:
    """Attach every command."""
    for command in (
        people.setup,
        people.users,
        people.workspaces,
        database.db,
        processes.worker,
        processes.scheduler,
    ):
        app.cli.add_command(command)

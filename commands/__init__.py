"""The operator's commands: parse, call a service, print. Attached to Flask's own command line."""

from __future__ import annotations

from flask import Flask

from commands import database, doctor, keys, pausing, people, processes, tokens


def init_app(app: Flask) -> None:
    """Attach every command."""
    for command in (
        people.setup,
        people.users,
        people.workspaces,
        database.db,
        processes.worker,
        processes.scheduler,
        tokens.group,
        pausing.group,
        keys.group,
        doctor.examine,
    ):
        app.cli.add_command(command)

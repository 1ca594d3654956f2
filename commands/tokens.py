"""`flask tokens …`."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import click
from flask.cli import AppGroup
from sqlmodel import Session

from commands.console import Report, reporting
from commands.telling import Telling
from models import Connection
from models.types import utc_now
from services.audit import COMMAND_LINE
from services.errors import InvalidInput, NotFound, Refused
from services.operating import bulk, overview, refreshes
from services.operating.overview import Filter, OverviewRow
from services.people import workspaces
from services.resources import Resources
from workers import queue

group = AppGroup("tokens", help="Tokens of all workspaces.")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@group.command("refresh")
@click.option("--connection", metavar="ID", help="One connection.")
@click.option("--workspace", metavar="NAME", help="Every connection of a workspace.")
@click.option("--due-within", metavar="TIME", help="Every connection due within 90s, 15m, 1h or 2d.")
@click.option("--all", "everything", is_flag=True, help="Every connection.")
@click.option("--no-wait", is_flag=True, help="Return as soon as they are due, before they are refreshed.")
@reporting
def refresh(
    resources: Resources,
    connection: str | None,
    workspace: str | None,
    due_within: str | None,
    everything: bool,
    no_wait: bool,
) -> Report:
    """Have tokens refreshed now, before everything scheduled, and tell how it goes until all are done.

    Ctrl-C ends the telling and nothing else.
    """
    if sum((connection is not None, workspace is not None, due_within is not None, everything)) != 1:
        raise Refused("Say which: one of --connection ID, --workspace NAME, --due-within TIME, --all.")
    with resources.database.session() as session:
        wanted = _wanted(session, connection, workspace, due_within)
    telling = Telling(resources)
    try:
        telling.started = bulk.ask(resources, wanted, None, COMMAND_LINE, told=telling.hear)
        rung = queue.ring(resources)
        if not no_wait:
            telling.follow()
    except KeyboardInterrupt:
        return telling.interrupted()
    return telling.ended(rung=rung)


@group.command("cancel")
@click.argument("bulks", nargs=-1, required=True, type=click.UUID, metavar="ID...")
@reporting
def cancel(resources: Resources, bulks: tuple[uuid.UUID, ...]) -> Report:
    """Take back what `refresh` asked for, as far as it was not sent yet."""
    said = {bulk_id: bulk.cancel(resources, bulk_id, None, COMMAND_LINE) for bulk_id in bulks}
    data = {str(bulk_id): found.taken_back for bulk_id, found in said.items()}
    return Report("\n".join(found.words for found in said.values()), {"cancelled": data})


@group.command("status")
@reporting
def status(resources: Resources) -> Report:
    """Every connection with its state, its next refresh and what is wrong with it."""
    with resources.database.session() as session:
        rows = list(overview.every(session, Filter()))
    depth = queue.depth(resources)
    lines = [_line(row) for row in rows]
    lines.append(f"{len(rows)} connections; {'Redis cannot be reached' if depth is None else f'{depth} jobs waiting'}.")
    return Report("\n".join(lines), {"connections": [_as_data(row) for row in rows], "queue_depth": depth})


def seconds(text: str) -> float:
    """`90s`, `15m`, `1h` or `2d` in seconds. Raises InvalidInput."""
    match = re.fullmatch(r"(\d{1,6})([smhd])", text.strip().lower())
    if match is None:
        raise InvalidInput({"due_within": f"{text[:20]!r} is no time; write 90s, 15m, 1h or 2d."})
    return float(match[1]) * UNITS[match[2]]


def _wanted(session: Session, connection: str | None, workspace: str | None, due_within: str | None) -> Filter:
    """What the options select; everything without any. Raises NotFound, InvalidInput."""
    if connection is not None:
        return Filter(connection_ids=frozenset({_named(session, connection).id}))
    if workspace is not None:
        return Filter(workspace_id=workspaces.named(session, workspace).id)
    if due_within is not None:
        return Filter(due_until=utc_now() + timedelta(seconds=seconds(due_within)))
    return Filter()


def _named(session: Session, text: str) -> Connection:
    try:
        found = refreshes.named(session, [uuid.UUID(text)])
    except ValueError:
        found = []
    if not found:
        raise NotFound(f"There is no connection with the id {text[:40]}.")
    return found[0]


def _line(row: OverviewRow) -> str:
    due = row.token.next_refresh_at
    when = f", next refresh {due:%Y-%m-%d %H:%M:%S} UTC" if due else ""
    failure = f". {row.connection.failure_reason}" if row.connection.failure_reason else ""
    return f"{row.workspace.name} / {row.connection.name}: {row.connection.state.shown}{when}{failure}"


def _as_data(row: OverviewRow) -> dict[str, object]:
    return {
        "id": row.connection.id,
        "workspace": row.workspace.name,
        "name": row.connection.name,
        "state": row.connection.state.value,
        "shown": row.connection.state.shown,
        "expires_at": row.token.expires_at and row.token.expires_at.isoformat(),
        "next_refresh_at": row.token.next_refresh_at and row.token.next_refresh_at.isoformat(),
        "failures": row.token.failures,
        "failure": row.connection.failure_reason,
    }

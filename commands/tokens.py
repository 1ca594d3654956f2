"""`flask tokens …`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

import click
from flask.cli import AppGroup
from sqlmodel import Session

from commands.console import Report, reporting
from models import Connection
from services import overview, refreshes
from services.audit import COMMAND_LINE
from services.errors import InvalidInput, NotFound, Refused
from services.overview import Filter, OverviewRow
from services.resources import Resources
from workers import queue

group = AppGroup("tokens", help="Tokens of all workspaces.")

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@group.command("refresh")
@click.option("--connection", metavar="ID", help="One connection.")
@click.option("--workspace", metavar="NAME", help="Every connection of a workspace.")
@click.option("--due-within", metavar="TIME", help="Every connection due within 90s, 15m, 1h or 2d.")
@click.option("--all", "everything", is_flag=True, help="Every connection.")
@reporting
def refresh(
    resources: Resources, connection: str | None, workspace: str | None, due_within: str | None, everything: bool
) -> Report:
    """Have tokens refreshed now, before everything scheduled; prints how many."""
    if sum((connection is not None, workspace is not None, due_within is not None, everything)) != 1:
        raise Refused("Say which: one of --connection ID, --workspace NAME, --due-within TIME, --all.")
    with resources.database.session(writing=True) as session:
        chosen = _chosen(session, connection, workspace, due_within)
        asked = refreshes.refresh_now(session, resources.settings, chosen, None, COMMAND_LINE)
    has_rung = queue.ring(resources) if asked.marked else True
    names = {row.id: row.name for row in chosen}
    lines = [f"{len(asked.marked) + len(asked.joined)} of {len(chosen)} connections are being refreshed."]
    if asked.joined:
        lines.append(f"For {len(asked.joined)} of them that had been asked for a moment ago.")
    lines += [f"{names[connection_id]} is left out. {words}" for connection_id, words in asked.skipped.items()]
    if not has_rung:
        lines.append("Redis cannot be reached; the scheduler does it by itself, within seconds.")
    data = {
        "refreshed": len(asked.marked),
        "joined": len(asked.joined),
        "skipped": {str(connection_id): words for connection_id, words in asked.skipped.items()},
    }
    return Report("\n".join(lines), data, ok=len(asked.skipped) < len(chosen) or not chosen)


@group.command("status")
@reporting
def status(resources: Resources) -> Report:
    """Every connection with its state, its next refresh and its last failure."""
    with resources.database.session() as session:
        rows = list(_every_row(session))
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


def _chosen(
    session: Session, connection: str | None, workspace: str | None, due_within: str | None
) -> Sequence[Connection]:
    if connection is not None:
        return [_named(session, connection)]
    if workspace is not None:
        return refreshes.of_workspace(session, workspace)
    if due_within is not None:
        return refreshes.due_within(session, seconds(due_within))
    return refreshes.everything(session)


def _named(session: Session, text: str) -> Connection:
    try:
        found = refreshes.named(session, [uuid.UUID(text)])
    except ValueError:
        found = []
    if not found:
        raise NotFound(f"There is no connection with the id {text[:40]}.")
    return found[0]


def _every_row(session: Session) -> Sequence[OverviewRow]:
    rows: list[OverviewRow] = []
    number = 1
    while True:
        page = overview.page(session, Filter(), number)
        rows += page.rows
        if not page.has_next:
            return rows
        number += 1


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

"""`flask tokens pause`, `flask tokens resume` and `flask providers …`."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click
from flask.cli import AppGroup
from sqlmodel import Session

from commands import tokens
from commands.console import Report, reporting
from models import EVERYTHING
from models.types import utc_now
from services.audit import COMMAND_LINE
from services.errors import NotFound, Refused
from services.operating import overview, pauses, providers, refreshes
from services.operating.overview import Filter
from services.operating.pauses import Done
from services.operating.providers import Provider
from services.people import workspaces
from services.resources import Resources

group = AppGroup("providers", help="Providers' hosts: how they stand, and how much is sent to them.")

WHICH = "Say which: one of --connection ID, --workspace NAME, --provider HOST, --all."
STANDS = {
    "paused": "paused",
    "slowed": "asks for fewer requests",
    "trying": "being tried",
    "troubled": "in trouble",
    "fine": "answering",
}


@dataclass(frozen=True)
class Target:
    """What is to be paused or resumed: exactly one of them is named."""

    connection: str | None
    workspace: str | None
    provider: str | None
    everything: bool


def _choosing(command: Callable[[Resources, Target], Report]) -> Callable[..., Report]:
    """The options that say what is meant, which are the same for pausing and resuming."""

    @click.option("--connection", metavar="ID", help="One connection.")
    @click.option("--workspace", metavar="NAME", help="Every connection of a workspace.")
    @click.option("--provider", metavar="HOST", help="Whatever is sent to a provider's host.")
    @click.option("--all", "everything", is_flag=True, help="Whatever is sent to anybody.")
    @wraps(command)
    def chosen(resources: Resources, **options: Any) -> Report:
        return command(resources, Target(**options))

    return chosen


@tokens.group.command("pause")
@reporting
@_choosing
def pause(resources: Resources, target: Target) -> Report:
    """Send no token request until it is resumed; what is under way is finished."""
    return _change(
        resources,
        target,
        "paused",
        lambda session, host: pauses.pause_host(session, COMMAND_LINE, host),
        lambda session, ids: pauses.pause(session, COMMAND_LINE, ids),
    )


@tokens.group.command("resume")
@reporting
@_choosing
def resume(resources: Resources, target: Target) -> Report:
    """Let go on what was paused in the same way: connections, a provider, everything."""
    return _change(
        resources,
        target,
        "resumed",
        lambda session, host: pauses.resume_host(session, resources.settings, COMMAND_LINE, host),
        lambda session, ids: pauses.resume(session, resources.settings, COMMAND_LINE, ids),
    )


@group.command("list")
@reporting
def list_providers(resources: Resources) -> Report:
    """Every provider's host with how it stands, requests in flight, and its limit."""
    with resources.database.session() as session:
        found = providers.listed(session, resources.settings, utc_now(), None)
        paused = [notice for notice in providers.notices(session, None) if notice.is_for_all]
    lines = ["Everything is paused. To go on: flask tokens resume --all"] if paused else []
    lines += [_line(provider) for provider in found] or ["No connection names a provider yet."]
    data = {"paused": bool(paused), "providers": [_as_data(provider) for provider in found]}
    return Report("\n".join(lines), data)


@group.command("limit")
@click.argument("host")
@click.argument("number", type=click.IntRange(0, 10_000))
@reporting
def limit(resources: Resources, host: str, number: int) -> Report:
    """Have at most NUMBER requests in flight at HOST, all processes together; 0 goes back to the usual limit."""
    with resources.database.session(writing=True) as session:
        pauses.limit_host(session, COMMAND_LINE, host, number or None)
    most = number or resources.settings.host_concurrency
    return Report(f"At most {most} requests are in flight at {host} from now on.", {"host": host, "limit": most})


@group.command("try")
@click.argument("host")
@reporting
def try_now(resources: Resources, host: str) -> Report:
    """Let one request go at once to a host that was found down."""
    with resources.database.session(writing=True) as session:
        changed = pauses.try_now(session, COMMAND_LINE, host)
    words = f"{host} is tried with the next request that is due." if changed else f"{host} is being asked already."
    return Report(words, {"host": host, "changed": changed})


def _change(
    resources: Resources,
    target: Target,
    verb: str,
    of_host: Callable[[Session, str], bool],
    of_connections: Callable[[Session, Sequence[uuid.UUID]], Done],
) -> Report:
    """Pause or resume what is meant, whichever of the two it is."""
    host = _host(target)
    with resources.database.session(writing=True) as session:
        if host is not None:
            return _of_host(host, verb, changed=of_host(session, host))
        chosen = _chosen(session, target)
        return _of_connections(of_connections(session, chosen), len(chosen), verb)


def _host(target: Target) -> str | None:
    """The host that is meant, or None for connections. Raises Refused unless exactly one thing is."""
    named = (target.connection, target.workspace, target.provider)
    if sum(name is not None for name in named) + target.everything != 1:
        raise Refused(WHICH)
    if target.provider == EVERYTHING:
        raise Refused("Write --all for every provider.")
    return EVERYTHING if target.everything else target.provider


def _chosen(session: Session, target: Target) -> Sequence[uuid.UUID]:
    if target.workspace is not None:
        wanted = Filter(workspace_id=workspaces.named(session, target.workspace).id)
        return [row.connection.id for row in overview.every(session, wanted)]
    try:
        found = refreshes.named(session, [uuid.UUID(target.connection or "")])
    except ValueError:
        found = []
    if not found:
        raise NotFound(f"There is no connection with the id {(target.connection or '')[:40]}.")
    return [found[0].id]


def _of_host(host: str, verb: str, *, changed: bool) -> Report:
    name = "all providers" if host == EVERYTHING else host
    already = "were paused already" if verb == "paused" else "were not paused"
    words = f"Token requests to {name} are {verb}." if changed else f"Token requests to {name} {already}."
    return Report(words, {"host": host, "changed": changed})


def _of_connections(done: Done, total: int, verb: str) -> Report:
    lines = [f"{len(done.changed)} of {total} connections {verb}."]
    if done.already:
        lines.append(f"{len(done.already)} {'were paused already' if verb == 'paused' else 'were not paused'}.")
    lines += [f"{count} left out. {words}" for words, count in Counter(done.refused.values()).items()]
    data = {
        verb: [str(row_id) for row_id in done.changed],
        "already": len(done.already),
        "refused": {str(row_id): words for row_id, words in done.refused.items()},
    }
    return Report("\n".join(lines), data, ok=len(done.refused) < total or not total)


def _line(provider: Provider) -> str:
    row = provider.row
    stands = row.trouble if provider.standing == "silent" else STANDS[provider.standing]
    words = f"{provider.host}: {stands}"
    if provider.standing == "paused" and row.paused_at is not None:
        words += f" since {row.paused_at:%Y-%m-%d %H:%M:%S} UTC"
    elif row.failed_at is not None:
        words += f" since {row.failed_at:%Y-%m-%d %H:%M:%S} UTC ({row.failure_reason})"
        words += f", next try {row.open_until:%H:%M:%S} UTC" if row.open_until else ""
    return f"{words}; {provider.connections} connections, {provider.in_flight} of {provider.limit} in flight"


def _as_data(provider: Provider) -> dict[str, object]:
    row = provider.row
    return {
        "host": provider.host,
        "standing": provider.standing.value,
        "connections": provider.connections,
        "in_flight": provider.in_flight,
        "waiting": provider.waiting,
        "limit": provider.limit,
        "failures": row.failures,
        "failure": row.failure_reason,
        "failed_at": row.failed_at and row.failed_at.isoformat(),
        "next_try_at": row.open_until and row.open_until.isoformat(),
        "paused_at": row.paused_at and row.paused_at.isoformat(),
    }

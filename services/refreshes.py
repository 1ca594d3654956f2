"""Refreshing by hand: what is asked for is marked due now, at once, and any worker takes it from there.

Nothing here sends a request. Selecting, asking, and the history; following a bulk is in `services.bulk`,
the overview in `services.overview`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Row, or_, update
from sqlmodel import Session, col, select

from config import Settings
from models import (
    BulkRefresh,
    BulkRefreshItem,
    Connection,
    Outcome,
    Priority,
    Refresh,
    Slot,
    Token,
)
from models.types import utc_now
from services import audit, eligibility, workspaces
from services.audit import Actor

AT_ONCE = 500
"""Rows in one statement: databases limit its parameters."""


@dataclass(frozen=True)
class Asked:
    """What became of asking: every connection asked for is in one of the three."""

    marked: Mapping[uuid.UUID, int]
    """Due now, with the generation of their token."""
    joined: Mapping[uuid.UUID, int]
    """Asked for within the cool-down or under way already: that refresh serves, of that generation."""
    skipped: Mapping[uuid.UUID, str]
    """Cannot be refreshed; why, in a plain sentence."""

    @property
    def generations(self) -> Mapping[uuid.UUID, int]:
        """Of everything a refresh was or is under way for: the generation it spends."""
        return {**self.marked, **self.joined}


def refresh_now(
    session: Session,
    settings: Settings,
    connections: Sequence[Connection],
    requested_by: uuid.UUID | None,
    actor: Actor,
) -> Asked:
    """Mark connections due now, before everything scheduled. Commits; the caller rings the queue."""
    asked = _ask(session, settings, connections, requested_by, actor)
    session.commit()
    return asked


def refresh_in_bulk(
    session: Session,
    settings: Settings,
    connections: Sequence[Connection],
    requested_by: uuid.UUID | None,
    actor: Actor,
) -> list[BulkRefresh]:
    """`refresh_now`, remembered so that its progress can be followed: one bulk for each workspace. Commits."""
    asked = _ask(session, settings, connections, requested_by, actor)
    bulks = {
        workspace_id: BulkRefresh(workspace_id=workspace_id, requested_by=requested_by)
        for workspace_id in sorted({connection.workspace_id for connection in connections})
    }
    session.add_all(bulks.values())
    session.flush()
    for connection in connections:
        item = BulkRefreshItem(
            workspace_id=connection.workspace_id,
            bulk_id=bulks[connection.workspace_id].id,
            connection_id=connection.id,
            generation=asked.generations.get(connection.id, 0),
            skipped=asked.skipped.get(connection.id, ""),
        )
        session.add(item)
    session.commit()
    return list(bulks.values())


def named(session: Session, connection_ids: Iterable[uuid.UUID]) -> list[Connection]:
    """The connections that exist of those named, whichever workspace they belong to."""
    ids = list(dict.fromkeys(connection_ids))
    found = [
        session.exec(select(Connection).where(col(Connection.id).in_(ids[place : place + AT_ONCE]))).all()
        for place in range(0, len(ids), AT_ONCE)
    ]
    return [connection for part in found for connection in part]


def of_workspace(session: Session, name: str) -> Sequence[Connection]:
    """The connections of a workspace by its name. Raises NotFound."""
    workspace = workspaces.named(session, name)
    return session.exec(select(Connection).where(Connection.workspace_id == workspace.id)).all()


def due_within(session: Session, seconds: float) -> Sequence[Connection]:
    """Connections whose next refresh falls within `seconds` from now."""
    until = utc_now() + timedelta(seconds=seconds)
    query = select(Connection).join(Token, col(Token.connection_id) == Connection.id)
    return session.exec(query.where(Token.slot == Slot.CURRENT, col(Token.next_refresh_at) <= until)).all()


def everything(session: Session) -> Sequence[Connection]:
    """Every connection of the installation."""
    return session.exec(select(Connection)).all()


def history(session: Session, connection: Connection, *, size: int = 20) -> Sequence[Refresh]:
    """The last token requests of a connection, newest first."""
    query = select(Refresh).where(
        Refresh.workspace_id == connection.workspace_id, Refresh.connection_id == connection.id
    )
    return session.exec(query.order_by(col(Refresh.sent_at).desc()).limit(size)).all()


def _ask(
    session: Session,
    settings: Settings,
    connections: Sequence[Connection],
    requested_by: uuid.UUID | None,
    actor: Actor,
) -> Asked:
    """Sort into marked, joined and skipped, with an audit entry for each mark. Does not commit."""
    by_id = {connection.id: connection for connection in connections}
    tokens = {token.connection_id: token for token in _tokens(session, list(by_id))}
    skipped = {
        connection.id: eligibility.refusal(connection, tokens[connection.id]) if connection.id in tokens else GONE
        for connection in connections
    }
    skipped = {connection_id: words for connection_id, words in skipped.items() if words}
    wanted = [connection_id for connection_id in by_id if connection_id not in skipped]
    marked = {row.connection_id: row.generation for row in _mark(session, settings, wanted, requested_by)}
    others = [connection_id for connection_id in wanted if connection_id not in marked]
    # Read again: whoever marked them may have done so after they were read above.
    joined = {token.connection_id: _joined_generation(session, token) for token in _tokens(session, others)}
    for connection_id in marked:
        connection = by_id[connection_id]
        audit.record(session, actor, "connection.refresh_requested", connection, connection.name)
    return Asked(marked, joined, skipped)


GONE = "It no longer exists."


def _tokens(session: Session, connection_ids: Sequence[uuid.UUID]) -> Iterator[Token]:
    for place in range(0, len(connection_ids), AT_ONCE):
        query = select(Token).where(
            col(Token.connection_id).in_(connection_ids[place : place + AT_ONCE]), Token.slot == Slot.CURRENT
        )
        yield from session.exec(query.execution_options(populate_existing=True))


def _mark(
    session: Session, settings: Settings, connection_ids: Sequence[uuid.UUID], requested_by: uuid.UUID | None
) -> Iterator[Row[tuple[uuid.UUID, int]]]:
    """One conditional UPDATE: of any number of presses at once a single one marks (QW-07)."""
    now = utc_now()
    rested = now - timedelta(seconds=settings.manual_cooldown)
    for place in range(0, len(connection_ids), AT_ONCE):
        statement = (
            update(Token)
            .where(
                col(Token.connection_id).in_(connection_ids[place : place + AT_ONCE]),
                col(Token.slot) == Slot.CURRENT,
                or_(col(Token.requested_at).is_(None), col(Token.requested_at) <= rested),
                or_(col(Token.lease_until).is_(None), col(Token.lease_until) <= now),
            )
            .values(next_refresh_at=now, priority=Priority.MANUAL, requested_at=now, requested_by=requested_by)
            .returning(col(Token.connection_id), col(Token.generation))
            .execution_options(synchronize_session=False)
        )
        yield from session.execute(statement)


def _joined_generation(session: Session, token: Token) -> int:
    """The generation spent by the refresh that was joined: it may be under way, or over since the press before."""
    if token.requested_at is not None and not token.is_leased(utc_now()):
        over = select(Refresh.generation).where(
            Refresh.connection_id == token.connection_id,
            col(Refresh.closed_at) >= token.requested_at,
            col(Refresh.outcome) != Outcome.SUPERSEDED,
        )
        generation = session.exec(over.order_by(col(Refresh.closed_at)).limit(1)).first()
        if generation is not None:
            return generation
    return token.generation


def since(requested_at: datetime | None, asked_at: datetime) -> datetime:
    """From when on a closed journal row answers what was asked for at `asked_at`: the press that was joined."""
    return min(requested_at, asked_at) if requested_at else asked_at

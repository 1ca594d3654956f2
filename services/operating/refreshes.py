"""Refreshing by hand: what is asked for is marked due now, at once, and any worker takes it from there.

Nothing here sends a request. For one or a few connections; thousands are `services.operating.bulk`'s.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, update
from sqlmodel import Session, col, select

from config import Settings
from models import Connection, Outcome, Priority, Refresh, Slot, Token
from models.types import utc_now
from services import audit
from services.audit import Actor
from services.engine import eligibility

GONE = "It no longer exists."


@dataclass(frozen=True)
class Asked:
    """What became of asking: every connection asked for is in one of the three."""

    marked: Mapping[uuid.UUID, int]
    """Due now, with the generation of their token."""
    joined: Mapping[uuid.UUID, int]
    """Asked for within the cool-down or under way already: that refresh serves, of that generation."""
    skipped: Mapping[uuid.UUID, str]
    """Cannot be refreshed; why, in a plain sentence."""


@dataclass(frozen=True)
class Mark:
    """A token that was made due now, and how it stood before."""

    generation: int
    due_before: datetime | None
    priority_before: int


def refresh_now(
    session: Session,
    settings: Settings,
    connections: Sequence[Connection],
    requested_by: uuid.UUID | None,
    actor: Actor,
) -> Asked:
    """Mark connections due now, before everything scheduled. Commits; the caller rings the queue."""
    by_id = {connection.id: connection for connection in connections}
    tokens = {token.connection_id: token for token in _tokens(session, list(by_id))}
    skipped = {
        connection.id: eligibility.refusal(connection, tokens[connection.id]) if connection.id in tokens else GONE
        for connection in by_id.values()
    }
    skipped = {connection_id: words for connection_id, words in skipped.items() if words}
    wanted = [connection_id for connection_id in by_id if connection_id not in skipped]
    marks = mark(session, settings, wanted, requested_by, utc_now())
    for connection_id in marks:
        connection = by_id[connection_id]
        audit.record(session, actor, "connection.refresh_requested", connection, connection.name)
    joined = joined_generations(session, [row_id for row_id in wanted if row_id not in marks])
    session.commit()
    return Asked({row_id: made.generation for row_id, made in marks.items()}, joined, skipped)


def mark(
    session: Session,
    settings: Settings,
    connection_ids: Sequence[uuid.UUID],
    requested_by: uuid.UUID | None,
    now: datetime,
    *,
    skip_locked: bool = False,
) -> dict[uuid.UUID, Mark]:
    """Make tokens due `now`, those that rest since the last press and are not under way. Does not commit.

    The rows are locked while they are looked at: of any number of presses at once a single one marks (QW-07).
    `skip_locked` leaves out what somebody else is at, who is about to refresh it or has just done so.
    """
    columns: Any = (Token.id, Token.connection_id, Token.generation, Token.next_refresh_at, Token.priority)
    query: Any = select(*columns).where(
        col(Token.connection_id).in_(connection_ids),
        Token.slot == Slot.CURRENT,
        or_(
            col(Token.requested_at).is_(None),
            col(Token.requested_at) <= now - timedelta(seconds=settings.manual_cooldown),
        ),
        or_(col(Token.lease_until).is_(None), col(Token.lease_until) <= now),
    )
    rows = session.exec(query.order_by(col(Token.id)).with_for_update(skip_locked=skip_locked)).all()
    if not rows:
        return {}
    statement = update(Token).where(col(Token.id).in_([row[0] for row in rows]))
    change = statement.values(
        next_refresh_at=now, priority=Priority.MANUAL, requested_at=now, requested_by=requested_by
    )
    session.execute(change.execution_options(synchronize_session=False))
    return {row[1]: Mark(*row[2:]) for row in rows}


def joined_generations(session: Session, connection_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, int]:
    """The generation spent by the refresh that was joined: it may be under way, or over since the press before."""
    if not connection_ids:
        return {}
    idle = or_(col(Token.lease_until).is_(None), col(Token.lease_until) <= utc_now())
    spent = (
        select(func.min(Refresh.generation))
        .where(
            Refresh.connection_id == Token.connection_id,
            col(Refresh.closed_at) >= col(Token.requested_at),
            col(Refresh.outcome) != Outcome.SUPERSEDED,
            idle,
        )
        .correlate(Token)
        .scalar_subquery()
    )
    query = select(Token.connection_id, func.coalesce(spent, Token.generation))
    mine = (col(Token.connection_id).in_(connection_ids), Token.slot == Slot.CURRENT)
    return dict(session.exec(query.where(*mine)).all())


def named(session: Session, connection_ids: Iterable[uuid.UUID]) -> Sequence[Connection]:
    """The connections that exist of those named, whichever workspace they belong to: a thousand at the most."""
    return session.exec(select(Connection).where(col(Connection.id).in_(set(connection_ids)))).all()


def _tokens(session: Session, connection_ids: Sequence[uuid.UUID]) -> Sequence[Token]:
    query = select(Token).where(col(Token.connection_id).in_(connection_ids), Token.slot == Slot.CURRENT)
    return session.exec(query.execution_options(populate_existing=True)).all()

"""What was sent for a connection: the last refreshes one by one, everything before as a count for each day.

Rows leave the journal and enter the counts in one commit, so that each is counted once whoever sweeps.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, func, union_all
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from config import Settings
from models import Connection, Outcome, Refresh, RefreshCount, Trigger
from models.types import utc_now

MONTH = timedelta(days=30)
SHOWN = 20
"""Rows of a history on a page."""
PART = 500
"""Connections looked at in one transaction."""
ROWS = 2000
"""Journal rows deleted in one transaction."""


@dataclass(frozen=True)
class Entry:
    """A token request, and why it was made where its trigger alone does not tell."""

    refresh: Refresh
    is_another_try: bool
    """Made by itself since the one before had failed; with other settings, where somebody had saved in between."""


@dataclass(frozen=True)
class Tally:
    """How often the provider was asked. `failed` is everything that brought no token; days are UTC's."""

    today: int = 0
    today_failed: int = 0
    month: int = 0
    """Within thirty days, today included."""
    month_failed: int = 0


def history(session: Session, connection: Connection, *, size: int = SHOWN) -> Sequence[Entry]:
    """The last token requests of a connection, newest first."""
    query = select(Refresh).where(
        Refresh.workspace_id == connection.workspace_id, Refresh.connection_id == connection.id
    )
    rows = session.exec(query.order_by(col(Refresh.sent_at).desc()).limit(size + 1)).all()
    return [Entry(row, _is_another_try(connection, row, rows[place + 1 :])) for place, row in enumerate(rows[:size])]


def _is_another_try(connection: Connection, row: Refresh, before: Sequence[Refresh]) -> bool:
    """Whether it was sent because the one before had failed. A consent that failed left the grant as it was."""
    consents = connection.grant.needs_person
    earlier = (each for each in before if not (consents and each.trigger is Trigger.AUTHORIZE))
    last = next(earlier, None)
    failed = last is not None and last.outcome in (Outcome.FAILED, Outcome.UNKNOWN)
    return failed and row.trigger in (Trigger.SCHEDULED, Trigger.KEEP_ALIVE)


def mark(session: Session, connection: Connection) -> str:
    """Changes whenever the history of a connection, or what is kept of a reply in it, does; says nothing else."""
    query = select(Refresh.id, Refresh.outcome, col(Refresh.raw_reply_sealed).is_not(None)).where(
        Refresh.workspace_id == connection.workspace_id, Refresh.connection_id == connection.id
    )
    rows = session.exec(query.order_by(col(Refresh.sent_at).desc()).limit(SHOWN)).all()
    return hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()[:12]


def tally(session: Session, connection: Connection) -> Tally:
    """Refreshes of a connection, from the counts and the journal in one statement: none is seen in both."""
    today = utc_now().date()
    first = today - MONTH + timedelta(days=1)
    counted: Any = select(
        case((col(RefreshCount.day) >= today, 1), else_=0).label("today"),
        col(RefreshCount.stored).label("stored"),
        col(RefreshCount.failed).label("failed"),
    ).where(RefreshCount.connection_id == connection.id, RefreshCount.day >= first)
    is_stored = case((col(Refresh.outcome) == Outcome.STORED, 1), else_=0)
    kept: Any = select(case((col(Refresh.sent_at) >= _midnight(today), 1), else_=0), is_stored, 1 - is_stored).where(
        Refresh.connection_id == connection.id,
        Refresh.sent_at >= _midnight(first),
        col(Refresh.closed_at).is_not(None),
    )
    both = union_all(counted, kept).subquery()
    query = select(both.c.today, func.sum(both.c.stored), func.sum(both.c.failed)).group_by(both.c.today)
    found = {bool(is_today): (int(stored), int(failed)) for is_today, stored, failed in session.exec(query)}
    (stored, failed), (earlier, earlier_failed) = found.get(True, (0, 0)), found.get(False, (0, 0))
    total, total_failed = stored + earlier, failed + earlier_failed
    return Tally(stored + failed, failed, total + total_failed, total_failed)


class Sweeper:
    """Takes what nobody needs out of the journal, connection after connection, a little at a time.

    Kept are the last rows of each connection, and failures for their days. It remembers only where it stopped, and
    rests after each round; a second one in another process starts elsewhere and does no harm.
    """

    def __init__(self, seconds: float = 0.25, rest: float = 600.0) -> None:
        """`seconds` of work at a time, and of `rest` between two rounds."""
        self._seconds, self._rest = seconds, rest
        self._began = self._after = uuid.uuid4()
        self._turned = False
        self._rests_until = 0.0

    def sweep(self, session: Session, settings: Settings) -> int:
        """Go on until the round is over or the time is up. Commits after each part; returns how many rows went."""
        gone, until = 0, time.monotonic() + self._seconds
        while time.monotonic() >= self._rests_until:
            ids = self._next(session)
            went = prune(session, settings, ids) if ids else 0
            gone += went
            if went < ROWS:  # else there is more of the same connections
                self._move_on(ids)
            if time.monotonic() >= until:
                break
        return gone

    def _next(self, session: Session) -> Sequence[uuid.UUID]:
        query = select(Connection.id).where(col(Connection.id) > self._after)
        if self._turned:
            query = query.where(col(Connection.id) <= self._began)
        return session.exec(query.order_by(col(Connection.id)).limit(PART)).all()

    def _move_on(self, ids: Sequence[uuid.UUID]) -> None:
        if len(ids) == PART:
            self._after = ids[-1]
        elif self._turned:
            self._began = self._after = uuid.uuid4()
            self._turned, self._rests_until = False, time.monotonic() + self._rest
        else:
            self._after, self._turned = uuid.UUID(int=0), True


def prune(session: Session, settings: Settings, connection_ids: Sequence[uuid.UUID]) -> int:
    """Drop what is not to be kept of these connections, `ROWS` at the most, oldest first. Commits; returns how many."""
    ids = _with_more(session, settings, connection_ids)
    if not ids:
        session.rollback()
        return 0
    # Nobody deletes these connections now, and who is about to has them to himself.
    lock = select(Connection.id).where(col(Connection.id).in_(ids)).order_by(col(Connection.id))
    ids = session.exec(lock.with_for_update(read=True, key_share=True, skip_locked=True)).all()
    chosen = _superfluous(settings, ids).with_for_update(skip_locked=True)
    statement = delete(Refresh).where(col(Refresh.id).in_(chosen))
    kept_of = (col(Refresh.workspace_id), col(Refresh.connection_id), col(Refresh.sent_at), col(Refresh.outcome))
    rows = session.execute(statement.returning(*kept_of).execution_options(synchronize_session=False)).all()
    _count(session, rows)
    long_ago = utc_now().date() - timedelta(days=settings.journal_counts_days)
    old = delete(RefreshCount).where(col(RefreshCount.connection_id).in_(ids), col(RefreshCount.day) < long_ago)
    session.execute(old.execution_options(synchronize_session=False))
    session.commit()
    return len(rows)


def _with_more(session: Session, settings: Settings, connection_ids: Sequence[uuid.UUID]) -> Sequence[uuid.UUID]:
    """Those of which there are more rows than are kept: a look into the index for each."""
    beyond = (
        select(Refresh.sent_at)
        .where(Refresh.connection_id == Connection.id)
        .order_by(col(Refresh.sent_at).desc())
        .offset(settings.journal_keep)
        .limit(1)
        .correlate(Connection)
        .scalar_subquery()
    )
    query = select(Connection.id).where(col(Connection.id).in_(connection_ids), beyond.is_not(None))
    return session.exec(query.order_by(col(Connection.id))).all()


def _superfluous(settings: Settings, connection_ids: Sequence[uuid.UUID]) -> Any:
    """Ids of closed rows that are not among the last of their connection, and no failures of late."""
    place = func.row_number().over(partition_by=col(Refresh.connection_id), order_by=col(Refresh.sent_at).desc())
    ranked = (
        select(Refresh.id, col(Refresh.sent_at), place.label("place"), _is_recent_failure(settings).label("spared"))
        .where(col(Refresh.connection_id).in_(connection_ids), col(Refresh.closed_at).is_not(None))
        .subquery()
    )
    beyond = select(ranked.c.id).where(ranked.c.place > settings.journal_keep, ~ranked.c.spared)
    ids = beyond.order_by(ranked.c.sent_at).limit(ROWS)
    return select(Refresh.id).where(col(Refresh.id).in_(ids))


def _is_recent_failure(settings: Settings) -> Any:
    oldest = utc_now() - timedelta(days=settings.journal_failures_days)
    return col(Refresh.outcome).in_((Outcome.FAILED, Outcome.UNKNOWN)) & (col(Refresh.sent_at) > oldest)


def _count(session: Session, rows: Iterable[Any]) -> None:
    """Add journal rows that have just been deleted to the counts of their days. Does not commit."""
    stored: Counter[tuple[uuid.UUID, uuid.UUID, date]] = Counter()
    failed: Counter[tuple[uuid.UUID, uuid.UUID, date]] = Counter()
    for workspace_id, connection_id, sent_at, outcome in rows:
        (stored if outcome is Outcome.STORED else failed)[workspace_id, connection_id, sent_at.date()] += 1
    counts = [
        {
            "id": uuid.uuid4(),
            "workspace_id": key[0],
            "connection_id": key[1],
            "day": key[2],
            "stored": stored[key],
            "failed": failed[key],
        }
        for key in sorted({*stored, *failed})
    ]
    if not counts:
        return
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement = insert(RefreshCount)
    more = {name: getattr(RefreshCount, name) + getattr(statement.excluded, name) for name in ("stored", "failed")}
    session.execute(statement.on_conflict_do_update(index_elements=["connection_id", "day"], set_=more), counts)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)

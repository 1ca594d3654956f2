"""Tokens that wait for their provider's host: moved out of the way while it is closed, brought back when it answers.

Without that, rows of one dead provider would lie at the head of whatever is due, in front of everybody else's.
Nothing here decides when a host is closed; that is `services.engine.hosts`'. Commits nothing.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, CompoundSelect, CursorResult, case, literal, or_, update
from sqlmodel import Session, col, select

from config import Settings
from models import Priority, ProviderHost, Token
from models.token import HELD
from models.types import UtcDateTime

AT_ONCE = 2000
"""Rows moved in one statement: whoever claims or settles does not wait for a million of them."""
PARTS = 24
"""Moments over which moved rows are spread, by the range their random id falls into."""
CANDIDATES = 3
"""Rows that are due when a breaker lets one request through; the others wait for its answer out of the way."""


def hold(session: Session, settings: Settings, now: datetime, hosts: Collection[str]) -> None:
    """Move what is due at closed hosts, and first in line, out of the way: each row once, not at every look.

    It is due again when the host is, or by itself after `retry_longest` at the latest.
    """
    found = [(row_id, host) for row_id, host in session.execute(_head(now)) if host in hosts]
    if not found:
        return
    in_the_way = [row_id for row_id, _ in found]
    # Whoever opens a host again waits for this commit, and then finds what was moved here. One by one, in the order
    # of whoever settles: a database sorts names in its own.
    query = select(ProviderHost).with_for_update(read=True).execution_options(populate_existing=True)
    names = sorted({host for _, host in found})
    rows = [session.exec(query.where(ProviderHost.host == name)).one_or_none() for name in names]
    closed = [row for row in rows if row is not None and row.is_closed(now)]
    half = settings.retry_longest / 2
    later = _spread(now + timedelta(seconds=half), half)
    for row in closed:
        mine = (col(Token.id).in_(in_the_way), col(Token.provider_host) == row.host)
        due = (*mine, col(Token.next_refresh_at) <= now, _free(now))
        if row.paused_at is None and row.open_until is not None:
            # Those that failed have waited long enough, each by itself: one of them may be the next to try.
            _move(session, (*due, col(Token.failures) > 0), literal(row.open_until, UtcDateTime), held=True)
        _move(session, due, later, held=True)
        name_candidates(session, row, now)


def _head(now: datetime) -> CompoundSelect[Any]:
    """Ids and hosts of what has been due longest, some of each priority: one stretch of the index for each."""
    parts = []
    for priority in Priority:
        query = sa.select(col(Token.id), col(Token.provider_host))
        query = query.where(col(Token.priority) == priority, col(Token.next_refresh_at) <= now, _free(now))
        parts.append(query.order_by(col(Token.next_refresh_at)).limit(AT_ONCE // len(Priority)).subquery())
    return sa.union_all(*(sa.select(part) for part in parts))


def release(session: Session, settings: Settings, now: datetime, row: ProviderHost) -> None:
    """Bring back what waits for a host, spread over `breaker_first` so that no storm follows.

    That is what was held, and what waits for its next try since it found the host down. Part after part: `row` says
    whether there is more.
    """
    session.flush()
    waiting = (col(Token.provider_host) == row.host, HELD, col(Token.next_refresh_at).is_not(None))
    overdue = (col(Token.next_refresh_at) <= now, col(Token.next_refresh_at))
    due = case(overdue, else_=_spread(now, settings.breaker_first))
    row.releasing = _move(session, waiting, due, held=False) == AT_ONCE
    session.add(row)


def name_candidates(session: Session, row: ProviderHost, now: datetime) -> None:
    """Make a few that have not failed themselves due when the host may be tried, before those that have.

    A connection that finds its host down for reasons of its own does so again, and would speak for all.
    """
    if row.paused_at is not None or row.open_until is None:
        return
    waiting = (col(Token.provider_host) == row.host, HELD, _free(now))
    healthy = (*waiting, col(Token.failures) == 0, col(Token.next_refresh_at) > row.open_until)
    if _move(session, healthy, literal(row.open_until, UtcDateTime), held=True, most=CANDIDATES) == 0:
        return
    after = row.open_until + (row.open_until - now)
    failing = (*waiting, col(Token.failures) > 0, col(Token.next_refresh_at) < after)
    _move(session, failing, literal(after, UtcDateTime), held=True)


def bring_one(session: Session, now: datetime, host: str) -> None:
    """Make one of what waits for a host due now, one that has not failed itself if there is one."""
    waiting = (col(Token.provider_host) == host, HELD, _free(now))
    for failed in (col(Token.failures) == 0, col(Token.failures) > 0):
        if _move(session, (*waiting, failed), literal(now, UtcDateTime), held=True, most=1):
            return


def _move(
    session: Session, where: Sequence[Any], due: ColumnElement[datetime], *, held: bool, most: int | None = None
) -> int:
    """Give rows another due time, `AT_ONCE` at the most; rows in somebody's hands are left to them."""
    chosen = select(Token.id).where(*where).limit(most or AT_ONCE).with_for_update(skip_locked=True)
    change = update(Token).where(col(Token.id).in_(chosen)).values(next_refresh_at=due, held=held)
    result = session.execute(change.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)
    return result.rowcount


def _free(now: datetime) -> ColumnElement[bool]:
    return or_(col(Token.lease_until).is_(None), col(Token.lease_until) <= now)


def _spread(start: datetime, seconds: float) -> ColumnElement[datetime]:
    """A moment within `seconds` from `start` for each row: ids are random, so equal ranges of them hold equal parts."""
    moments = [start + timedelta(seconds=seconds * (part + random.random()) / PARTS) for part in range(PARTS)]
    ends = [uuid.UUID(int=(1 << 128) * (part + 1) // PARTS) for part in range(PARTS - 1)]
    parts = zip(ends, moments, strict=False)
    return case(
        *((col(Token.id) < end, literal(moment, UtcDateTime)) for end, moment in parts),
        else_=literal(moments[-1], UtcDateTime),
    )

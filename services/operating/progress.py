"""Following a bulk refresh: how each of its connections stands follows from journal and token, never from a counter.

Changes nothing. Counts are one query whatever the size; results are read a page at a time.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, case, false, func, literal, or_
from sqlmodel import Session, col, select

from models import BulkRefresh, BulkRefreshItem, Connection, Outcome, Refresh, Slot, Token
from models.types import UtcDateTime, utc_now
from services.engine import eligibility

FOLLOWED_FOR = timedelta(minutes=15)
"""After so long without any news nobody waits any more; what is still due is refreshed all the same."""
IN_FLIGHT = timedelta(minutes=10)
"""Longer than any request is under way: journal rows sent before that belong to no refresh that was joined."""
NOT_AGAIN = "Nothing was sent for this: by hand, each connection is asked for once within the cool-down."
PAGE_SIZE = 50
PER_SECOND = 2000
"""Connections for each second between two looks, so that following a large bulk costs no more than a small one."""


class ItemState(StrEnum):
    """How one connection of a bulk stands, those first that somebody wants to see first."""

    FAILED = "failed"
    RUNNING = "running"
    WAITING = "waiting"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    RECENT = "recent"
    """Refreshed by hand a moment before, so that nothing was sent for this."""
    REFRESHED = "refreshed"

    @property
    def shown(self) -> str:
        """The word on the screen."""
        return "Refreshed just before" if self is ItemState.RECENT else self.value.capitalize()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (ItemState.WAITING, ItemState.RUNNING)


@dataclass(frozen=True)
class Progress:
    """A bulk as a whole. Connections deleted since are no longer part of it."""

    bulk: BulkRefresh
    counts: Mapping[ItemState, int]
    moved_at: datetime
    """When the last of them was refreshed, or all were asked for."""

    @property
    def total(self) -> int:
        """Connections there still are."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Connections for which nothing more will happen."""
        return sum(number for state, number in self.counts.items() if state.is_over)

    @property
    def is_over(self) -> bool:
        """Whether following it further is of no use: all done, or nobody has taken it up for long."""
        return self.done == self.total or self.is_abandoned

    @property
    def is_abandoned(self) -> bool:
        """Whether nothing has happened for longer than anybody waits."""
        return self.done < self.total and utc_now() - self.moved_at > FOLLOWED_FOR

    @property
    def can_cancel(self) -> bool:
        """Whether there is anything to take back."""
        return self.bulk.cancelled_at is None and self.count(ItemState.WAITING) > 0

    @property
    def ask_again(self) -> int:
        """Seconds until the next look."""
        return 1 + self.total // PER_SECOND

    def count(self, state: str) -> int:
        """How many stand like that: an `ItemState` or its value."""
        return self.counts.get(ItemState(state), 0)


@dataclass(frozen=True)
class Result:
    """One connection of a bulk, and in words what there is to know."""

    connection_id: uuid.UUID
    name: str
    state: ItemState
    words: str = ""


class _Failure(NamedTuple):
    """What a request failed of, and when that was known."""

    words: str = ""
    at: datetime | None = None


NO_FAILURE = _Failure()


@dataclass(frozen=True)
class ResultPage:
    """Results in the order of `ItemState`, then by name."""

    results: Sequence[Result]
    number: int
    has_next: bool


def progress(session: Session, bulk: BulkRefresh) -> Progress:
    """How a bulk stands at this moment."""
    state = _state(bulk, utc_now())
    query = _items(select(state, func.count(), func.max(Token.received_at)), bulk).group_by(state)
    rows = [(ItemState(found), number, moved_at) for found, number, moved_at in session.exec(query)]
    moments = [moved_at for found, _, moved_at in rows if found is ItemState.REFRESHED and moved_at is not None]
    return Progress(bulk, {found: number for found, number, _ in rows}, max([bulk.created_at, *moments]))


def results(session: Session, bulk: BulkRefresh, only: ItemState | None = None, number: int = 1) -> ResultPage:
    """One page of what came of it, failures first; `only` those that stand in a certain way."""
    state = _state(bulk, utc_now())
    query = _items(select(Connection, Token, BulkRefreshItem, state), bulk)
    if only is not None:
        query = query.where(state == only.value)
    order = case(*((state == each.value, place) for place, each in enumerate(ItemState)))
    query = query.order_by(order, col(Connection.name), col(Connection.id))
    query = query.offset((number - 1) * PAGE_SIZE).limit(PAGE_SIZE + 1)
    rows = session.exec(query.execution_options(populate_existing=True)).all()
    failed = [connection.id for connection, _, _, found in rows if found == ItemState.FAILED]
    said = _failures(session, failed)
    shown = [
        Result(connection.id, connection.name, ItemState(found), _words(bulk, connection, token, item, found, said))
        for connection, token, item, found in rows[:PAGE_SIZE]
    ]
    return ResultPage(shown, number, len(rows) > PAGE_SIZE)


def every(session: Session, bulks: Iterable[BulkRefresh], only: ItemState) -> Iterator[Result]:
    """All results of a kind, page after page."""
    for bulk in bulks:
        page, number = results(session, bulk, only), 1
        yield from page.results
        while page.has_next:
            number += 1
            page = results(session, bulk, only, number)
            yield from page.results


def waiting(columns: Sequence[Any], bulk: BulkRefresh, now: datetime) -> Any:
    """A query of `columns` for the connections of a bulk that wait."""
    return _items(select(*columns), bulk).where(_state(bulk, now) == ItemState.WAITING.value)


def _items(query: Any, bulk: BulkRefresh) -> Any:
    """Join a query to the connections of a bulk and their tokens."""
    query = query.select_from(BulkRefreshItem)
    query = query.join(Token, col(Token.connection_id) == BulkRefreshItem.connection_id)
    query = query.join(Connection, col(Connection.id) == BulkRefreshItem.connection_id)
    return query.where(BulkRefreshItem.bulk_id == bulk.id, Token.slot == Slot.CURRENT)


def _state(bulk: BulkRefresh, now: datetime) -> ColumnElement[str]:
    """The value of an item's `ItemState`, as the database sees it."""
    since = _since(bulk)
    waits = and_(col(Token.next_refresh_at).is_not(None), or_(col(Token.next_refresh_at) <= now, col(Token.held)))
    cases: tuple[tuple[Any, ItemState], ...] = (
        (col(BulkRefreshItem.cancelled), ItemState.CANCELLED),
        (col(BulkRefreshItem.skipped) != "", ItemState.SKIPPED),
        (_moved() & col(Token.access_token_sealed).is_(None), ItemState.SKIPPED),
        (_moved() & _served_before(bulk), ItemState.RECENT),
        (_moved(), ItemState.REFRESHED),
        (func.coalesce(col(Token.lease_until) > now, false()), ItemState.RUNNING),
        (_failed_since(bulk, since), ItemState.FAILED),
        (waits, ItemState.WAITING),
        (func.coalesce(col(Connection.failed_at) >= since, false()), ItemState.FAILED),
    )
    return case(*((met, literal(state.value)) for met, state in cases), else_=literal(ItemState.SKIPPED.value))


def _moved() -> ColumnElement[bool]:
    return col(Token.generation) > col(BulkRefreshItem.generation)


def _served_before(bulk: BulkRefresh) -> ColumnElement[bool]:
    """Whether the refresh that was joined had ended already, so that none was made for the bulk."""
    query = select(Refresh.id).where(
        Refresh.connection_id == BulkRefreshItem.connection_id,
        col(Refresh.sent_at) >= bulk.created_at - IN_FLIGHT,
        col(Refresh.closed_at) < bulk.created_at,
        Refresh.generation == BulkRefreshItem.generation,
        Refresh.outcome == Outcome.STORED,
    )
    return col(BulkRefreshItem.priority_before).is_(None) & query.correlate(BulkRefreshItem, Token).exists()


def _since(bulk: BulkRefresh) -> ColumnElement[datetime]:
    """From when on a closed journal row answers what was asked for: the press that was joined, if there was one."""
    asked_at = literal(bulk.created_at, UtcDateTime)
    return case((col(Token.requested_at) < asked_at, col(Token.requested_at)), else_=asked_at)


def _failed_since(bulk: BulkRefresh, since: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Whether a refresh that serves the bulk has failed."""
    query = select(Refresh.id).where(
        Refresh.connection_id == BulkRefreshItem.connection_id,
        col(Refresh.sent_at) >= bulk.created_at - IN_FLIGHT,
        col(Refresh.closed_at) >= since,
        col(Refresh.outcome).in_((Outcome.FAILED, Outcome.UNKNOWN)),
    )
    return query.correlate(BulkRefreshItem, Token).exists()


def _failures(session: Session, connection_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, _Failure]:
    """What the newest closed request of each connection failed of, in plain words, and when."""
    if not connection_ids:
        return {}
    query = select(Refresh.connection_id, Refresh.failure_reason, Refresh.closed_at).where(
        col(Refresh.connection_id).in_(connection_ids), col(Refresh.outcome).in_((Outcome.FAILED, Outcome.UNKNOWN))
    )
    rows = session.exec(query.order_by(col(Refresh.closed_at)))
    return {connection_id: _Failure(words, closed_at) for connection_id, words, closed_at in rows}


def _words(
    bulk: BulkRefresh,
    connection: Connection,
    token: Token,
    item: BulkRefreshItem,
    state: str,
    failures: Mapping[uuid.UUID, _Failure],
) -> str:
    if state == ItemState.FAILED:
        failure = failures.get(connection.id, NO_FAILURE)
        before = item.priority_before is None and failure.at is not None and failure.at < bulk.created_at
        return f"{failure.words or connection.failure_reason} {NOT_AGAIN if before else ''}".rstrip()
    if state == ItemState.RECENT:
        return NOT_AGAIN
    if state == ItemState.WAITING and token.held:
        return "Nothing is sent to its provider for now."
    if state != ItemState.SKIPPED or item.skipped:
        return item.skipped
    if token.access_token_sealed is None:
        return "It was disconnected in the meantime."
    return eligibility.refusal(connection, token) or "The request was withdrawn."

"""Following a bulk refresh: how each of its connections stands follows from journal and token, never from a counter."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlmodel import Session, col, select

from models import BulkRefresh, BulkRefreshItem, Connection, Outcome, Refresh, Slot, Token
from models.types import utc_now
from services import eligibility, refreshes

FOLLOWED_FOR = timedelta(minutes=15)
"""After so long nobody waits any more; what is still due is refreshed all the same."""


class ItemState(StrEnum):
    """How one connection of a bulk stands."""

    WAITING = "waiting"
    RUNNING = "running"
    REFRESHED = "refreshed"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def shown(self) -> str:
        """The word on the screen."""
        return self.value.capitalize()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (ItemState.WAITING, ItemState.RUNNING)


@dataclass(frozen=True)
class ItemProgress:
    """One connection of a bulk, and in words what there is to know."""

    connection_id: uuid.UUID
    name: str
    state: ItemState
    words: str = ""


@dataclass(frozen=True)
class Progress:
    """A bulk as a whole. Connections deleted since are no longer part of it."""

    bulk: BulkRefresh
    items: list[ItemProgress]

    @property
    def total(self) -> int:
        """Connections there still are."""
        return len(self.items)

    @property
    def done(self) -> int:
        """Connections for which nothing more will happen."""
        return sum(item.state.is_over for item in self.items)

    @property
    def is_over(self) -> bool:
        """Whether following it further is of no use: all done, or nobody has taken it up for long."""
        return self.done == self.total or self.is_abandoned

    @property
    def is_abandoned(self) -> bool:
        """Whether it has been followed for longer than anybody waits."""
        return self.done < self.total and utc_now() - self.bulk.created_at > FOLLOWED_FOR

    def count(self, state: str) -> int:
        """How many stand like that: an `ItemState` or its value."""
        return sum(item.state == state for item in self.items)


def progress(session: Session, bulk: BulkRefresh) -> Progress:
    """How a bulk stands at this moment."""
    query = (
        select(BulkRefreshItem, Connection, Token)
        .join(Connection, col(Connection.id) == BulkRefreshItem.connection_id)
        .join(Token, col(Token.connection_id) == BulkRefreshItem.connection_id)
        .where(BulkRefreshItem.bulk_id == bulk.id, Token.slot == Slot.CURRENT)
        .order_by(Connection.name, col(Connection.id))
        .execution_options(populate_existing=True)
    )
    rows = session.exec(query).all()
    since = {token.connection_id: refreshes.since(token.requested_at, bulk.created_at) for _, _, token in rows}
    closed = _closed(session, bulk, since)
    return Progress(bulk, [_standing(*row, since[row[1].id], closed.get(row[1].id)) for row in rows])


def _closed(session: Session, bulk: BulkRefresh, since: dict[uuid.UUID, datetime]) -> dict[uuid.UUID, Refresh]:
    """The newest journal row of each connection that was closed since it was asked for."""
    if not since:
        return {}
    items = select(BulkRefreshItem.connection_id).where(BulkRefreshItem.bulk_id == bulk.id)
    query = select(Refresh).where(col(Refresh.connection_id).in_(items), col(Refresh.closed_at) >= min(since.values()))
    rows = session.exec(query.order_by(col(Refresh.closed_at)).execution_options(populate_existing=True))
    return {row.connection_id: row for row in rows if row.closed_at and row.closed_at >= since[row.connection_id]}


def _standing(
    item: BulkRefreshItem, connection: Connection, token: Token, since: datetime, closed: Refresh | None
) -> ItemProgress:
    def so(state: ItemState, words: str = "") -> ItemProgress:
        return ItemProgress(connection.id, connection.name, state, words)

    if item.skipped:
        return so(ItemState.SKIPPED, item.skipped)
    if token.generation > item.generation:
        if token.access_token_sealed is None:
            return so(ItemState.SKIPPED, "It was disconnected in the meantime.")
        return so(ItemState.REFRESHED)
    if closed is not None and closed.outcome in (Outcome.FAILED, Outcome.UNKNOWN):
        return so(ItemState.FAILED, closed.failure_reason)
    if token.is_leased(utc_now()):
        return so(ItemState.RUNNING)
    if token.next_refresh_at is None or token.next_refresh_at > utc_now():
        failed_since = connection.failed_at is not None and connection.failed_at >= since
        if failed_since:
            return so(ItemState.FAILED, connection.failure_reason)
        return so(ItemState.SKIPPED, eligibility.refusal(connection, token) or "The request was withdrawn.")
    return so(ItemState.WAITING)

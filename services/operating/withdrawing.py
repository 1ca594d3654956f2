"""Taking back what a cancelled bulk refresh has asked for, or leaving it to another bulk that waits for it as well."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, select

from config import Settings
from models import BulkRefresh, BulkRefreshItem, Connection, ConnectionState, Priority, Slot, Token, batches
from models.batches import update_many
from models.types import utc_now
from services.engine import states
from services.operating import progress
from services.resources import Resources

LEFT_DUE = "Something else asked for it as well, so it stayed due."
NOT_ASKED: Mapping[str, object] = {"requested_at": None, "requested_by": None, "held": False}
"""Columns of a token nobody has asked for."""


@dataclass(frozen=True)
class Waiting:
    """A connection of a bulk for which nothing has been sent yet."""

    token_id: uuid.UUID
    connection_id: uuid.UUID
    generation: int
    requested_at: datetime | None
    priority: Priority
    item_id: uuid.UUID
    generation_then: int
    due_before: datetime | None
    priority_before: int | None
    edited_at: datetime

    def is_ours(self, bulk: BulkRefresh) -> bool:
        """Whether it is due since this bulk was asked for, and for no other reason since."""
        marked = self.priority_before is not None and self.requested_at == bulk.created_at
        return marked and self.priority == Priority.MANUAL and self.generation == self.generation_then


@dataclass(frozen=True)
class Heir:
    """An item of another bulk that waits for the same token."""

    token_id: uuid.UUID
    item_id: uuid.UUID
    asked_at: datetime
    asked_by: uuid.UUID | None


def take_back(resources: Resources, bulk: BulkRefresh, most: int) -> tuple[int, int]:
    """Take `most` of what waits out of a cancelled bulk: how many go back to their own time, how many stay due.

    What this bulk made due and another one waits for is that one's from now on: cancelling it too gives it back.
    """
    with resources.database.session(writing=True) as session:
        found = [Waiting(*row) for row in session.exec(_waiting(bulk, most))]
        own = _own_times(session, resources.settings, bulk, [row for row in found if row.is_ours(bulk)])
        heirs = _heirs(session, bulk, [row.connection_id for row in found if row.token_id in own])
        given_back = own.keys() - heirs.keys()
        update_many(session, Token, [{"id": token_id, **NOT_ASKED, **own[token_id]} for token_id in given_back])
        _hand_on(session, own, list(heirs.values()))
        freed = [row.connection_id for row in found if row.token_id in given_back]
        _leave(
            session, [row.item_id for row in found if row.token_id in given_back] + _also_cancelled(session, freed), ""
        )
        _leave(session, [row.item_id for row in found if row.token_id not in given_back], LEFT_DUE)
        session.commit()
        return len(given_back), len(found) - len(given_back)


def _own_times(
    session: Session, settings: Settings, bulk: BulkRefresh, rows: Sequence[Waiting]
) -> dict[uuid.UUID, dict[str, object]]:
    """When the tokens of `rows` would be due if nobody had asked, and with which priority.

    What was edited since goes to the time it has by now; what waits for its next try keeps that.
    """
    own: dict[uuid.UUID, dict[str, object]] = {
        row.token_id: {"next_refresh_at": row.due_before, "priority": row.priority_before} for row in rows
    }
    edited = [row.token_id for row in rows if row.edited_at > bulk.created_at]
    query = select(Connection, Token).join(Token, col(Token.connection_id) == Connection.id)
    for connection, token in session.exec(query.where(col(Token.id).in_(edited))).all() if edited else ():
        if connection.state is ConnectionState.ACTIVE and not token.failures:
            states.reschedule(settings, connection, token)
            own[token.id] = {"next_refresh_at": token.next_refresh_at, "priority": token.priority}
            session.expire(token)  # it is written with the others
    return own


def _heirs(session: Session, bulk: BulkRefresh, connection_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, Heir]:
    """By token, the item of the eldest other bulk that waits for it as well and is not cancelled."""
    columns: Any = (Token.id, BulkRefreshItem.id, BulkRefresh.created_at, BulkRefresh.requested_by)
    query: Any = select(*columns).join(BulkRefreshItem, col(BulkRefreshItem.connection_id) == Token.connection_id)
    query = query.join(BulkRefresh, col(BulkRefresh.id) == BulkRefreshItem.bulk_id).where(
        batches.among(session, BulkRefreshItem.connection_id, connection_ids),
        BulkRefreshItem.bulk_id != bulk.id,
        BulkRefreshItem.generation == Token.generation,
        BulkRefreshItem.skipped == "",
        col(BulkRefreshItem.cancelled).is_(False),
        col(BulkRefresh.cancelled_at).is_(None),
        Token.slot == Slot.CURRENT,
    )
    heirs: dict[uuid.UUID, Heir] = {}
    for row in session.exec(query.order_by(BulkRefresh.created_at)) if connection_ids else ():
        heirs.setdefault(row[0], Heir(*row))
    return heirs


def _also_cancelled(session: Session, connection_ids: Sequence[uuid.UUID]) -> list[uuid.UUID]:
    """Items of other bulks that are being cancelled at this moment, for tokens that go back to their own time."""
    query: Any = select(BulkRefreshItem.id).join(Token, col(Token.connection_id) == BulkRefreshItem.connection_id)
    query = query.join(BulkRefresh, col(BulkRefresh.id) == BulkRefreshItem.bulk_id).where(
        batches.among(session, BulkRefreshItem.connection_id, connection_ids),
        BulkRefreshItem.generation == Token.generation,
        BulkRefreshItem.skipped == "",
        col(BulkRefreshItem.cancelled).is_(False),
        col(BulkRefresh.cancelled_at).is_not(None),
        Token.slot == Slot.CURRENT,
    )
    return list(session.exec(query)) if connection_ids else []


def _hand_on(session: Session, own: Mapping[uuid.UUID, dict[str, object]], heirs: Sequence[Heir]) -> None:
    """Let other bulks remember when tokens would have been due, and have made them due themselves."""
    marks = [{"id": heir.token_id, "requested_at": heir.asked_at, "requested_by": heir.asked_by} for heir in heirs]
    update_many(session, Token, marks)
    memories = [(heir.item_id, own[heir.token_id]) for heir in heirs]
    update_many(
        session,
        BulkRefreshItem,
        [
            {"id": item_id, "due_before": known["next_refresh_at"], "priority_before": known["priority"]}
            for item_id, known in memories
        ],
    )


def _leave(session: Session, item_ids: Sequence[uuid.UUID], words: str) -> None:
    """Take connections out of their bulk."""
    if item_ids:
        gone = update(BulkRefreshItem).where(batches.among(session, BulkRefreshItem.id, item_ids))
        session.execute(gone.values(cancelled=True, skipped=words).execution_options(synchronize_session=False))


def _waiting(bulk: BulkRefresh, most: int) -> Any:
    """What of a bulk waits and is in nobody's hands, locked: rows in somebody's hands are about to be sent."""
    item = BulkRefreshItem
    columns = (
        *(Token.id, Token.connection_id, Token.generation, Token.requested_at, Token.priority),
        *(item.id, item.generation, item.due_before, item.priority_before, Connection.updated_at),
    )
    return progress.waiting(columns, bulk, utc_now()).limit(most).with_for_update(of=[Token, item], skip_locked=True)

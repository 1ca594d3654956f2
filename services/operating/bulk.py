"""Refreshing thousands by hand: asked for part after part, and taken back as long as nothing was sent.

Nothing here sends a request. What is selected is marked due now, as by `services.operating.refreshes`; how it goes on
is told by `services.operating.progress`. No part holds a lock for longer than a few dozen milliseconds, so these verbs
open sessions of their own and commit more than once: an interrupted one leaves a smaller bulk behind, and no other
harm.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from config import Settings
from models import BulkRefresh, BulkRefreshItem, Connection, ConnectionState, Priority, Slot, Token
from models.batches import insert_many, update_many
from models.types import utc_now
from services import audit
from services.audit import Actor
from services.engine import eligibility, states
from services.errors import NotFound
from services.operating import overview, progress, refreshes
from services.operating.overview import Filter
from services.operating.progress import ItemState
from services.resources import Resources

PART = 500
"""Connections in one commit."""
GONE = "These refreshes are no longer followed."

Told = Callable[[Sequence[BulkRefresh], int], None]
"""Hears after each part what has been started, and how many connections have been looked at."""


@dataclass(frozen=True)
class Cancelled:
    """What cancelling a bulk did."""

    taken_back: int = 0
    """Connections that go back to when they would have been due."""
    under_way: int = 0
    """Connections whose refresh had been sent."""
    again: bool = False
    """It had been cancelled before."""

    @property
    def words(self) -> str:
        """For whoever pressed."""
        if self.again:
            return "These refreshes were cancelled already."
        if not self.taken_back:
            return "There was nothing left to cancel: every connection has been refreshed or is being refreshed now."
        still = f" {self.under_way} had been sent already and will finish." if self.under_way else ""
        return f"Cancelled for {self.taken_back}, which go back to their own time.{still}"


def ask(
    resources: Resources,
    wanted: Filter,
    requested_by: uuid.UUID | None,
    actor: Actor,
    *,
    told: Told = lambda _bulks, _number: None,
) -> list[BulkRefresh]:
    """Have everything that `wanted` selects refreshed now; a bulk to follow for each workspace. The caller rings.

    The caller has checked that the person may do so in every workspace that is selected.
    """
    ids, bulks = _open(resources, wanted, requested_by, actor)
    for place in range(0, len(ids), PART):
        with resources.database.session(writing=True) as session:
            rows = _part(session, ids[place : place + PART])
            _ask_part(session, resources.settings, rows, _not_cancelled(session, bulks))
            session.commit()
        told(list(bulks.values()), min(place + PART, len(ids)))
    return list(bulks.values())


def cancel(resources: Resources, bulk_id: uuid.UUID, cancelled_by: uuid.UUID | None, actor: Actor) -> Cancelled:
    """Take back what has not been sent yet; what is under way finishes. Raises NotFound.

    A connection that somebody else asked for as well stays due.
    """
    with resources.database.session(writing=True) as session:
        bulk = session.get(BulkRefresh, bulk_id, with_for_update=True, populate_existing=True)
        if bulk is None:
            raise NotFound(GONE)
        if bulk.cancelled_at is not None:
            return Cancelled(again=True)
        if not progress.progress(session, bulk).count(ItemState.WAITING):
            return Cancelled()
        bulk.cancelled_at, bulk.cancelled_by = utc_now(), cancelled_by
        session.add(bulk)
        audit.record(session, actor, "bulk.cancelled", bulk)
        session.commit()
    number = 0
    while part := _take_back(resources, bulk):
        number += part
    with resources.database.session() as session:
        return Cancelled(number, progress.progress(session, bulk).count(ItemState.RUNNING))


def recent(session: Session, workspace_id: uuid.UUID | None, *, size: int = 5) -> Sequence[BulkRefresh]:
    """The last bulk refreshes of a workspace, of all with None; newest first."""
    query = select(BulkRefresh).order_by(col(BulkRefresh.created_at).desc()).limit(size)
    return session.exec(query if workspace_id is None else query.where(BulkRefresh.workspace_id == workspace_id)).all()


def _open(
    resources: Resources, wanted: Filter, requested_by: uuid.UUID | None, actor: Actor
) -> tuple[list[uuid.UUID], dict[uuid.UUID, BulkRefresh]]:
    """What is selected, and a bulk for each workspace of it, on record before anything is marked."""
    with resources.database.session() as session:
        query = overview.selected(select(Connection.id, Connection.workspace_id), wanted)
        found = session.exec(query.order_by(col(Connection.id))).all()
    numbers = Counter(workspace_id for _, workspace_id in found)
    bulks = {
        workspace_id: BulkRefresh(workspace_id=workspace_id, requested_by=requested_by)
        for workspace_id in sorted(numbers)
    }
    with resources.database.session(writing=True) as session:
        session.add_all(bulks.values())
        for workspace_id, bulk in bulks.items():
            audit.record(session, actor, "bulk.requested", bulk, number=numbers[workspace_id])
        session.commit()
    return [row_id for row_id, _ in found], bulks


def _part(session: Session, ids: Sequence[uuid.UUID]) -> Sequence[tuple[Connection, Token]]:
    """Of the connections that are selected those of one part."""
    query = overview.selected(select(Connection, Token), Filter(connection_ids=frozenset(ids)))
    return list(session.exec(query))


def _not_cancelled(session: Session, bulks: dict[uuid.UUID, BulkRefresh]) -> dict[uuid.UUID, BulkRefresh]:
    """Somebody may cancel while there is still more to ask for."""
    ids = [bulk.id for bulk in bulks.values()]
    going_on = select(BulkRefresh.id).where(col(BulkRefresh.id).in_(ids), col(BulkRefresh.cancelled_at).is_(None))
    left = set(session.exec(going_on))
    return {workspace_id: bulk for workspace_id, bulk in bulks.items() if bulk.id in left}


def _ask_part(
    session: Session,
    settings: Settings,
    rows: Sequence[tuple[Connection, Token]],
    bulks: dict[uuid.UUID, BulkRefresh],
) -> None:
    """Mark what can be refreshed, and write an item for each connection. Does not commit."""
    rows = [(connection, token) for connection, token in rows if connection.workspace_id in bulks]
    skipped = {connection.id: eligibility.refusal(connection, token) for connection, token in rows}
    by_bulk: dict[uuid.UUID, list[uuid.UUID]] = {}
    for connection, _ in rows:
        by_bulk.setdefault(connection.workspace_id, []).append(connection.id)
    items = []
    for workspace_id, ids in by_bulk.items():
        bulk = bulks[workspace_id]
        wanted = [row_id for row_id in ids if not skipped[row_id]]
        # All marks of a bulk bear its own moment: by that they are known when it is cancelled.
        marks = refreshes.mark(session, settings, wanted, bulk.requested_by, bulk.created_at, skip_locked=True)
        joined = refreshes.joined_generations(session, [row_id for row_id in wanted if row_id not in marks])
        items += [_item(bulk, row_id, skipped[row_id], marks.get(row_id), joined.get(row_id, 0)) for row_id in ids]
    if items:
        insert_many(session, BulkRefreshItem, items)


def _item(
    bulk: BulkRefresh, connection_id: uuid.UUID, skipped: str, mark: refreshes.Mark | None, joined: int
) -> dict[str, object]:
    return {
        "id": uuid.uuid4(),
        "workspace_id": bulk.workspace_id,
        "bulk_id": bulk.id,
        "connection_id": connection_id,
        "generation": mark.generation if mark else joined,
        "skipped": skipped,
        "due_before": mark.due_before if mark else None,
        "priority_before": mark.priority_before if mark else None,
        "cancelled": False,
    }


def _take_back(resources: Resources, bulk: BulkRefresh) -> int:
    """Give one part of what waits its own time and priority back; returns how many."""
    with resources.database.session(writing=True) as session:
        found = session.exec(_waiting(bulk, utc_now())).all()
        if found:
            update_many(session, Token, [{"id": row[0], **_own_time(*row[2:4])} for row in found])
            _plan_anew(session, resources.settings, [row[0] for row in found if row[4]])
            gone = update(BulkRefreshItem).where(col(BulkRefreshItem.id).in_([row[1] for row in found]))
            session.execute(gone.values(cancelled=True).execution_options(synchronize_session=False))
            session.commit()
        return len(found)


def _plan_anew(session: Session, settings: Settings, token_ids: Sequence[uuid.UUID]) -> None:
    """What was edited since it was asked for goes to the time it has by now; what waits for its next try keeps that."""
    query = select(Connection, Token).join(Token, col(Token.connection_id) == Connection.id)
    for connection, token in session.exec(query.where(col(Token.id).in_(token_ids))) if token_ids else ():
        if connection.state is ConnectionState.ACTIVE and not token.failures:
            states.reschedule(settings, connection, token)
            session.add(token)


def _own_time(due_before: datetime | None, priority_before: int) -> dict[str, object]:
    """A token's columns as if nobody had asked."""
    return {
        "next_refresh_at": due_before,
        "priority": priority_before,
        "requested_at": None,
        "requested_by": None,
        "held": False,
    }


def _waiting(bulk: BulkRefresh, now: datetime) -> Any:
    """Ids of tokens this bulk made due that nobody has sent, with those of their items and what these remember.

    With each, whether somebody has edited the connection since. Rows in somebody's hands are about to be sent. What
    another bulk waits for as well is left to it.
    """
    item, another = aliased(BulkRefreshItem), aliased(BulkRefreshItem)
    also_wanted = (
        select(another.id)
        .join(BulkRefresh, col(BulkRefresh.id) == another.bulk_id)
        .where(
            another.connection_id == Token.connection_id,
            another.bulk_id != bulk.id,
            another.generation == Token.generation,
            another.skipped == "",
            col(another.cancelled).is_(False),
            col(BulkRefresh.cancelled_at).is_(None),
        )
        .exists()
    )
    edited = col(Connection.updated_at) > bulk.created_at
    columns: Any = (Token.id, item.id, item.due_before, item.priority_before, edited)
    query: Any = select(*columns).join(item, col(item.connection_id) == Token.connection_id)
    query = query.join(Connection, col(Connection.id) == Token.connection_id)
    return (
        query.where(
            item.bulk_id == bulk.id,
            col(item.priority_before).is_not(None),
            col(item.cancelled).is_(False),
            Token.slot == Slot.CURRENT,
            Token.generation == item.generation,
            Token.requested_at == bulk.created_at,
            Token.priority == Priority.MANUAL,
            or_(col(Token.next_refresh_at) <= now, col(Token.held)),
            col(Token.next_refresh_at).is_not(None),
            or_(col(Token.lease_until).is_(None), col(Token.lease_until) <= now),
            ~also_wanted,
        )
        .limit(PART)
        .with_for_update(of=Token, skip_locked=True)
    )

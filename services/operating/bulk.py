"""Refreshing thousands by hand: asked for part after part, and taken back as long as nothing was sent.

Nothing here sends a request. What is selected is marked due now, as by `services.operating.refreshes`; how it goes on
is told by `services.operating.progress`. No part holds a lock for longer than a few dozen milliseconds, so these verbs
open sessions of their own and commit more than once: an interrupted one leaves a smaller bulk behind, and no other
harm.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from config import Settings
from models import BulkRefresh, BulkRefreshItem, Connection, Token
from models.batches import insert_many
from models.types import utc_now
from services import audit
from services.audit import Actor
from services.engine import eligibility
from services.errors import NotFound
from services.operating import overview, progress, refreshes, withdrawing
from services.operating.overview import Filter
from services.operating.progress import ItemState
from services.resources import Resources

PART = 500
"""Connections in one commit."""
TRIES, TRY_SECONDS = 20, 0.05
"""For rows that somebody else has locked while they are to be taken back."""
GONE = "These refreshes are no longer followed."

Told = Callable[[Sequence[BulkRefresh], int], None]
"""Hears after each part what has been started, and how many connections have been looked at."""


@dataclass(frozen=True)
class Cancelled:
    """What cancelling a bulk did."""

    taken_back: int = 0
    """Connections that go back to when they would have been due."""
    left_due: int = 0
    """Connections that this leaves due, since somebody else asked for them as well."""
    under_way: int = 0
    """Connections whose refresh had been sent."""
    again: bool = False
    """It had been cancelled before."""

    @property
    def words(self) -> str:
        """For whoever pressed."""
        if self.again:
            return "These refreshes were cancelled already."
        if not (self.taken_back or self.left_due):
            return "There was nothing left to cancel: every connection has been refreshed or is being refreshed now."
        told = []
        if self.taken_back:
            told.append(f"Cancelled for {self.taken_back}, which go back to their own time.")
        if self.left_due:
            told.append(f"Cancelled here for {self.left_due}, which stay due: something else asked for them as well.")
        if self.under_way:
            told.append(f"{self.under_way} had been sent already and will finish.")
        return " ".join(told)


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

    A connection that somebody else asked for as well leaves this bulk and stays due, for theirs to take back.
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
    left_due = tries = 0
    while True:
        returned, left = withdrawing.take_back(resources, bulk, PART)
        left_due += left
        if returned or left:
            continue
        with resources.database.session() as session:
            stands = progress.progress(session, bulk)
        if not stands.count(ItemState.WAITING) or tries == TRIES:
            taken_back = stands.count(ItemState.CANCELLED) - left_due  # by us, or by who cancels another at this moment
            return Cancelled(taken_back, left_due, stands.count(ItemState.RUNNING))
        tries += 1  # somebody has the rows that are left, for a moment
        time.sleep(TRY_SECONDS)


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
    left = set(session.exec(going_on.with_for_update(read=True, key_share=True)))  # who cancels waits for this part
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

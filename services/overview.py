"""How the connections of one or all workspaces stand, as operators look at them. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlmodel import Session, col, func, select

from models import SHOWN_STATES, Connection, ConnectionState, Slot, Token, Workspace
from models.types import utc_now

PAGE_SIZE = 50
AT_ONCE = 500
"""Rows read at a time where all are wanted."""
FAILING = (
    ConnectionState.DEGRADED,
    ConnectionState.EXPIRED_RETRYING,
    ConnectionState.REAUTH_REQUIRED,
    ConnectionState.MISCONFIGURED,
)
OTHERS = tuple(state for state in ConnectionState if state not in FAILING)


@dataclass(frozen=True)
class Filter:
    """Which connections are looked at. `workspace_id` None: those of all workspaces."""

    workspace_id: uuid.UUID | None = None
    shown: str = ""
    """A state by its word on the screen; empty for any."""
    text: str = ""
    """Part of the connection's or workspace's name or the provider's host; empty for any."""
    failing: bool = False
    """Only those somebody has to look after."""
    connection_ids: frozenset[uuid.UUID] | None = None
    """Only these, a thousand at the most; None for any."""
    due_until: datetime | None = None
    """Only those whose next refresh falls before that; None for any."""

    @property
    def states(self) -> tuple[ConnectionState, ...]:
        """Inside states that are looked at."""
        chosen = FAILING if self.failing else tuple(ConnectionState)
        return tuple(state for state in chosen if not self.shown or state.shown == self.shown)


@dataclass(frozen=True)
class OverviewRow:
    """A connection with what an operator wants to know of it."""

    connection: Connection
    workspace: Workspace
    token: Token

    @property
    def is_running(self) -> bool:
        """Whether a refresh is under way."""
        return self.token.is_leased(utc_now())

    @property
    def is_due(self) -> bool:
        """Whether it waits for a refresh to be sent."""
        due = self.token.next_refresh_at
        return due is not None and due <= utc_now()


@dataclass(frozen=True)
class Page:
    """Rows of one page, those that need somebody first."""

    rows: Sequence[OverviewRow]
    number: int
    total: int

    @property
    def has_next(self) -> bool:
        """Whether there is a page after this."""
        return self.number * PAGE_SIZE < self.total


def page(session: Session, wanted: Filter, number: int = 1) -> Page:
    """One page of connections.

    Those that need somebody and the others are read one after the other, each in the order of an index, and
    never sorted together.
    """
    by_state = states(session, wanted)
    rows: list[OverviewRow] = []
    place = (number - 1) * PAGE_SIZE
    for group in (FAILING, OTHERS):
        there = sum(by_state.get(state, 0) for state in group)
        if place < there and len(rows) < PAGE_SIZE:
            rows += _rows(session, wanted, group, place, PAGE_SIZE - len(rows))
        place = max(0, place - there)
    return Page(rows, number, sum(by_state.values()))


def every(session: Session, wanted: Filter) -> Iterator[OverviewRow]:
    """All connections that are selected, by workspace and name, read bit by bit."""
    query = selected(select(Connection, Workspace, Token), wanted)
    query = query.order_by(col(Workspace.name), col(Connection.name)).execution_options(yield_per=AT_ONCE)
    for row in session.exec(query):
        yield OverviewRow(*row)


def states(session: Session, wanted: Filter) -> dict[ConnectionState, int]:
    """Of the connections that are selected, how many are in which state."""
    if wanted.states == () or wanted.connection_ids == frozenset():
        return {}
    query = select(Connection.state, func.count()).group_by(col(Connection.state))
    return dict(session.exec(selected(query, wanted)).all())


def numbers(session: Session, wanted: Filter) -> dict[uuid.UUID, int]:
    """How many connections are selected in each workspace that has any."""
    query = select(Connection.workspace_id, func.count()).group_by(col(Connection.workspace_id))
    return dict(session.exec(selected(query, wanted)).all())


def counts(session: Session, workspace_id: uuid.UUID | None = None) -> dict[str, int]:
    """Connections by the state shown, every state named; of all workspaces with None."""
    result = dict.fromkeys(SHOWN_STATES, 0)
    for state, number in states(session, Filter(workspace_id)).items():
        result[state.shown] += number
    return result


def selected(query: Any, wanted: Filter) -> Any:
    """A query about connections, joined to their workspaces and tokens and narrowed to what is wanted.

    What only counts connections is not joined to what it does not ask for.
    """
    conditions = _conditions(wanted)
    entities = {description["entity"] for description in query.column_descriptions} - {None}
    query = query.select_from(Connection)
    if wanted.text or Workspace in entities:
        query = query.join(Workspace, col(Workspace.id) == Connection.workspace_id)
    if wanted.text or wanted.due_until is not None or Token in entities:
        query = query.join(Token, col(Token.connection_id) == Connection.id)
        conditions.append(col(Token.slot) == Slot.CURRENT)
    return query.where(*conditions)


def _rows(
    session: Session, wanted: Filter, group: tuple[ConnectionState, ...], place: int, size: int
) -> list[OverviewRow]:
    query = selected(select(Connection, Workspace, Token), wanted).where(col(Connection.state).in_(group))
    by_name = (col(Workspace.name), col(Connection.name), col(Connection.id))
    order = by_name if wanted.workspace_id is None else by_name[1:]
    return [OverviewRow(*row) for row in session.exec(query.order_by(*order).offset(place).limit(size))]


def _conditions(wanted: Filter) -> list[ColumnElement[bool] | Any]:
    conditions: list[Any] = []
    if wanted.workspace_id is not None:
        conditions.append(Connection.workspace_id == wanted.workspace_id)
    if wanted.shown or wanted.failing:
        conditions.append(col(Connection.state).in_(wanted.states))
    if wanted.connection_ids is not None:
        conditions.append(col(Connection.id).in_(wanted.connection_ids))
    if wanted.due_until is not None:
        conditions.append(col(Token.next_refresh_at) <= wanted.due_until)
    if wanted.text:
        places = (col(Connection.name), col(Workspace.name), col(Token.provider_host))
        conditions.append(or_(*(place.icontains(wanted.text, autoescape=True) for place in places)))
    return conditions

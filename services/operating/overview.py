"""How the connections of one or all workspaces stand, as operators look at them. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, or_
from sqlmodel import Session, col, func, select

from models import EVERYTHING, SHOWN_STATES, Connection, ConnectionState, Priority, Slot, Token, Workspace
from models.types import utc_now
from services.engine import states

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
    """Part of the connection's or workspace's name or of the token endpoint; empty for any."""
    failing: bool = False
    """Only those somebody has to look after."""
    connection_ids: frozenset[uuid.UUID] | None = None
    """Only these, a thousand at the most; None for any."""
    due_until: datetime | None = None
    """Only those whose next refresh falls before that; None for any."""

    @property
    def is_choosy(self) -> bool:
        """Whether it looks at something else than workspace, state and text."""
        return self.connection_ids is not None or self.due_until is not None

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

    def is_stopped(self, paused: Collection[str]) -> bool:
        """Whether nothing is sent for it: it is paused, or its host is among those `paused`, or everything is."""
        hosts = (EVERYTHING, self.token.provider_host)
        return self.connection.state is ConnectionState.PAUSED or any(host in paused for host in hosts)

    @property
    def next_refresh(self) -> datetime | None:
        """When it is renewed next; None too for what nothing renews, which is due at its end."""
        return self.token.next_refresh_at if states.renewable(self.connection, self.token) else None


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

    @property
    def extent(self) -> str:
        """Which rows of how many: `51 to 100 of 1,234`; empty where there are none."""
        first = (self.number - 1) * PAGE_SIZE + 1
        return f"{first:,} to {first + len(self.rows) - 1:,} of {self.total:,}" if self.rows else ""


def page(
    session: Session,
    wanted: Filter,
    number: int = 1,
    *,
    by_name: bool = False,
    known: Mapping[ConnectionState, int] | None = None,
) -> Page:
    """One page of connections: those that need somebody first, or all `by_name`.

    Those that need somebody and the others are read one after the other, each in the order of an index, and never
    sorted together. `known` are the connections of the workspace by state, where they have been counted already.
    """
    if wanted.text:
        return _searched(session, wanted, number, by_name=by_name)
    if known is None or wanted.is_choosy:
        known = by_states(session, wanted)
    here = {state: known.get(state, 0) for state in wanted.states}
    ids: list[uuid.UUID] = []
    place = (number - 1) * PAGE_SIZE
    for group in (tuple(ConnectionState),) if by_name else (FAILING, OTHERS):
        there = sum(here.get(state, 0) for state in group)
        if place < there and len(ids) < PAGE_SIZE:
            ids += _ids(session, wanted, group, place, PAGE_SIZE - len(ids))
        place = max(0, place - there)
    return Page(_rows(session, ids), number, sum(here.values()))


def every(session: Session, wanted: Filter) -> Iterator[OverviewRow]:
    """All connections that are selected, by workspace and name, read bit by bit."""
    query = selected(select(Connection, Workspace, Token), wanted)
    query = query.order_by(col(Workspace.name), col(Connection.name)).execution_options(yield_per=AT_ONCE)
    for row in session.exec(query):
        yield OverviewRow(*row)


def by_states(session: Session, wanted: Filter) -> dict[ConnectionState, int]:
    """Of the connections that are selected, how many are in which state."""
    if wanted.states == () or wanted.connection_ids == frozenset():
        return {}
    query = select(Connection.state, func.count()).group_by(col(Connection.state))
    return dict(session.exec(selected(query, wanted)).all())


def counts(session: Session, workspace_id: uuid.UUID | None = None) -> dict[str, int]:
    """Connections by the state shown, every state named; of all workspaces with None."""
    return by_words(by_states(session, Filter(workspace_id)))


def by_words(known: Mapping[ConnectionState, int]) -> dict[str, int]:
    """Numbers by the state shown, every state named."""
    result = dict.fromkeys(SHOWN_STATES, 0)
    for state, number in known.items():
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
    if wanted.due_until is not None or Token in entities:
        query = query.join(Token, col(Token.connection_id) == Connection.id)
        conditions.append(col(Token.slot) == Slot.CURRENT)
    return query.where(*conditions)


def _searched(session: Session, wanted: Filter, number: int, *, by_name: bool) -> Page:
    """A page of what a text is found in: every row has to be looked at, so that is done once."""
    needs_somebody = case((col(Connection.state).in_(FAILING), 0), else_=1)
    order = [*([] if by_name else [needs_somebody]), *_by_name(wanted)]
    query = selected(select(Connection.id, func.count().over()), wanted).order_by(*order)
    found = session.exec(query.offset((number - 1) * PAGE_SIZE).limit(PAGE_SIZE)).all()
    if not found and number > 1:
        return Page([], number, sum(by_states(session, wanted).values()))
    return Page(_rows(session, [row_id for row_id, _ in found]), number, found[0][1] if found else 0)


def _ids(
    session: Session, wanted: Filter, group: tuple[ConnectionState, ...], place: int, size: int
) -> Sequence[uuid.UUID]:
    """Ids of a part of a group in order: what lies before it is passed over in the index, and not read."""
    query = selected(select(Connection.id), wanted)
    if wanted.workspace_id is None:
        query = query.join(Workspace, col(Workspace.id) == Connection.workspace_id)
    if len(group) < len(ConnectionState):
        query = query.where(col(Connection.state).in_(group))
    return list(session.exec(query.order_by(*_by_name(wanted)).offset(place).limit(size)))


def _by_name(wanted: Filter) -> list[Any]:
    here = [col(Connection.name), col(Connection.id)]
    return here if wanted.workspace_id is not None else [col(Workspace.name), *here]


def _rows(session: Session, ids: Sequence[uuid.UUID]) -> list[OverviewRow]:
    """The rows of these connections, in the same order."""
    if not ids:
        return []
    query = selected(select(Connection, Workspace, Token), Filter(connection_ids=frozenset(ids)))
    found = {row[0].id: OverviewRow(*row) for row in session.exec(query)}
    return [found[row_id] for row_id in ids if row_id in found]


def _conditions(wanted: Filter) -> list[ColumnElement[bool] | Any]:
    conditions: list[Any] = []
    if wanted.workspace_id is not None:
        conditions.append(Connection.workspace_id == wanted.workspace_id)
    if wanted.shown or wanted.failing:
        conditions.append(col(Connection.state).in_(wanted.states))
    if wanted.connection_ids is not None:
        conditions.append(col(Connection.id).in_(wanted.connection_ids))
    if wanted.due_until is not None:
        by_index = col(Token.priority).in_(list(Priority))  # it begins with the priority
        conditions += [by_index, col(Token.next_refresh_at) <= wanted.due_until]
    if wanted.text:
        places = (col(Connection.name), col(Workspace.name), col(Connection.token_endpoint))
        conditions.append(or_(*(place.icontains(wanted.text, autoescape=True) for place in places)))
    return conditions

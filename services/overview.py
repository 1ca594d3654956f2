"""How the connections of one or all workspaces stand, as operators look at them. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case
from sqlmodel import Session, col, func, or_, select

from models import SHOWN_STATES, Connection, ConnectionState, Slot, Token, Workspace
from models.types import utc_now

PAGE_SIZE = 50
FAILING = (
    ConnectionState.DEGRADED,
    ConnectionState.EXPIRED_RETRYING,
    ConnectionState.REAUTH_REQUIRED,
    ConnectionState.MISCONFIGURED,
)


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
    """One page of connections."""
    conditions = _conditions(wanted)
    query = (
        select(Connection, Workspace, Token)
        .join(Workspace, col(Workspace.id) == Connection.workspace_id)
        .join(Token, col(Token.connection_id) == Connection.id)
        .where(*conditions)
    )
    total = session.exec(select(func.count()).select_from(query.subquery())).one()
    needs_somebody = case((col(Connection.state).in_(FAILING), 0), else_=1)
    order = (needs_somebody, col(Workspace.name), col(Connection.name), col(Connection.id))
    found = session.exec(query.order_by(*order).offset((number - 1) * PAGE_SIZE).limit(PAGE_SIZE)).all()
    return Page([OverviewRow(*row) for row in found], number, total)


def counts(session: Session, workspace_id: uuid.UUID | None = None) -> dict[str, int]:
    """Connections by the state shown, every state named; of all workspaces with None."""
    query = select(Connection.state, func.count()).group_by(col(Connection.state))
    if workspace_id is not None:
        query = query.where(Connection.workspace_id == workspace_id)
    result = dict.fromkeys(SHOWN_STATES, 0)
    for state, number in session.exec(query):
        result[ConnectionState(state).shown] += number
    return result


def _conditions(wanted: Filter) -> list[ColumnElement[bool] | Any]:
    conditions: list[Any] = [col(Token.slot) == Slot.CURRENT]
    if wanted.workspace_id is not None:
        conditions.append(Connection.workspace_id == wanted.workspace_id)
    if wanted.shown:
        states = [state for state in ConnectionState if state.shown == wanted.shown]
        conditions.append(col(Connection.state).in_(states))
    if wanted.failing:
        conditions.append(col(Connection.state).in_(FAILING))
    if wanted.text:
        places = (col(Connection.name), col(Workspace.name), col(Token.provider_host))
        conditions.append(or_(*(place.icontains(wanted.text, autoescape=True) for place in places)))
    return conditions

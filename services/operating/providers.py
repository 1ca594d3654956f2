"""How providers' hosts stand, as operators look at them, and what a pause means for them. Changes nothing."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import case, func
from sqlmodel import Session, col, select

from config import Settings
from models import EVERYTHING, Connection, ProviderHost, Slot, Token, User
from oauth.vocabulary import FailureClass
from services.engine import hosts


class Standing(StrEnum):
    """How a host stands, what needs somebody first."""

    PAUSED = "paused"
    SILENT = "silent"
    """Nothing is sent there until it may be tried again."""
    SLOWED = "slowed"
    """It asked for fewer requests, and is left alone for a moment."""
    TRYING = "trying"
    """The time for which it was left alone is over: one request tries it, now or as soon as one is due."""
    TROUBLED = "troubled"
    """The last requests failed, fewer than it takes to leave it alone."""
    FINE = "fine"


@dataclass(frozen=True)
class Provider:
    """A host with what an operator wants to know of it. Counts are of what is looked at."""

    host: str
    connections: int
    in_flight: int
    waiting: int
    """Tokens that wait until it answers."""
    limit: int
    row: ProviderHost
    standing: Standing
    paused_by: str = ""
    """Email; empty for the command line."""
    being_tried: bool = False
    """Whether the request is under way that finds out whether it is back."""


@dataclass(frozen=True)
class Notice:
    """A pause in force. `host` is `EVERYTHING` for all of them."""

    host: str
    since: datetime
    paused_by: str = ""

    @property
    def is_for_all(self) -> bool:
        """Whether no provider at all is asked."""
        return self.host == EVERYTHING


def listed(session: Session, settings: Settings, now: datetime, workspace_id: uuid.UUID | None) -> list[Provider]:
    """The hosts of a workspace's connections, or with None of all; those that need somebody first."""
    counts = _counts(session, now, workspace_id)
    query = select(ProviderHost, hosts.limit(settings)).where(ProviderHost.host != EVERYTHING)
    known = {row.host: (row, limit) for row, limit in session.exec(query)}
    names = _names(session, [row for row, _ in known.values()])
    shown = set(counts) | (set(known) if workspace_id is None else set())
    found = []
    for host in shown:
        row, limit = known.get(host) or (ProviderHost(host=host), settings.host_concurrency)
        by = names.get(row.paused_by, "") if row.paused_by else ""
        standing = _standing(row, now)
        tried = standing is Standing.TRYING and is_being_tried(session, now, host)
        found.append(Provider(host, *counts.get(host, (0, 0, 0)), limit, row, standing, by, tried))
    order = list(Standing)
    return sorted(found, key=lambda one: (order.index(one.standing), -one.connections, one.host))


def notices(session: Session, workspace_id: uuid.UUID | None, host: str | None = None) -> list[Notice]:
    """The pauses in force for a workspace's connections (None: for all), or for one host; everything's first."""
    rows = session.exec(select(ProviderHost).where(col(ProviderHost.paused_at).is_not(None))).all()
    names = _names(session, rows)
    found = [
        Notice(row.host, row.paused_at, names.get(row.paused_by, "") if row.paused_by else "")
        for row in rows
        if row.paused_at is not None and (row.host == EVERYTHING or _concerns(session, row.host, workspace_id, host))
    ]
    return sorted(found, key=lambda notice: (not notice.is_for_all, notice.host))


def numbers(session: Session, now: datetime) -> dict[Standing, int]:
    """How many hosts stand in each way that is not fine. Counts hosts with something to say about them only."""
    rows = session.exec(select(ProviderHost).where(ProviderHost.host != EVERYTHING)).all()
    found = Counter(_standing(row, now) for row in rows)
    return {standing: found[standing] for standing in Standing if standing is not Standing.FINE}


def in_trouble(session: Session, workspace_id: uuid.UUID | None) -> bool:
    """Whether a host of a workspace's connections, with None any, does not stand as it should. Counts nothing."""
    told = (col(ProviderHost.failures) > 0, col(ProviderHost.open_until).is_not(None))
    paused = (col(ProviderHost.paused_at).is_not(None), col(ProviderHost.host) != EVERYTHING)
    rows = session.exec(select(ProviderHost).where(sa.or_(*told, sa.and_(*paused))))
    return any(_concerns(session, row.host, workspace_id, None) for row in rows)


def trouble(session: Session, now: datetime, host: str) -> ProviderHost | None:
    """The row of a host to which nothing is sent since it was found down; None while it is asked."""
    row = session.exec(select(ProviderHost).where(ProviderHost.host == host)).first()
    return row if row is not None and _standing(row, now) in (Standing.SILENT, Standing.TRYING) else None


def is_being_tried(session: Session, now: datetime, host: str) -> bool:
    """Whether a request to a host is under way, whichever workspace it is for."""
    query = select(Token.id).where(Token.provider_host == host, col(Token.lease_until) > now)
    return session.exec(query.limit(1)).first() is not None


def _concerns(session: Session, paused: str, workspace_id: uuid.UUID | None, host: str | None) -> bool:
    """Whether a pause of a host is news for who looks at another, or at the connections of a workspace."""
    if host is not None:
        return paused == host
    if workspace_id is None:
        return True
    query = _tokens_of(workspace_id, Token.id).where(col(Token.provider_host) == paused)
    return session.execute(query.limit(1)).first() is not None


def _tokens_of(workspace_id: uuid.UUID | None, *columns: Any) -> Any:
    """A query over current tokens, found by way of their connections; with None over all."""
    query = sa.select(*columns).where(col(Token.slot) == Slot.CURRENT)
    if workspace_id is None:
        return query
    query = query.join_from(Connection, Token, col(Token.connection_id) == Connection.id)
    return query.where(col(Connection.workspace_id) == workspace_id)


def _counts(session: Session, now: datetime, workspace_id: uuid.UUID | None) -> Mapping[str, tuple[int, int, int]]:
    """Connections, requests in flight and waiting tokens by host."""
    in_flight = func.coalesce(func.sum(case((col(Token.lease_until) > now, 1), else_=0)), 0)
    waiting = func.coalesce(func.sum(case((col(Token.held), 1), else_=0)), 0)
    query = _tokens_of(workspace_id, Token.provider_host, func.count(), in_flight, waiting)
    query = query.where(Token.provider_host != "").group_by(Token.provider_host)
    return {host: (total, sent, held) for host, total, sent, held in session.execute(query)}


def _names(session: Session, rows: Collection[ProviderHost]) -> Mapping[uuid.UUID, str]:
    ids = {row.paused_by for row in rows if row.paused_by is not None}
    return dict(session.exec(select(User.id, User.email).where(col(User.id).in_(ids))).all()) if ids else {}


def _standing(row: ProviderHost, now: datetime) -> Standing:
    if row.paused_at is not None:
        return Standing.PAUSED
    slowed = row.failure_class is FailureClass.THROTTLED
    if row.open_until is not None and row.open_until > now:
        return Standing.SLOWED if slowed else Standing.SILENT
    if row.open_until is not None:
        return Standing.TRYING
    return Standing.TROUBLED if row.failures else Standing.FINE

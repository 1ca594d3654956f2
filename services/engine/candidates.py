"""Which due tokens may be sent for now: in their order, as their hosts have room, suspects apart. Leases nothing."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    CompoundSelect,
    Integer,
    Row,
    and_,
    bindparam,
    case,
    func,
    not_,
    or_,
    union_all,
)
from sqlmodel import Session, col

from config import Settings
from models import Priority, Token
from models.types import UtcDateTime
from oauth.vocabulary import Reuse, Rotation
from services.engine import habits
from services.engine.hosts import Standing
from services.floors import Floors

ROUNDS = 8
"""Looks at what is due, each without the hosts found full in those before, until there are enough candidates."""
WIDER = 4
"""By what a look is wider than what is still wanted, once hosts were found full."""
SUSPECTS = 16
"""Requests in flight at most for tokens at whose last refresh a process died; of those of more deaths, one."""


@dataclass
class Room:
    """What is in flight, all processes together, and how much more may be."""

    settings: Settings
    standing: Standing
    reserve: bool = False
    """Whether places are kept for cards that wait."""
    at_host: Counter[str] = field(default_factory=Counter)
    strict: Counter[str] = field(default_factory=Counter)
    """Of those, at providers where a refresh that is cut short may cost the grant."""
    suspects: int = 0
    bad_suspects: int = 0

    @classmethod
    def left(
        cls, session: Session, settings: Settings, standing: Standing, taken: datetime, *, reserve: bool = False
    ) -> Room:
        """Count what is leased; `taken` is the moment by the clock of leases."""
        room = cls(settings, standing, reserve)
        kinds = (col(Token.provider_host), col(Token.rotation), col(Token.reuse), col(Token.interruptions))
        query = sa.select(*kinds, func.count()).where(col(Token.lease_until) > taken).group_by(*kinds)
        for host, rotation, reuse, deaths, count in session.execute(query):
            room.add(host, habits.is_strict(rotation, reuse), deaths, count)
        return room

    def add(self, host: str, strict: bool, deaths: int, count: int = 1) -> None:
        """Something more is in flight; `deaths` are those of processes at earlier refreshes of it."""
        self.at_host[host] += count
        self.strict[host] += count if strict else 0
        self.suspects += count if deaths == 1 else 0
        self.bad_suspects += count if deaths > 1 else 0

    def take(self, host: str, strict: bool, deaths: int) -> bool:
        """Whether there is room for one more, which is then counted."""
        if host in self.standing.closed or self.is_full(host) or (strict and self.is_full_for_strict(host)):
            return False
        if (deaths == 1 and self.suspects >= SUSPECTS) or (deaths > 1 and self.bad_suspects >= 1):
            return False
        self.add(host, strict, deaths)
        return True

    def take_token(self, token: Token, *, whatever_died: bool) -> bool:
        """`take`, for a row; `whatever_died` where a person waits for the answer."""
        died = 0 if whatever_died else token.interruptions + (token.lease_owner is not None)
        return self.take(token.provider_host, habits.is_strict(token.rotation, token.reuse), died)

    def is_full(self, host: str) -> bool:
        """Whether a host has no room."""
        limit = self.standing.limits.get(host, self.settings.host_concurrency)
        kept_free = min(self.settings.agent_reserve, limit // 4) if self.reserve else 0
        return self.at_host[host] >= limit - kept_free

    def is_full_for_strict(self, host: str) -> bool:
        """Whether a host has no room for what a crash may cost."""
        return self.strict[host] >= self.settings.strict_concurrency

    def open(self) -> Iterator[ColumnElement[bool]]:
        """Conditions that leave out what there is no room for, as far as is known by now."""
        full = {host for host in self.at_host if self.is_full(host)} | self.standing.closed
        if full:
            yield col(Token.provider_host).not_in(sorted(full))
        strict = {host for host in self.strict if self.strict[host] and self.is_full_for_strict(host)} - full
        if strict:
            yield not_(and_(_is_strict(), col(Token.provider_host).in_(sorted(strict))))
        if self.suspects >= SUSPECTS:
            yield deaths() != 1
        if self.bad_suspects >= 1:
            yield deaths() <= 1


def choose(
    session: Session, room: Room, now: datetime, taken: datetime, limit: int, floors: Floors | None
) -> list[uuid.UUID]:
    """Ids of up to `limit` due tokens that there is room for, in order of priority and due time.

    `now` tells what is due, `taken` is the moment by the clock of leases.
    """
    below = floors.of(session, now) if floors is not None else {}
    chosen: dict[uuid.UUID, None] = {}
    window = limit
    for _ in range(ROUNDS):
        seen = _look(session, now, taken, list(room.open()), window, below)
        _take(chosen, sorted(seen, key=lambda row: (row.priority, row.next_refresh_at)), room, limit)
        if len(chosen) == limit or len(seen) < window:
            break
        window = WIDER * limit + len(chosen)
    return list(chosen)


def oldest(session: Session, now: datetime, taken: datetime, floors: Floors | None) -> datetime | None:
    """Since when the longest waiting token has been due; None when nothing is that is not leased."""
    found = _look(session, now, taken, (), 1, floors.of(session, now) if floors is not None else {})
    return min((row.next_refresh_at for row in found), default=None)


def free(taken: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    """Not leased, or by somebody who died; `taken` is the moment by the clock of leases."""
    return or_(col(Token.lease_until).is_(None), col(Token.lease_until) <= taken)


def deaths() -> ColumnElement[int]:
    """How often in a row a process died while it refreshed a token: whoever held an expired lease counts as well."""
    return Token.interruptions + case((col(Token.lease_owner).is_not(None), 1), else_=0)


def _take(chosen: dict[uuid.UUID, None], seen: Sequence[Row[Any]], room: Room, limit: int) -> None:
    for row in seen:
        if len(chosen) == limit:
            return
        if row.id not in chosen and room.take(row.provider_host, habits.is_strict(row.rotation, row.reuse), row.deaths):
            chosen[row.id] = None


def _due(conditions: Sequence[ColumnElement[bool]], *, bounded: bool) -> CompoundSelect[Any]:
    """What has been due longest, `limit` of each priority: one stretch of the index for each."""
    now, taken = bindparam("now", type_=UtcDateTime), bindparam("taken", type_=UtcDateTime)
    columns: list[Any] = [Token.id, Token.priority, Token.next_refresh_at]
    columns += [Token.provider_host, Token.rotation, Token.reuse, deaths().label("deaths")]
    parts = []
    for priority in Priority:
        query = sa.select(*columns)
        query = query.where(
            col(Token.priority) == priority, col(Token.next_refresh_at) <= now, free(taken), *conditions
        )
        if bounded:
            query = query.where(col(Token.next_refresh_at) >= bindparam(f"floor{priority.value}", type_=UtcDateTime))
        parts.append(query.order_by(col(Token.next_refresh_at)).limit(bindparam("limit", type_=Integer)).subquery())
    return union_all(*(sa.select(part) for part in parts))


_due_anywhere = lru_cache(maxsize=2)(partial(_due, ()))
"""Without conditions it is always the same; making it costs more than running it."""


def _look(
    session: Session,
    now: datetime,
    taken: datetime,
    conditions: Sequence[ColumnElement[bool]],
    limit: int,
    floors: dict[Priority, datetime],
) -> Sequence[Row[Any]]:
    bounded = bool(floors)
    query = _due(conditions, bounded=bounded) if conditions else _due_anywhere(bounded=bounded)
    bounds = {f"floor{priority.value}": moment for priority, moment in floors.items()}
    return session.execute(query, {"now": now, "taken": taken, "limit": limit, **bounds}).all()


def _is_strict() -> ColumnElement[bool]:
    """`habits.is_strict`, for the database."""
    return and_(col(Token.rotation) == Rotation.ALWAYS, col(Token.reuse) != Reuse.ACCEPTED)

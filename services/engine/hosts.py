"""How providers' hosts stand, for all processes alike: paused, closed by their breaker, limited. Sends nothing.

Requests in a row that find a host down open its breaker: nothing is sent there, its due tokens are moved out of
the way, and after a while one request tries. What answers that one closes the breaker, and the tokens come back.
What is counted and how long it lasts is `services.engine.breakers`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, case, func, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from config import Settings
from models import EVERYTHING, ProviderHost
from oauth.vocabulary import FailureClass, OAuthFailure
from services.engine import breakers, held
from services.engine.breakers import Answer
from services.errors import Refused

THROTTLED_SHARE = 4
"""By what the limit of a host is divided after that, until it answers again."""
ALL_PAUSED = "All token requests are paused. They go on as soon as the owner of this installation resumes them."
HOST_PAUSED = "Token requests to {host} are paused. They go on as soon as the owner of this installation resumes them."


class Paused(Refused):
    """Somebody paused what a token request would need; resuming helps."""


@dataclass(frozen=True)
class Standing:
    """What holds for hosts at this moment; those not named are as usual."""

    paused: bool = False
    """Everything is: nothing may be sent to anybody."""
    closed: frozenset[str] = frozenset()
    """Hosts to which nothing may be sent: paused, or found down a moment ago."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """Requests in flight at most, where that differs from `Settings.host_concurrency`."""
    releasing: frozenset[str] = frozenset()
    """Hosts whose tokens are being brought back."""


def standing(session: Session, settings: Settings, now: datetime) -> Standing:
    """How the hosts stand: one query on a table that holds only those about which there is something to say."""
    told = (col(ProviderHost.paused_at), col(ProviderHost.open_until), col(ProviderHost.concurrency))
    noteworthy = or_(*(column.is_not(None) for column in told), col(ProviderHost.releasing))
    query = select(ProviderHost, limit(settings)).where(noteworthy)
    found = session.exec(query.execution_options(populate_existing=True)).all()
    rows = [row for row, _ in found]
    return Standing(
        paused=any(row.host == EVERYTHING and row.paused_at is not None for row in rows),
        closed=frozenset(row.host for row in rows if row.host != EVERYTHING and row.is_closed(now)),
        limits={row.host: limit for row, limit in found if limit != settings.host_concurrency},
        releasing=frozenset(row.host for row in rows if row.releasing and not row.is_closed(now)),
    )


def tend(session: Session, settings: Settings, now: datetime) -> Standing:
    """`standing`, after moving out of the way what is due at closed hosts, and back what may go again.

    For whoever claims, before anything is leased and in the same transaction. Does not commit.
    """
    found = standing(session, settings, now)
    if found.closed and not found.paused:
        held.hold(session, settings, now, found.closed)
    # Those that somebody settles for right now are left for the next time: he may be waiting for one held above.
    query = select(ProviderHost).where(col(ProviderHost.host).in_(found.releasing))
    query = query.with_for_update(skip_locked=True).execution_options(populate_existing=True)
    for row in session.exec(query).all() if found.releasing else ():
        if not row.is_closed(now):
            held.release(session, settings, now, row)
    return found


def note(session: Session, settings: Settings, now: datetime, answers: Iterable[Answer]) -> None:
    """Learn from requests what they say about their hosts, in the order they ended.

    For whoever settles, after the rows of tokens are written. Does not commit. Where every host answers and
    none was in trouble, it is one query.
    """
    by_host: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.host and (answer.failure is None or answer.failure.failure_class is not FailureClass.LOCAL):
            by_host.setdefault(answer.host, []).append(answer)
    if not by_host:
        return
    trouble = or_(col(ProviderHost.failures) > 0, col(ProviderHost.open_until).is_not(None))
    query = select(ProviderHost.host).where(col(ProviderHost.host).in_(sorted(by_host)), trouble)
    news = {host for host, found in by_host.items() if any(breakers.is_trouble(answer.failure) for answer in found)}
    for host in sorted({*session.exec(query), *news}):  # in one order, so that no two wait for each other
        row = locked(session, host)
        for answer in by_host[host]:
            breakers.weigh(session, settings, now, row, answer)


def try_now(session: Session, now: datetime, row: ProviderHost) -> None:
    """Let one request go to a closed host at once. Does not commit."""
    row.open_until = min(now, row.open_until or now)
    session.add(row)
    session.flush()
    held.bring_one(session, now, row.host)


def refusal(session: Session, now: datetime, host: str) -> Paused | OAuthFailure | None:
    """Why no token request may go to a host now; None when one may. For callers who wait for a token."""
    query = select(ProviderHost).where(col(ProviderHost.host).in_((EVERYTHING, host)))
    rows = {row.host: row for row in session.exec(query.execution_options(populate_existing=True))}
    everything, row = rows.get(EVERYTHING), rows.get(host)
    if everything is not None and everything.paused_at is not None:
        return Paused(ALL_PAUSED)
    if row is None or not row.is_closed(now):
        return None
    if row.paused_at is not None:
        return Paused(HOST_PAUSED.format(host=host))
    return OAuthFailure("refresh", row.failure_class or FailureClass.PROVIDER_DOWN, row.failure_reason)


def is_everything_paused(session: Session) -> bool:
    """Whether nothing may be sent to anybody."""
    query = select(ProviderHost.id).where(ProviderHost.host == EVERYTHING, col(ProviderHost.paused_at).is_not(None))
    return session.exec(query).first() is not None


def locked(session: Session, host: str) -> ProviderHost:
    """The row of a host for this transaction alone, made where there is none."""
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    new = ProviderHost(host=host).model_dump()
    session.execute(dialect.insert(ProviderHost).values(new).on_conflict_do_nothing(index_elements=["host"]))
    query = select(ProviderHost).where(ProviderHost.host == host)
    return session.exec(query.with_for_update().execution_options(populate_existing=True)).one()


def limit(settings: Settings) -> ColumnElement[int]:
    """Requests in flight at most. After a time of silence one tries; after a time of slowing down, a few."""
    usual = func.coalesce(col(ProviderHost.concurrency), settings.host_concurrency)
    slower = col(ProviderHost.failure_class) == FailureClass.THROTTLED
    fewer = case((slower & (usual >= 2 * THROTTLED_SHARE), usual // THROTTLED_SHARE), else_=1)
    return case((col(ProviderHost.open_until).is_(None), usual), else_=fewer)

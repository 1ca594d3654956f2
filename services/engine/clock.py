"""What a clock that was set back leaves behind: times in the database that cannot be, put right.

A clock set forward needs no care: what looks due is refreshed, once. Set back, tokens would seem to live for as
long as the clock was wrong, and leases, waits and breakers to last for so long.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from sqlalchemy import CursorResult, update
from sqlmodel import Session, SQLModel, col, select

from config import Settings
from models import Heartbeat, ProviderHost, Token, UserSession
from models.database import shared_now
from models.types import utc_now
from oauth.lifetime import LONGEST_RETRY_AFTER

SKEW = 150.0
"""Seconds by which the clocks of two machines may differ without anybody minding."""


class Watch:
    """Notices that this machine's clock was set back, by the clock that only counts."""

    def __init__(self) -> None:
        """Nothing is known of the time before."""
        self._ahead: float | None = None

    def was_set_back(self) -> bool:
        """Whether it was since the last look."""
        before, self._ahead = self._ahead, utc_now().timestamp() - time.monotonic()
        return before is not None and self._ahead < before - SKEW


def seems_set_back(session: Session, now: datetime) -> bool:
    """Whether somebody was here later than now, so that the clock may have been set back while nothing ran.

    Asks two small tables: a look at every token would take long where there are many.
    """
    later = now + timedelta(seconds=SKEW)
    processes = select(Heartbeat.process).where(Heartbeat.seen_at > later)
    people = select(UserSession.id).where(UserSession.seen_at > later)
    return any(session.exec(query.limit(1)).first() is not None for query in (processes, people))


def mend(session: Session, settings: Settings, now: datetime) -> int:
    """Put right what lies too far ahead; commits, and returns how many rows that were.

    A token that came in the future has an unknown age: it is renewed now, which costs one refresh. A lease is
    not ended but lasts no longer than any, since whoever holds it may still be sending; it is measured by the clock
    of the database, which need not be the one that was set back.
    """
    ahead = timedelta(seconds=SKEW)
    retry = timedelta(seconds=max(settings.retry_longest, LONGEST_RETRY_AFTER) * 1.1)
    lease, breaker = timedelta(seconds=settings.lease), timedelta(seconds=settings.breaker_longest)
    leases_now = shared_now(session)
    due, held_until = col(Token.next_refresh_at), col(Token.lease_until)
    came, opens = col(Token.received_at), col(ProviderHost.open_until)
    pressed, ends = col(Token.requested_at), col(Token.expires_at)
    no_plan = (col(Token.failures) > 0) | col(Token.held) | (due > ends)  # of themselves they are due before they end
    found = [
        _set(session, Token, held_until > leases_now + lease + ahead, lease_until=leases_now + lease),
        _set(session, Token, (came > now + ahead) & (due > now), received_at=now, next_refresh_at=now),
        _set(session, Token, no_plan & (due > now + retry + ahead), next_refresh_at=now),
        _set(session, Token, pressed > now + ahead, requested_at=now),
        _set(session, ProviderHost, opens > now + breaker + ahead, open_until=now),
    ]
    session.commit()
    return sum(found)


def _set(session: Session, table: type[SQLModel], wrong: object, **values: datetime) -> int:
    statement = update(table).where(wrong).values(**values)  # type: ignore[arg-type]  # a condition, of several kinds
    result = session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)
    return result.rowcount

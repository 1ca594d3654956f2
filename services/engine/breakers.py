"""What an answer, or none, from a provider's host means for everybody who asks it. Sends nothing, commits nothing.

The count of requests in a row that found it in trouble, the time for which nobody asks it after that, and what ends
it. Whoever calls holds the host's row.
"""

from __future__ import annotations

import random
import uuid
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlmodel import Session, col, select

from config import Settings
from models import ProviderHost, Token
from oauth.vocabulary import FailureClass, OAuthFailure
from services.engine import held

DOWN = frozenset({FailureClass.PROVIDER_DOWN, FailureClass.CERTIFICATE, FailureClass.UNKNOWN})
"""What a host that cannot be used looks like. Any other answer comes from one that is up, an OAuth error too."""
THROTTLED_AT_MOST = 60.0
"""Seconds for which a host that asks to slow down is left alone by everybody."""


class Answer(NamedTuple):
    """What became of a request to a host."""

    host: str
    failure: OAuthFailure | None
    """None: a token came."""
    connection_id: uuid.UUID
    workspace_id: uuid.UUID


def is_trouble(failure: OAuthFailure | None) -> bool:
    """Whether it says that a host is down, or asks for less."""
    return failure is not None and (failure.failure_class in DOWN or failure.failure_class is FailureClass.THROTTLED)


def weigh(session: Session, settings: Settings, now: datetime, row: ProviderHost, answer: Answer) -> None:
    """One answer, or none, and what follows for everybody."""
    session.add(row)
    failure = answer.failure
    if failure is None or not is_trouble(failure):
        _close(session, settings, now, row)
        return
    probing, slower = row.open_until is not None, failure.failure_class is FailureClass.THROTTLED
    if not probing and slower is not (row.failure_class is FailureClass.THROTTLED):
        _forget(row)
    if row.failed_at is None:
        row.failed_at, row.failed_for, row.failed_in = now, answer.connection_id, answer.workspace_id
    row.failure_class, row.failure_reason, row.failure_status = failure.failure_class, str(failure), failure.status
    another = row.failed_in != answer.workspace_id if slower else row.failed_for != answer.connection_id
    row.is_shared = row.is_shared or another
    if row.open_until is not None and row.open_until > now:
        return  # it was sent before
    row.failures = row.failures + 1 if probing else min(row.failures + 1, settings.breaker_after)
    if probing or (row.failures >= settings.breaker_after and (row.is_shared or _is_alone(session, row, slower))):
        seconds = _throttled_wait(settings, failure) if slower else _down_wait(settings, row.failures)
        row.open_until = now + timedelta(seconds=seconds)
        session.flush()
        held.name_candidates(session, row, now)


def _close(session: Session, settings: Settings, now: datetime, row: ProviderHost) -> None:
    """The host answers: whatever was held against it is forgotten."""
    was_open = row.open_until is not None
    _forget(row)
    if was_open and row.paused_at is None:
        held.release(session, settings, now, row)


def _forget(row: ProviderHost) -> None:
    row.failures, row.failure_class, row.failure_reason, row.is_shared = 0, None, "", False
    row.failed_at = row.failed_for = row.failed_in = row.failure_status = row.open_until = None


def _down_wait(settings: Settings, failures: int) -> float:
    """Seconds for which nobody asks: doubles with each request that tried in vain."""
    times = min(30, max(0, failures - settings.breaker_after))
    return float(min(settings.breaker_longest, settings.breaker_first * 2**times) * random.uniform(0.75, 1.0))


def _throttled_wait(settings: Settings, failure: OAuthFailure) -> float:
    """Seconds for which nobody asks a host that wants less: as it says, within limits, since it may mean one alone."""
    asked = settings.breaker_first if failure.retry_after is None else failure.retry_after
    return min(asked, THROTTLED_AT_MOST) * random.uniform(1.0, 1.1)


def _is_alone(session: Session, row: ProviderHost, slower: bool) -> bool:
    """Whether nobody but the failing connection uses a host; where it wants less, nobody but its workspace."""
    others = col(Token.workspace_id) != row.failed_in if slower else col(Token.connection_id) != row.failed_for
    here = select(Token.id).where(Token.provider_host == row.host, col(Token.access_token_sealed).is_not(None), others)
    return session.exec(here.limit(1)).first() is None

"""Taking the lease of a refresh: who may send, recorded in the database before anything is sent.

How long leases last is measured by one clock, the database's where it has one: those of two hosts may differ by more
than a lease. What is due is told by our own, which is the one that due times were reckoned by.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import replace
from datetime import datetime
from functools import cache

import sqlalchemy as sa
from sqlalchemy import func
from sqlmodel import Session, col, select

from config import Settings
from models import ConnectionState, Slot, Token, Trigger
from models.database import CLOCK, shared_now
from models.types import steady, utc_now
from oauth.vocabulary import OAuthFailure
from services.engine import candidates, claims, eligibility, hosts
from services.engine.candidates import Room
from services.engine.claims import TRIGGERS, Claim, Unclaimed
from services.floors import Floors

__all__ = ["TRIGGERS", "Claim", "Unclaimed", "claim_due", "claim_one", "oldest_due", "owner_name"]

CLAIMING = 0x4361726B6579
"""Number of the lock that claimers share on PostgreSQL; any number that nobody else uses."""


def owner_name() -> str:
    """A new lease owner: never the same twice, so that only the taker of a lease can release it."""
    return f"{_host_name()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


@cache
def _host_name() -> str:
    return socket.gethostname()[:20]


def claim_due(session: Session, settings: Settings, limit: int, floors: Floors | None = None) -> list[Claim]:
    """Lease up to `limit` due tokens and write their journal rows, in one transaction; commits.

    No host gets more requests than it has room for, counting what other processes hold. A row that cannot be
    decrypted is marked and left out; the others are claimed.
    """
    began = steady()
    taken, now = _let_no_other_claim(session), utc_now()
    standing = hosts.tend(session, settings, now)
    found: list[Claim] = []
    if not standing.paused:
        room = Room.left(session, settings, standing, taken, reserve=True)
        ids = candidates.choose(session, room, now, taken, limit, floors)
        if ids:
            lease = claims.lease_for(settings, owner_name(), now, taken, began)
            found = claims.open_due(session, settings, ids, lease)
    session.commit()
    return found


def oldest_due(session: Session, floors: Floors | None = None) -> datetime | None:
    """Since when the longest waiting token has been due; None when nothing is due that is not leased, or may be."""
    if hosts.is_everything_paused(session):
        return None
    return candidates.oldest(session, utc_now(), shared_now(session), floors)


def claim_one(
    session: Session,
    settings: Settings,
    connection_id: uuid.UUID,
    trigger: Trigger,
    spent: int | None,
    requested_by: uuid.UUID | None,
) -> Claim | Unclaimed:
    """Lease one connection's token unless it is leased or its generation is past `spent`; commits.

    Busy as well while its provider's host has no room for another request.
    """
    began = steady()
    taken = _let_no_other_claim(session)
    found = _claim_one(session, settings, connection_id, trigger, spent, requested_by, taken, began)
    if isinstance(found, Unclaimed):
        session.rollback()
        return found
    session.commit()
    return found or Unclaimed.RESTING


def _claim_one(
    session: Session,
    settings: Settings,
    connection_id: uuid.UUID,
    trigger: Trigger,
    spent: int | None,
    requested_by: uuid.UUID | None,
    taken: datetime,
    began: float,
) -> Claim | Unclaimed | None:
    """Does not commit; None when a look at the row showed that nothing can be sent, which is written to it."""
    now = utc_now()
    token = _locked_token(session, connection_id)
    if isinstance(token, Unclaimed):
        return token
    if spent is not None and token.generation > spent:
        return Unclaimed.MOVED_ON
    connection = None if token.is_leased(taken) else claims.locked_if_idle(session, connection_id)
    if connection is None:
        return Unclaimed.BUSY
    if connection.state is ConnectionState.PAUSED:
        return Unclaimed.RESTING
    refusal = hosts.refusal(session, now, token.provider_host)
    if refusal is not None and not (trigger is Trigger.AUTHORIZE and isinstance(refusal, OAuthFailure)):
        return Unclaimed.RESTING
    if trigger is Trigger.AGENT_FACING and eligibility.resting(connection, token, now):
        return Unclaimed.RESTING
    standing = hosts.standing(session, settings, now)
    if trigger is Trigger.AUTHORIZE:
        standing = replace(standing, closed=frozenset())  # a person waits, and the answer tells the truth
    room = Room.left(session, settings, standing, taken)
    if not room.take_token(token, whatever_died=trigger is Trigger.AUTHORIZE):
        return Unclaimed.BUSY
    lease = claims.lease_for(settings, owner_name(), now, taken, began)
    claim = claims.open_one(session, settings, connection, token, trigger, requested_by, lease)
    if claim is not None and token.next_refresh_at is not None:
        token.next_refresh_at = now  # if this process dies, the lease's end is the next try, not the day it was due
    return claim


def _locked_token(session: Session, connection_id: uuid.UUID) -> Token | Unclaimed:
    """The row for this transaction alone, as it is now: one in memory may hold a refresh token spent since."""
    query = select(Token).where(col(Token.connection_id) == connection_id, col(Token.slot) == Slot.CURRENT)
    query = query.execution_options(populate_existing=True)
    token = session.exec(query.with_for_update(skip_locked=True)).one_or_none()
    if token is not None:
        return token
    return Unclaimed.MOVED_ON if session.exec(query).one_or_none() is None else Unclaimed.BUSY


def _let_no_other_claim(session: Session) -> datetime:
    """Until the commit: claimers at the same moment would each see an idle host. SQLite has one writer anyhow.

    Returns `shared_now`, which so costs no question of its own.
    """
    if session.get_bind().dialect.name != "postgresql":
        return utc_now()
    taken: datetime = session.execute(sa.select(func.pg_advisory_xact_lock(CLAIMING), CLOCK)).one()[1]
    return taken

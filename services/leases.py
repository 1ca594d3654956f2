"""Taking the lease of a refresh: who may send, recorded in the database before anything is sent."""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from pydantic import SecretStr
from sqlalchemy import ColumnElement, CursorResult, ScalarSelect, Select, case, func, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

import logs
import outbound
from config import Settings
from models import Connection, Outcome, Priority, Refresh, Slot, Token, Trigger, keyring_of
from models.types import Undecryptable, utc_now
from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure, Registration
from services import client_secrets, eligibility, hosts, states
from services.hosts import Standing

log = logs.get(__name__)

CLAIMING = 0x4361726B6579
"""Number of the lock that claimers share on PostgreSQL; any number that nobody else uses."""
TRIGGERS = {
    Priority.AGENT_FACING: Trigger.AGENT_FACING,
    Priority.MANUAL: Trigger.MANUAL,
    Priority.SCHEDULED: Trigger.SCHEDULED,
    Priority.KEEP_ALIVE: Trigger.KEEP_ALIVE,
}


@dataclass(frozen=True)
class Claim:
    """A leased refresh with everything its request needs; nothing in it reads the database again."""

    refresh_id: uuid.UUID
    token_id: uuid.UUID
    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    generation: int
    version: int
    """Of the connection's settings, as the request was made with them."""
    owner: str
    lease_until: datetime
    trigger: Trigger
    requested_by: uuid.UUID | None
    registration: Registration
    auth_method: ClientAuthMethod | None
    refresh_token: SecretStr | None = field(repr=False)

    @property
    def host(self) -> str:
        """The provider's host, as in `Token.provider_host`."""
        return outbound.origin(self.registration.token_endpoint)

    @property
    def client(self) -> str:
        """The client the request was made as, in the form of `Connection.client`."""
        return f"{self.registration.grant_type.value}:{self.registration.client_id}"


class Unclaimed(Enum):
    """Why one connection could not be claimed."""

    BUSY = "busy"
    MOVED_ON = "moved on"
    RESTING = "resting"
    """Nothing is to be sent for now; the connection's row says why."""


def owner_name() -> str:
    """A new lease owner: never the same twice, so that only the taker of a lease can release it."""
    return f"{socket.gethostname()[:20]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


def claim_due(session: Session, settings: Settings, limit: int) -> list[Claim]:
    """Lease up to `limit` due tokens in one conditional UPDATE, write their journal rows, commit.

    At most `host_concurrency` are leased at one provider host, counting what other processes hold.
    A row that cannot be decrypted is marked and left out; the others are claimed.
    """
    _let_no_other_claim(session)
    now, owner = utc_now(), owner_name()
    standing = hosts.tend(session, settings, now)
    statement = (
        update(Token)
        .where(col(Token.id).in_(_candidates(settings, standing, now, limit)), _free(now))
        .values(lease_owner=owner, lease_until=now + timedelta(seconds=settings.lease), held=False)
        .returning(col(Token.id))
        .execution_options(synchronize_session=False)
    )
    ids = [] if standing.paused else session.execute(statement).scalars().all()
    if not ids:
        session.commit()
        return []
    tokens = session.exec(select(Token).where(col(Token.id).in_(ids)).execution_options(populate_existing=True)).all()
    wanted = [token for token in tokens if _still_wanted(session, settings, token)]
    claims = [_prepare(session, token, TRIGGERS[Priority(token.priority)], None) for token in wanted]
    session.commit()
    return [claim for claim in claims if claim is not None]


def oldest_due(session: Session) -> datetime | None:
    """Since when the longest waiting token has been due; None when nothing is due that is not leased, or may be."""
    now = utc_now()
    if hosts.is_everything_paused(session):
        return None
    query = select(Token.next_refresh_at).where(col(Token.next_refresh_at) <= now, _free(now))
    return session.exec(query.order_by(col(Token.next_refresh_at)).limit(1)).first()


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
    now = utc_now()
    token = _lease_one(session, settings, connection_id, spent, now)
    if isinstance(token, Unclaimed):
        session.rollback()
        return token
    connection = session.get_one(Connection, connection_id, populate_existing=True)
    refusal = hosts.refusal(session, now, token.provider_host)
    if refusal is not None and not (trigger is Trigger.AUTHORIZE and isinstance(refusal, OAuthFailure)):
        session.rollback()
        return Unclaimed.RESTING
    if trigger is Trigger.AGENT_FACING and eligibility.resting(connection, token, now):
        session.rollback()
        return Unclaimed.RESTING
    claim = _prepare(session, token, trigger, requested_by)
    if claim is not None and token.next_refresh_at is not None:
        token.next_refresh_at = now  # if this process dies, the lease's end is the next try, not the day it was due
    session.commit()
    return claim or Unclaimed.RESTING


def _lease_one(
    session: Session, settings: Settings, connection_id: uuid.UUID, spent: int | None, now: datetime
) -> Token | Unclaimed:
    """One conditional UPDATE, so that of any number of callers one gets the row. Does not commit."""
    mine = [col(Token.connection_id) == connection_id, col(Token.slot) == Slot.CURRENT]
    unmoved = [] if spent is None else [col(Token.generation) <= spent]
    limit = hosts.limit_of_token(settings)
    statement = (
        update(Token)
        .where(*mine, *unmoved, _free(now), _held_at_its_host(now) < limit)
        .values(lease_owner=owner_name(), lease_until=now + timedelta(seconds=settings.lease), held=False)
        .execution_options(synchronize_session=False)
    )
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    token = session.exec(select(Token).where(*mine).execution_options(populate_existing=True)).one_or_none()
    if token is None or (result.rowcount == 0 and spent is not None and token.generation > spent):
        return Unclaimed.MOVED_ON
    return token if result.rowcount else Unclaimed.BUSY


def _let_no_other_claim(session: Session) -> None:
    """Until the commit: claimers at the same moment would each see an idle host. SQLite has one writer anyhow."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(CLAIMING)))


def _held_at_its_host(now: datetime) -> ScalarSelect[int]:
    """How many requests are in flight at the host of the token that is to be leased."""
    other = aliased(Token)
    query = select(func.count()).select_from(other).where(other.provider_host == Token.provider_host)
    return query.where(col(other.lease_until) > now).correlate(Token).scalar_subquery()


def _free(now: datetime) -> ColumnElement[bool]:
    return or_(col(Token.lease_until).is_(None), col(Token.lease_until) <= now)


def _candidates(settings: Settings, standing: Standing, now: datetime, limit: int) -> Select[tuple[uuid.UUID]]:
    """Ids of due tokens in order of priority, no more for a host than it has room for."""
    held = (
        select(Token.provider_host, func.count().label("held"))
        .where(col(Token.lease_until) > now)
        .group_by(Token.provider_host)
        .subquery()
    )
    order = (col(Token.priority), col(Token.next_refresh_at))
    place = func.row_number().over(partition_by=col(Token.provider_host), order_by=order)
    due = (
        select(Token.id)
        .add_columns(*order, col(Token.provider_host), place.label("place"))
        .where(col(Token.next_refresh_at) <= now, _free(now), col(Token.provider_host).not_in(standing.closed))
        .subquery()
    )
    usual = _for_the_queue(settings, settings.host_concurrency)
    limits = {host: _for_the_queue(settings, limit) for host, limit in standing.limits.items()}
    room = (case(limits, value=due.c.provider_host, else_=usual) if limits else usual) - func.coalesce(held.c.held, 0)
    query = select(due.c.id).outerjoin(held, held.c.provider_host == due.c.provider_host)
    return query.where(due.c.place <= room).order_by(due.c.priority, due.c.next_refresh_at).limit(limit)


def _for_the_queue(settings: Settings, limit: int) -> int:
    """Of a host's places those that due tokens may take: a card that waits finds one free while others are full."""
    return limit - min(settings.agent_reserve, limit // 4)


def _still_wanted(session: Session, settings: Settings, token: Token) -> bool:
    """Look again at what a due row was marked for: minutes may have passed, and who reads the row trusts nobody.

    A connection in a state without refreshes rests; a request of somebody who lost the right to make it is
    dropped, and the token is refreshed when it would have been without it (MT-05, MT-07).
    """
    connection = session.get_one(Connection, token.connection_id, populate_existing=True)
    if connection.state in eligibility.NOT_REFRESHED:
        token.next_refresh_at, token.priority = None, Priority.SCHEDULED
    elif eligibility.withdrawn(session, token):
        states.reschedule(settings, connection, token)
    else:
        return True
    states.release(token)
    log.warning("refresh dropped", connection=str(connection.id), shown=connection.state.shown)
    return False


def _prepare(session: Session, token: Token, trigger: Trigger, requested_by: uuid.UUID | None) -> Claim | None:
    """Decrypt what the request needs and open the journal; None when there is nothing that could be sent.

    Rows are read anew under the lease: one that was in memory before may hold a refresh token spent since.
    """
    session.refresh(token)
    connection = session.get_one(Connection, token.connection_id, populate_existing=True)
    _close_interrupted(session, token)
    if trigger is not Trigger.AUTHORIZE and not states.renewable(connection, token):
        states.run_out(session, connection, token, refused=trigger is Trigger.AGENT_FACING)
        return None
    keyring = keyring_of(session)
    try:
        refresh_token = token.unseal("refresh_token", keyring)
        secret = client_secrets.read(session, connection)
    except Undecryptable as problem:
        states.fail_closed(session, connection, token, problem)
        return None
    if trigger is Trigger.MANUAL and requested_by is None:
        requested_by = token.requested_by
    journal = Refresh(
        workspace_id=token.workspace_id,
        connection_id=token.connection_id,
        trigger=trigger,
        requested_by=requested_by,
        lease_owner=token.lease_owner or "",
        generation=token.generation,
        refresh_token_fingerprint=keyring.fingerprint(refresh_token) if refresh_token else "",
    )
    session.add(journal)
    return _claim(connection, token, journal, connection.registration(secret), refresh_token)


def _claim(
    connection: Connection,
    token: Token,
    journal: Refresh,
    registration: Registration,
    refresh_token: SecretStr | None,
) -> Claim:
    """What was leased, as values that outlive the session."""
    assert token.lease_owner is not None and token.lease_until is not None
    return Claim(
        refresh_id=journal.id,
        token_id=token.id,
        workspace_id=token.workspace_id,
        connection_id=token.connection_id,
        generation=token.generation,
        version=connection.version,
        owner=token.lease_owner,
        lease_until=token.lease_until,
        trigger=journal.trigger,
        requested_by=journal.requested_by,
        registration=registration,
        auth_method=token.auth_method,
        refresh_token=refresh_token,
    )


def _close_interrupted(session: Session, token: Token) -> None:
    """Whoever held the lease before died after sending: its journal row is closed as unknown.

    An authorization under way holds none, and closes its row itself.
    """
    mine = (col(Refresh.connection_id) == token.connection_id, col(Refresh.lease_owner) != states.NO_LEASE)
    statement = (
        update(Refresh)
        .where(*mine, col(Refresh.outcome) == Outcome.SENT)
        .values(
            outcome=Outcome.UNKNOWN,
            closed_at=utc_now(),
            failure_class=FailureClass.UNKNOWN,
            failure_reason="The process stopped after the request was sent and before a reply was stored.",
        )
        .execution_options(synchronize_session=False)
    )
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    token.interruptions += result.rowcount

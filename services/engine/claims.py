"""Opening refreshes that are leased: what the request needs is read, and its journal row written. Sends nothing.

The plain majority goes by in a few statements, whatever their number; a row that needs thought is taken one by one.
"""

from __future__ import annotations

import os
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, cast

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy import Row, delete, update
from sqlmodel import Session, col, select

import logs
from config import Settings
from models import (
    ClientSecret,
    Connection,
    ConnectionState,
    Outcome,
    Priority,
    Refresh,
    Token,
    Trigger,
    batches,
    keyring_of,
)
from models.connection import client_of
from models.refresh import OPEN
from models.types import Keyring, Place, Undecryptable
from oauth.grants import GRANTS
from oauth.vocabulary import ClientAuthMethod, FailureClass, Registration, Reuse, Rotation
from services.engine import candidates, client_secrets, eligibility, states
from services.engine.timing import Timing

log = logs.get(__name__)

TRIGGERS = {
    Priority.AGENT_FACING: Trigger.AGENT_FACING,
    Priority.MANUAL: Trigger.MANUAL,
    Priority.SCHEDULED: Trigger.SCHEDULED,
    Priority.KEEP_ALIVE: Trigger.KEEP_ALIVE,
}
GOES_ON = frozenset({ConnectionState.ACTIVE, ConnectionState.DEGRADED, ConnectionState.EXPIRED_RETRYING})
"""States in which a refresh needs no second thought."""
INTERRUPTED = "The process stopped after the request was sent and before a reply was stored."
UNREAD = frozenset(
    "id workspace_id name api_hosts failure_step failure_code failure_said failure_reason failed_at authorized_at "
    "authorized_by authorized_fingerprint dead_statuses dead_expression created_at updated_at".split()
)
"""Columns of a connection that no refresh needs; whatever is added later is read until it is named here."""


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
    """By the clock of the database."""
    lease_ends: float
    """The same or a little sooner, by `models.types.steady` of this process."""
    trigger: Trigger
    requested_by: uuid.UUID | None
    registration: Registration
    auth_method: ClientAuthMethod | None
    refresh_token: SecretStr | None = field(repr=False)
    host: str
    """The provider's host, as in `Token.provider_host`."""
    timing: Timing
    learned_lifetime: float | None
    rotation: Rotation
    reuse: Reuse
    plain: bool
    """Whether nothing was amiss with the connection; then a new token is stored without a second look at it."""

    @property
    def client(self) -> str:
        """The client the request was made as, in the form of `Connection.client`."""
        return client_of(self.registration.grant_type, self.registration.client_id)


class Unclaimed(Enum):
    """Why one connection could not be claimed."""

    BUSY = "busy"
    MOVED_ON = "moved on"
    RESTING = "resting"
    """Nothing is to be sent for now; the connection's row says why."""


@dataclass(frozen=True)
class Lease:
    """What is written to a token that is leased."""

    owner: str
    now: datetime
    """By our own clock, as it is for what is due and for the journal."""
    taken: datetime
    """By the clock that all leases are measured by."""
    until: datetime
    ends: float
    """By `steady`, from a moment before it was taken."""


def open_due(session: Session, settings: Settings, ids: Sequence[uuid.UUID], lease: Lease) -> list[Claim]:
    """Lease those tokens of `ids` that are still free, and open their journal rows. Does not commit."""
    found = _read(session, ids, lease)
    secrets = _secrets(session, [row.connection_id for row in found])
    wanted, journal_ids = _Wanted(session), _new_ids(len(found))
    opened: list[tuple[Claim, dict[str, Any]]] = []
    others: list[Row[Any]] = []
    for row, journal_id in zip(found, journal_ids, strict=True):
        plain = _plain(row, journal_id, secrets, keyring_of(session), lease) if wanted.plainly(row) else None
        if plain is None:
            others.append(row)
        else:
            opened.append(plain)
    claims = [claim for claim, _ in opened]
    _write(session, claims, [journal for _, journal in opened], lease)
    for row in others:
        claim = _with_thought(session, settings, row.id, lease)
        if claim is not None:
            claims.append(claim)
    return claims


def open_one(
    session: Session,
    settings: Settings,
    connection: Connection,
    token: Token,
    trigger: Trigger,
    requested_by: uuid.UUID | None,
    lease: Lease,
) -> Claim | None:
    """Lease a token whose row is locked, and open its journal row; None when there is nothing to send.

    Does not commit. What is to be done instead is written to its rows.
    """
    deaths = token.interruptions + (token.lease_owner is not None)
    suspect, token.interruptions = deaths > token.interruptions, deaths
    token.lease_owner, token.lease_until, token.held = lease.owner, lease.until, False
    _close_interrupted(session, [token.connection_id], lease.now)
    if trigger is not Trigger.AUTHORIZE and not states.renewable(connection, token):
        states.run_out(session, connection, token, refused=trigger is Trigger.AGENT_FACING)
        return None
    if suspect and trigger is not Trigger.AUTHORIZE and deaths >= states.DEATHS:
        states.quarantine(session, settings, connection, token)
        return None
    keyring = keyring_of(session)
    try:
        refresh_token = token.unseal("refresh_token", keyring)
        registration = client_secrets.registration(session, connection, token)
    except Undecryptable as problem:
        states.fail_closed(session, connection, token, problem)
        return None
    if trigger is Trigger.MANUAL and requested_by is None:
        requested_by = token.requested_by
    claim = _claim(token, connection, lease, uuid.uuid4(), trigger, requested_by, registration, refresh_token)
    batches.insert_many(session, Refresh, [_journal(claim, keyring, lease.now)])
    return claim


def give_back(session: Session, unsent: Collection[Claim]) -> None:
    """Undo claims under which nothing was sent, as far as they are still ours: due as before, and no journal row."""
    session.execute(
        update(Token)
        .where(batches.among(session, Token.id, [claim.token_id for claim in unsent]))
        .where(col(Token.lease_owner).in_({claim.owner for claim in unsent}))
        .values(lease_owner=None, lease_until=None)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        delete(Refresh)
        .where(OPEN, batches.among(session, Refresh.id, [claim.refresh_id for claim in unsent]))
        .execution_options(synchronize_session=False)
    )
    session.commit()


class _Wanted:
    """Whether rows are plainly to be refreshed; remembers whom it has looked up."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._withdrawn: dict[tuple[uuid.UUID, uuid.UUID], bool] = {}

    def plainly(self, row: Row[Any]) -> bool:
        """Nothing is amiss: not its state, its grant, its past, nor who asked for it."""
        if row.state not in GOES_ON or row.authorized_client not in ("", client_of(row.grant_type, row.client_id)):
            return False
        if row.lease_owner is not None or row.interruptions:
            return False
        if row.refresh_token_sealed is None and GRANTS[row.grant_type].needs_person:
            return False
        return not self._is_withdrawn(row)

    def _is_withdrawn(self, row: Row[Any]) -> bool:
        if row.priority != Priority.MANUAL or row.requested_by is None:
            return False
        key = (row.requested_by, row.workspace_id)
        if key not in self._withdrawn:
            self._withdrawn[key] = eligibility.may_not_ask(self._session, *key)
        return self._withdrawn[key]


@dataclass(frozen=True)
class _Secret:
    """A client secret read past the ORM."""

    id: uuid.UUID
    workspace_id: uuid.UUID
    value_sealed: bytes | None
    set_at: datetime

    def unseal(self, field: str, keyring: Keyring) -> SecretStr | None:
        """As `ClientSecret.unseal`."""
        place = Place(self.workspace_id, str(ClientSecret.__tablename__), self.id, field)
        return None if self.value_sealed is None else keyring.decrypt(self.value_sealed, place)


def _read(session: Session, ids: Sequence[uuid.UUID], lease: Lease) -> Sequence[Row[Any]]:
    """The tokens with their connections, each locked until the commit; one that somebody else has is left out."""
    table = Connection.metadata.tables["connections"]
    columns: list[Any] = [
        Token.id,
        Token.workspace_id,
        Token.connection_id,
        Token.generation,
        Token.priority,
        Token.requested_by,
        Token.refresh_token_sealed,
        Token.auth_method,
        Token.client_secret_id,
        Token.rotation,
        Token.reuse,
        Token.learned_lifetime,
        Token.failures,
        Token.interruptions,
        Token.lease_owner,
        Token.provider_host,
        *(column for column in table.columns if column.name not in UNREAD),
    ]
    query = (
        sa.select(*columns)
        .join(table, table.c.id == Token.connection_id)
        .where(batches.among(session, Token.id, ids))
        .where(candidates.free(lease.taken), col(Token.next_refresh_at) <= lease.now)
        .with_for_update(of=Token, skip_locked=True)
    )
    place = {row_id: number for number, row_id in enumerate(ids)}
    return sorted(session.execute(query), key=lambda row: place[row.id])


def _secrets(session: Session, connection_ids: Sequence[uuid.UUID]) -> Mapping[uuid.UUID, list[_Secret]]:
    kept = ClientSecret
    columns: list[Any] = [kept.connection_id, kept.id, kept.workspace_id, kept.value_sealed, kept.set_at]
    query = sa.select(*columns).where(batches.among(session, kept.connection_id, connection_ids))
    found: dict[uuid.UUID, list[_Secret]] = defaultdict(list)
    for row in session.execute(query):
        found[row[0]].append(_Secret(*row[1:]))
    return found


def _new_ids(count: int) -> list[uuid.UUID]:
    """Random ids, their randomness drawn at once: a call of the system for each costs more than the rest of it."""
    drawn = os.urandom(16 * count)
    return [uuid.UUID(bytes=drawn[place : place + 16], version=4) for place in range(0, len(drawn), 16)]


def _plain(
    row: Row[Any], journal_id: uuid.UUID, secrets: Mapping[uuid.UUID, list[_Secret]], keyring: Keyring, lease: Lease
) -> tuple[Claim, dict[str, Any]] | None:
    """A claim and its journal row, from columns alone; None where a secret cannot be decrypted."""
    connection = cast(Connection, row)  # it has a connection's columns, and nothing else of one is asked for
    try:
        sealed = row.refresh_token_sealed
        place = Place(row.workspace_id, "tokens", row.id, "refresh_token")
        refresh_token = None if sealed is None else keyring.decrypt(sealed, place)
        stored = cast(Iterable[ClientSecret], secrets.get(row.connection_id, ()))
        live = client_secrets.in_order(stored, row.client_secret_id, keyring)
    except Undecryptable:
        return None
    trigger = TRIGGERS[row.priority]
    asked_by = row.requested_by if trigger is Trigger.MANUAL else None
    registration = client_secrets.with_secrets(connection, live)
    plain = row.state is ConnectionState.ACTIVE and row.failure_class is None and not row.failures
    claim = _claim(
        cast(Token, row), connection, lease, journal_id, trigger, asked_by, registration, refresh_token, plain=plain
    )
    return claim, _journal(claim, keyring, lease.now)


def _claim(
    token: Token,
    connection: Connection,
    lease: Lease,
    refresh_id: uuid.UUID,
    trigger: Trigger,
    requested_by: uuid.UUID | None,
    registration: Registration,
    refresh_token: SecretStr | None,
    *,
    plain: bool = False,
) -> Claim:
    """From rows, or from one row that has the columns of both; where they share a name it is the token's."""
    return Claim(
        refresh_id=refresh_id,
        token_id=token.id,
        workspace_id=token.workspace_id,
        connection_id=token.connection_id,
        generation=token.generation,
        version=connection.version,
        owner=lease.owner,
        lease_until=lease.until,
        lease_ends=lease.ends,
        trigger=trigger,
        requested_by=requested_by,
        registration=registration,
        auth_method=token.auth_method,
        refresh_token=refresh_token,
        host=token.provider_host,
        timing=Timing.of(connection),
        learned_lifetime=token.learned_lifetime,
        rotation=token.rotation,
        reuse=token.reuse,
        plain=plain,
    )


def _journal(claim: Claim, keyring: Keyring, now: datetime) -> dict[str, Any]:
    """The row "sent": every column that may not be NULL."""
    return {
        "id": claim.refresh_id,
        "workspace_id": claim.workspace_id,
        "connection_id": claim.connection_id,
        "trigger": claim.trigger,
        "requested_by": claim.requested_by,
        "lease_owner": claim.owner,
        "generation": claim.generation,
        "refresh_token_fingerprint": keyring.fingerprint(claim.refresh_token) if claim.refresh_token else "",
        "outcome": Outcome.SENT,
        "sent_at": now,
        "failure_code": "",
        "failure_said": "",
        "failure_reason": "",
    }


def _write(session: Session, claims: Sequence[Claim], journal: Sequence[dict[str, Any]], lease: Lease) -> None:
    """Leases and journal rows of plain claims."""
    if not claims:
        return
    statement = (
        update(Token)
        .where(batches.among(session, Token.id, [claim.token_id for claim in claims]))
        .values(lease_owner=lease.owner, lease_until=lease.until, held=False)
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)
    _close_interrupted(session, [claim.connection_id for claim in claims], lease.now)
    batches.insert_many(session, Refresh, journal)


def _with_thought(session: Session, settings: Settings, token_id: uuid.UUID, lease: Lease) -> Claim | None:
    """Look again at what a due row was marked for: minutes may have passed, and who reads the row trusts nobody.

    A connection in a state without refreshes rests; a request of somebody who lost the right to make it is
    dropped, and the token is refreshed when it would have been without it (MT-05, MT-07). One that somebody is
    just saving is left for the next time.
    """
    token = session.get_one(Token, token_id, populate_existing=True)
    connection = locked_if_idle(session, token.connection_id)
    if connection is None:
        return None
    if connection.state in eligibility.NOT_REFRESHED or connection.awaits_replay or connection.has_strange_grant:
        token.next_refresh_at, token.priority = None, Priority.SCHEDULED
    elif eligibility.withdrawn(session, token):
        states.reschedule(settings, connection, token)
        if connection.state is ConnectionState.MISCONFIGURED:
            token.next_refresh_at = None  # only the press had made it due
    else:
        return open_one(session, settings, connection, token, TRIGGERS[Priority(token.priority)], None, lease)
    _close_interrupted(session, [token.connection_id], lease.now)
    states.release(token)
    session.add(token)
    log.warning("refresh dropped", connection=str(connection.id), shown=connection.state.shown)
    return None


def locked_if_idle(session: Session, connection_id: uuid.UUID) -> Connection | None:
    """The connection for this transaction alone; None while somebody else has it.

    An edit locks it before the token, so whoever holds the token must not wait for it.
    """
    query = select(Connection).where(Connection.id == connection_id).with_for_update(key_share=True, skip_locked=True)
    return session.exec(query.execution_options(populate_existing=True)).one_or_none()


def _close_interrupted(session: Session, connection_ids: Sequence[uuid.UUID], now: datetime) -> None:
    """Whoever held a lease before died after sending: its journal row is closed as unknown.

    An authorization under way holds none, and closes its row itself.
    """
    statement = (
        update(Refresh)
        .where(
            OPEN,
            batches.among(session, Refresh.connection_id, connection_ids),
            col(Refresh.lease_owner) != states.NO_LEASE,
        )
        .values(interrupted(now))
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)


def interrupted(now: datetime) -> dict[str, Any]:
    """What the journal says of a request whose process died after sending it."""
    return {
        "outcome": Outcome.UNKNOWN,
        "closed_at": now,
        "failure_class": FailureClass.UNKNOWN,
        "failure_reason": INTERRUPTED,
    }


def lease_for(settings: Settings, owner: str, now: datetime, taken: datetime, began: float) -> Lease:
    """A lease that begins now: `taken` by the clock of leases, not before `began` by the one that only counts."""
    return Lease(owner, now, taken, taken + timedelta(seconds=settings.lease), began + settings.lease)

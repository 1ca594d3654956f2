"""Pausing and resuming: a connection, a provider's host, everything. No token request is sent meanwhile, by anybody.

What is under way is waited for: its reply is stored, and the pause stays.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from config import Settings
from models import (
    EVERYTHING,
    AuditEntry,
    Connection,
    ConnectionState,
    Priority,
    ProviderHost,
    Slot,
    Token,
    Workspace,
)
from models.authorization_attempt import PAUSED_SINCE
from models.types import utc_now
from services import audit, edits
from services.audit import Actor
from services.authorizing import attempts
from services.engine import held, hosts, states
from services.errors import NotFound

NOTHING_TO_PAUSE = frozenset(
    {
        ConnectionState.DRAFT,
        ConnectionState.CONFIGURED,
        ConnectionState.AUTHORIZING,
        ConnectionState.DISCONNECTED,
    }
)
"""Nothing is sent for these unless somebody presses Authorize."""
RETRYING = frozenset({ConnectionState.DEGRADED, ConnectionState.EXPIRED_RETRYING})
ENDED = frozenset({ConnectionState.REAUTH_REQUIRED, ConnectionState.MISCONFIGURED})
NOT_AUTHORIZED = "It is not authorized, so there is nothing to pause."
GONE = "It no longer exists."
WITHDRAWN = "The connection was paused before the provider's answer came, so that is not used."
OWNER = "Owner of the installation"
"""Who paused a provider, for workspaces that may not know their name."""


@dataclass
class Done:
    """What became of asking to pause or resume connections: every one is in one of the three."""

    changed: list[uuid.UUID] = field(default_factory=list)
    already: list[uuid.UUID] = field(default_factory=list)
    refused: dict[uuid.UUID, str] = field(default_factory=dict)
    """Why not, in a plain sentence."""


def pause(session: Session, actor: Actor, connection_ids: Iterable[uuid.UUID]) -> Done:
    """Pause connections; an authorization whose answer has not come is withdrawn. Commits one after the other.

    The caller has checked the right.
    """
    done = Done()
    for row_id in connection_ids:
        found = _locked(session, row_id)
        if found is None:
            done.refused[row_id] = GONE
        elif found[0].state is ConnectionState.PAUSED:
            done.already.append(row_id)
        elif found[0].state in NOTHING_TO_PAUSE:
            done.refused[row_id] = NOT_AUTHORIZED
        else:
            _pause(session, actor, *found)
            done.changed.append(row_id)
        session.commit()  # holding one at a time, nobody who settles several waits for us in a circle
    return done


def resume(session: Session, settings: Settings, actor: Actor, connection_ids: Iterable[uuid.UUID]) -> Done:
    """Let connections go on as before: due when they would have been, at once where that is over. Commits each."""
    done = Done()
    for row_id in connection_ids:
        found = _locked(session, row_id)
        if found is None:
            done.refused[row_id] = GONE
        elif found[0].state is not ConnectionState.PAUSED:
            done.already.append(row_id)
        else:
            _resume(session, settings, actor, *found)
            done.changed.append(row_id)
        session.commit()
    return done


def last_pause(session: Session, connection: Connection) -> AuditEntry | None:
    """Who paused a connection, and when, as the audit trail has it; None where that has forgotten."""
    return audit.last(session, connection, "connection.paused")


def pause_host(session: Session, actor: Actor, host: str) -> bool:
    """Pause a provider's host, or `EVERYTHING`; whether it was not yet. Commits. Raises NotFound."""
    row = _host(session, host)
    if row.paused_at is not None:
        return False
    row.paused_at, row.paused_by = utc_now(), actor.user_id
    _tell(session, actor, host, "paused")
    session.commit()
    return True


def resume_host(session: Session, settings: Settings, actor: Actor, host: str) -> bool:
    """Let requests to a host, or to everybody, be sent again; whether it was paused. Commits. Raises NotFound.

    What fell due meanwhile comes back spread out, and no more at once than a host may have in flight.
    """
    row = _host(session, host)
    if row.paused_at is None:
        return False
    row.paused_at = row.paused_by = None
    if host != EVERYTHING and row.is_closed(utc_now()):
        held.name_candidates(session, row, utc_now())  # nobody did while it was paused
    elif host != EVERYTHING:
        held.release(session, settings, utc_now(), row)
    _tell(session, actor, host, "resumed")
    session.commit()
    return True


def try_now(session: Session, actor: Actor, host: str) -> bool:
    """Let a request go at once to a host that was found down; whether it was left alone. Commits. Raises NotFound."""
    row = _host(session, host)
    if row.paused_at is not None or row.open_until is None:
        return False
    hosts.try_now(session, utc_now(), row)
    audit.record_for(session, actor, "provider.tried", None, host=host)
    session.commit()
    return True


def limit_host(session: Session, actor: Actor, host: str, limit: int | None) -> None:
    """Set how many requests may be in flight at a host; None: as many as at any. Commits. Raises NotFound."""
    row = _host(session, host)
    if host == EVERYTHING:
        raise NotFound("Say which provider: the limit for all of them is the setting CARDKEY_HOST_CONCURRENCY.")
    row.concurrency = limit
    audit.record_for(session, actor, "provider.limited", None, host=host, limit=limit or "the usual")
    session.commit()


def _pause(session: Session, actor: Actor, connection: Connection, token: Token) -> None:
    connection.paused_from, connection.state = connection.state, ConnectionState.PAUSED
    token.next_refresh_at, token.priority, token.held = None, Priority.SCHEDULED, False
    withdrawn = attempts.withdraw(session, connection, WITHDRAWN, code=PAUSED_SINCE, under_way=False)
    audit.record(session, actor, "connection.paused", connection, connection.name, **withdrawn)


def _resume(session: Session, settings: Settings, actor: Actor, connection: Connection, token: Token) -> None:
    connection.state = connection.paused_from or ConnectionState.ACTIVE
    connection.paused_from = None
    if connection.state not in ENDED:
        states.reschedule(settings, connection, token)
        due, now = token.next_refresh_at, utc_now()
        retried = connection.state in RETRYING and states.renewable(connection, token)
        token.next_refresh_at = now if retried or (due is not None and due < now) else due
    audit.record(session, actor, "connection.resumed", connection, connection.name, to=connection.state.shown)


def _locked(session: Session, connection_id: uuid.UUID) -> tuple[Connection, Token] | None:
    """Connection and token for this transaction, in the order in which everybody locks them."""
    connection = session.get(Connection, connection_id, with_for_update=edits.WITHOUT_KEY, populate_existing=True)
    if connection is None:
        return None
    query = select(Token).where(Token.connection_id == connection_id, Token.slot == Slot.CURRENT)
    return connection, session.exec(query.with_for_update().execution_options(populate_existing=True)).one()


def _host(session: Session, host: str) -> ProviderHost:
    """The row of a host that is in use, for this transaction alone. Raises NotFound."""
    known = host == EVERYTHING or _is_known(session, host)
    if not known:
        raise NotFound(f"No connection uses the provider {host[:100]}.")
    row = hosts.locked(session, host)
    session.add(row)
    return row


def _is_known(session: Session, host: str) -> bool:
    for query in (
        select(Token.id).where(Token.provider_host == host),
        select(ProviderHost.id).where(ProviderHost.host == host),
    ):
        if host and session.exec(query.limit(1)).first() is not None:
            return True
    return False


def _tell(session: Session, actor: Actor, host: str, verb: str) -> None:
    """In the audit trail of the installation, and of every workspace it concerns, where its owner stays unnamed."""
    detail: Mapping[str, str] = {} if host == EVERYTHING else {"host": host}
    action = f"{'everything' if host == EVERYTHING else 'provider'}.{verb}"
    audit.record_for(session, actor, action, None, **detail)
    concerned = select(Workspace.id)
    if host != EVERYTHING:
        concerned = concerned.where(
            col(Workspace.id).in_(select(Token.workspace_id).where(Token.provider_host == host))
        )
    owner = Actor(actor.user_id, OWNER) if actor.user_id else actor
    for workspace_id in session.exec(concerned):
        audit.record_for(session, owner, action, workspace_id, **detail)

"""Refreshing and storing tokens: one lease, one journal, one way in for whoever asks.

Nothing outside this module and `services.engine.leases` touches a token's row. The request itself is
`oauth`'s; the order here is what keeps grants: lease and journal are committed before the request
leaves, and the reply is stored by compare-and-swap on `generation`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr
from sqlmodel import Session, col, select

from models import Connection, ConnectionState, Slot, Token, Trigger
from models.database import shared_now
from models.types import Undecryptable, utc_now
from oauth.vocabulary import LifetimeRung, OAuthFailure
from services import edits
from services.engine import drains, hosts, leases, settle, states, timing
from services.engine.leases import Claim
from services.engine.timing import Timing
from services.errors import NotFound, Refused
from services.resources import Resources

POLL_SECONDS = 0.1
GONE = "This connection no longer exists."
NO_TOKEN = "This connection has no token of its own. Press Authorize on the connection first."


@dataclass(frozen=True)
class Access:
    """An access token fit for use, and whether it had to be refreshed on the way."""

    token: SecretStr
    token_type: str
    generation: int
    refreshed: bool
    received_at: datetime | None = None
    lifetime_rung: LifetimeRung | None = None


class BeingRefreshed(Refused):
    """Somebody else's refresh did not end in time; trying again helps."""

    def __init__(self) -> None:
        """Fixed words."""
        super().__init__("The token is being refreshed right now. Try again in a few seconds.")


def current_token(session: Session, connection: Connection) -> Token:
    """The current token row of a connection; it exists as long as the connection does."""
    return session.exec(
        select(Token).where(
            Token.workspace_id == connection.workspace_id,
            Token.connection_id == connection.id,
            Token.slot == Slot.CURRENT,
        )
    ).one()


def refresh(
    resources: Resources,
    connection_id: uuid.UUID,
    trigger: Trigger,
    *,
    spent: int | None = None,
    requested_by: uuid.UUID | None = None,
) -> None:
    """Refresh one connection now, or wait for whoever is at it.

    `spent` is the generation the caller found wanting; if the token has moved on since, nothing is sent.
    Raises OAuthFailure as it was sorted, BeingRefreshed, hosts.Paused, NotFound.
    """
    deadline = time.monotonic() + resources.settings.caller_wait
    while True:
        with resources.database.session(writing=True) as session:
            claim = leases.claim_one(session, resources.settings, connection_id, trigger, spent, requested_by)
        if isinstance(claim, Claim):
            break
        if claim is leases.Unclaimed.MOVED_ON:
            return
        if claim is leases.Unclaimed.RESTING:
            raise _why_resting(resources, connection_id)
        if time.monotonic() > deadline:
            raise BeingRefreshed
        time.sleep(POLL_SECONDS)
    result = resources.http.run(drains.send(resources, claim))
    settle.persist(resources, [result])
    if isinstance(result[1], OAuthFailure) and not _overtaken(resources, claim):
        raise result[1]


def access(
    resources: Resources,
    workspace_id: uuid.UUID,
    connection_id: uuid.UUID,
    *,
    refused: int | None = None,
    seen: tuple[Connection, Token] | None = None,
) -> Access:
    """A usable access token, refreshed first when it has run out.

    `refused` is the generation the API has just turned down: a newer one is fetched.
    `seen` are the two rows as the caller read them this very moment, which saves reading them again.
    Raises OAuthFailure, BeingRefreshed, hosts.Paused, NotFound.
    """
    connection, token = seen or _read(resources, workspace_id, connection_id)
    if connection.has_strange_grant:
        raise NotFound(NO_TOKEN)
    margin = timing.margin(Timing.of(connection), token.lifetime) if states.renewable(connection, token) else 0.0
    found = token.generation
    if not token.is_valid(utc_now(), margin) or found == refused:
        if token.access_token_sealed is None:
            raise NotFound(NO_TOKEN)
        connection, token = _refreshed(resources, connection, token, refused)
    try:
        value = token.unseal("access_token", resources.database.keyring)
    except Undecryptable as problem:
        raise _closed(resources, token, problem) from None
    if value is None:
        raise NotFound(NO_TOKEN)
    refreshed = token.generation != found
    return Access(value, token.token_type, token.generation, refreshed, token.received_at, token.lifetime_rung)


def drain(
    resources: Resources, seconds: float, *, limit: int = 200, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Refresh whatever is due until nothing is, or for `seconds`; returns how many requests were made.

    Once `stopping` says so no request is started; those under way are finished and stored.
    Raises OperationalError while the database is away, after storing what could be stored.
    """
    return drains.drain(resources, seconds, limit=limit, stopping=stopping)


def _read(resources: Resources, workspace_id: uuid.UUID, connection_id: uuid.UUID) -> tuple[Connection, Token]:
    query = select(Connection, Token).join(Token, col(Token.connection_id) == Connection.id)
    query = query.where(
        Connection.id == connection_id, Connection.workspace_id == workspace_id, Token.slot == Slot.CURRENT
    )
    with resources.database.session() as session:
        found = session.exec(query).one_or_none()
    if found is None:
        raise NotFound(GONE)
    return found


def _refreshed(
    resources: Resources, connection: Connection, token: Token, refused: int | None
) -> tuple[Connection, Token]:
    """The rows after a refresh; as they are without one where the token is good for a few seconds yet."""
    try:
        refresh(resources, connection.id, Trigger.AGENT_FACING, spent=token.generation)
    except (OAuthFailure, BeingRefreshed, hosts.Paused):
        connection, token = _read(resources, connection.workspace_id, connection.id)
        good = token.access_token_sealed is not None and token.is_valid(utc_now()) and token.generation != refused
        if not good or connection.state is ConnectionState.PAUSED:
            raise
        return connection, token
    return _read(resources, connection.workspace_id, connection.id)


def _why_resting(resources: Resources, connection_id: uuid.UUID) -> OAuthFailure | Refused:
    """What to tell a caller for whom nothing is sent: what stops everybody, a pause, or the failure on record."""
    with resources.database.session() as session:
        connection = session.get(Connection, connection_id)
        if connection is None:
            return NotFound(GONE)
        if connection.state is ConnectionState.PAUSED:
            return hosts.Paused(f"The connection {connection.name} is paused. Resume it first.")
        stopped = hosts.refusal(session, utc_now(), current_token(session, connection).provider_host)
        return stopped or states.failure_of(connection) or NotFound(NO_TOKEN)


def _overtaken(resources: Resources, claim: Claim) -> bool:
    """Whether somebody stored a newer token while our request failed: then that one is good for the caller."""
    with resources.database.session() as session:
        token = session.get(Token, claim.token_id)
    return token is not None and token.generation > claim.generation and token.access_token_sealed is not None


def _closed(resources: Resources, seen: Token, problem: Undecryptable) -> OAuthFailure:
    """Stop a connection whose access token cannot be read, unless a newer one is there or on its way."""
    with resources.database.session(writing=True) as session:
        connection = session.get_one(Connection, seen.connection_id, with_for_update=edits.WITHOUT_KEY)
        token = session.get_one(Token, seen.id, with_for_update=True)
        if token.generation == seen.generation and not token.is_leased(shared_now(session)):
            states.fail_closed(session, connection, token, problem)
            session.commit()
    return states.unreadable(problem)

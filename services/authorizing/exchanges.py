"""Exchanging a code for a token (RFC 6749 §4.1.3) and storing what came of it.

A new grant takes the place of the old one whoever is refreshing that; an edit or a disconnect while the
request is under way wins over both.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import SecretStr
from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

import outbound
from models import AuthorizationAttempt, Connection, ConnectionState, Outcome, Refresh, Token, Trigger
from models.authorization_attempt import CHECKS, NEWER, STOPPED, STOPPED_WORDS, WITHDRAWN
from models.database import AWAY
from models.refresh import OPEN
from models.types import utc_now
from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure, Registration, TokenReply
from services import edits
from services.authorizing import attempts, findings
from services.engine import claims, hosts, settle, states
from services.engine.breakers import Answer
from services.errors import NotFound
from services.resources import Resources

CHANGED = "The connection's settings changed while you were at the provider, so its answer is not used. Start again."
OVERTAKEN = "A newer authorization of this connection finished first; that one is in use."
DELETED = (
    "The connection was deleted meanwhile, so nothing was kept. The provider may have given an authorization all the "
    "same: remove the access there as well."
)
CODE_REFUSED = "The provider did not accept the code that it had just sent back."
SPOILED_BY = frozenset({FailureClass.CLIENT_BAD, FailureClass.REQUEST_BAD, FailureClass.LOCAL})


@dataclass(frozen=True)
class Exchange:
    """A claimed attempt, ready for its one token request; nothing in it reads the database again."""

    attempt: AuthorizationAttempt
    refresh_id: uuid.UUID
    token_id: uuid.UUID
    registration: Registration
    auth_method: ClientAuthMethod | None
    state: str = field(repr=False)
    code: SecretStr


Redeem = Callable[[Exchange], TokenReply]
"""Sends the token request (RFC 6749 §4.1.3). Raises OAuthFailure."""


def run(resources: Resources, exchange: Exchange, redeem: Redeem) -> AuthorizationAttempt:
    """Send the one token request and store what came of it; returns the attempt as it ended. Raises NotFound."""
    try:
        result: TokenReply | OAuthFailure = redeem(exchange)
    except OAuthFailure as failure:
        result = _of_a_code(failure)
    return conclude(resources, exchange, result)


def _of_a_code(failure: OAuthFailure) -> OAuthFailure:
    """`invalid_grant` speaks of the code here, not of an authorization that ended (RFC 6749 §5.2)."""
    if failure.failure_class is not FailureClass.GRANT_DEAD:
        return failure
    return OAuthFailure(
        failure.step,
        FailureClass.GRANT_DEAD,
        CODE_REFUSED,
        code=failure.code,
        provider_said=failure.provider_said,
        status=failure.status,
    )


def close_abandoned(session: Session, lease: float, connection_id: uuid.UUID | None = None) -> int:
    """Close what processes that died during an exchange have left, of one connection or all: nobody else will.

    Does not commit; returns how many. A reply that comes later all the same is stored.
    """
    statement = update(Refresh).where(
        col(Refresh.lease_owner) == states.NO_LEASE,
        OPEN,
        col(Refresh.sent_at) < utc_now() - timedelta(seconds=lease),
    )
    if connection_id is not None:
        statement = statement.where(col(Refresh.connection_id) == connection_id)
    closed = statement.values(claims.interrupted(utc_now()) | {"failure_reason": STOPPED_WORDS})
    result = session.execute(closed.execution_options(synchronize_session=False))
    attempts.close_interrupted(session, connection_id)
    assert isinstance(result, CursorResult)
    return result.rowcount


def conclude(resources: Resources, exchange: Exchange, result: TokenReply | OAuthFailure) -> AuthorizationAttempt:
    """Store what came of the exchange, trying again while the database is away. Raises NotFound."""
    until = time.monotonic() + resources.settings.lease
    while True:
        try:
            with resources.database.session(writing=True) as session:
                attempt = _store(session, resources, exchange, result)
                hosts.note(session, resources.settings, utc_now(), [_answer(exchange, result)])
                session.commit()
                return attempt
        except AWAY:
            if time.monotonic() > until:
                raise
            time.sleep(settle.RETRY_SECONDS)


def _store(
    session: Session, resources: Resources, exchange: Exchange, result: TokenReply | OAuthFailure
) -> AuthorizationAttempt:
    """Token, journal, attempt and audit trail in one commit. A refresh in flight finds a newer generation."""
    connection = session.get(Connection, exchange.attempt.connection_id, with_for_update=edits.WITHOUT_KEY)
    if connection is None:
        raise NotFound(DELETED)
    token = session.get_one(Token, exchange.token_id, with_for_update=True)
    journal = session.get_one(Refresh, exchange.refresh_id, with_for_update=True)
    attempt = session.get_one(AuthorizationAttempt, exchange.attempt.id, with_for_update=True)
    if not attempts.is_open(attempt) and journal.outcome is not Outcome.SENT:
        # A commit that was made, though its answer was lost: by now the refresh token in this reply may be spent.
        return attempt
    too_late = _too_late(session, attempt, connection, journal)
    if too_late is not None:
        journal.outcome, journal.closed_at = Outcome.SUPERSEDED, utc_now()
        if attempts.is_open(attempt):
            attempts.fail(session, attempt, connection, too_late)
    elif isinstance(result, TokenReply):
        settle.store_authorization(session, resources.settings, connection, token, journal, result)
        attempts.succeed(attempt, findings.of(connection, token))
    else:
        journal.closed_at = utc_now()
        settle.close_failed(session, journal, token, result)
        attempts.fail(session, attempt, connection, result)
        _spoil(session, connection, token, result)
    return attempt


def _answer(exchange: Exchange, result: TokenReply | OAuthFailure) -> Answer:
    """What the exchange says of the provider's host: somebody who authorizes is the first to see it answer again."""
    failure = result if isinstance(result, OAuthFailure) else None
    host = outbound.origin(exchange.registration.token_endpoint)
    return Answer(host, failure, exchange.attempt.connection_id, exchange.attempt.workspace_id)


def _too_late(
    session: Session, attempt: AuthorizationAttempt, connection: Connection, journal: Refresh
) -> OAuthFailure | None:
    """Why a reply may not be stored any more; the newest consent wins, and so does an edit or a disconnect."""
    if not attempts.is_open(attempt):
        return OAuthFailure(CHECKS, FailureClass.LOCAL, attempt.failure_reason, code=attempt.failure_code)
    if attempt.failure_code == STOPPED and connection.state is ConnectionState.DISCONNECTED:
        return OAuthFailure(CHECKS, FailureClass.LOCAL, attempts.DISCONNECTED, code=WITHDRAWN)
    if connection.version != attempt.connection_version:
        return OAuthFailure(CHECKS, FailureClass.LOCAL, CHANGED)
    newer = select(Refresh.id).where(
        Refresh.connection_id == connection.id,
        Refresh.trigger == Trigger.AUTHORIZE,
        Refresh.outcome == Outcome.STORED,
        col(Refresh.sent_at) > journal.sent_at,
    )
    if session.exec(newer.limit(1)).first() is None:
        return None
    return OAuthFailure(CHECKS, FailureClass.LOCAL, OVERTAKEN, code=NEWER)


def _spoil(session: Session, connection: Connection, token: Token, failure: OAuthFailure) -> None:
    """Without a grant to lose, a failure that only an edit can mend is the connection's too."""
    if token.access_token_sealed is None and failure.failure_class in SPOILED_BY:
        states.note_failure(connection, failure)
        states.move(session, connection, ConnectionState.MISCONFIGURED, failure.failure_class)

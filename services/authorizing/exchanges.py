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
from sqlalchemy import update
from sqlmodel import Session, col, select

import outbound
from config import Settings
from models import AttemptOutcome, AuthorizationAttempt, Connection, ConnectionState, Outcome, Refresh, Token, Trigger
from models.authorization_attempt import CHECKS
from models.database import AWAY
from models.refresh import OPEN
from models.types import utc_now
from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure, Registration, TokenReply
from services import edits
from services.authorizing import attempts, findings
from services.engine import hosts, settle, states
from services.engine.breakers import Answer
from services.errors import NotFound
from services.resources import Resources

CHANGED = "The connection's settings changed while you were at the provider. Start again."
NEWER = "A newer authorization of this connection finished first; that one is in use."
ABANDONED = "The process stopped after the code was sent and before a reply was stored."
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


def close_abandoned(session: Session, settings: Settings, connection_id: uuid.UUID) -> None:
    """Close the journal rows of exchanges whose process died: nobody else will. Does not commit."""
    statement = (
        update(Refresh)
        .where(
            col(Refresh.connection_id) == connection_id,
            col(Refresh.lease_owner) == states.NO_LEASE,
            OPEN,
            col(Refresh.sent_at) < utc_now() - timedelta(seconds=settings.lease),
        )
        .values(outcome=Outcome.UNKNOWN, closed_at=utc_now(), failure_reason=ABANDONED)
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)


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
        raise NotFound("The connection was deleted meanwhile.")
    token = session.get_one(Token, exchange.token_id, with_for_update=True)
    journal = session.get_one(Refresh, exchange.refresh_id)
    attempt = session.get_one(AuthorizationAttempt, exchange.attempt.id)
    if attempt.outcome is not AttemptOutcome.PENDING and journal.outcome is not Outcome.SENT:
        # A commit that was made, though its answer was lost: by now the refresh token in this reply may be spent.
        return attempt
    too_late = _too_late(session, attempt, connection, journal)
    if too_late:
        journal.outcome, journal.closed_at = Outcome.SUPERSEDED, utc_now()
        if attempt.outcome is AttemptOutcome.PENDING:
            attempts.fail(session, attempt, connection, OAuthFailure(CHECKS, FailureClass.LOCAL, too_late))
    elif isinstance(result, TokenReply):
        settle.store_authorization(session, resources.settings, connection, token, journal, result)
        attempts.succeed(attempt, findings.of(connection, token))
    else:
        journal.closed_at = utc_now()
        settle.close_failed(session, journal, result)
        attempts.fail(session, attempt, connection, result)
        _spoil(session, connection, token, result)
    return attempt


def _answer(exchange: Exchange, result: TokenReply | OAuthFailure) -> Answer:
    """What the exchange says of the provider's host: somebody who authorizes is the first to see it answer again."""
    failure = result if isinstance(result, OAuthFailure) else None
    host = outbound.origin(exchange.registration.token_endpoint)
    return Answer(host, failure, exchange.attempt.connection_id, exchange.attempt.workspace_id)


def _too_late(session: Session, attempt: AuthorizationAttempt, connection: Connection, journal: Refresh) -> str:
    """Why a reply may not be stored any more; the newest consent wins, and so does an edit or a disconnect."""
    if attempt.outcome is not AttemptOutcome.PENDING:
        return attempt.failure_reason
    if connection.version != attempt.connection_version:
        return CHANGED
    newer = select(Refresh.id).where(
        Refresh.connection_id == connection.id,
        Refresh.trigger == Trigger.AUTHORIZE,
        Refresh.outcome == Outcome.STORED,
        col(Refresh.sent_at) > journal.sent_at,
    )
    return NEWER if session.exec(newer.limit(1)).first() is not None else ""


def _spoil(session: Session, connection: Connection, token: Token, failure: OAuthFailure) -> None:
    """Without a grant to lose, a failure that only an edit can mend is the connection's too."""
    if token.access_token_sealed is None and failure.failure_class in SPOILED_BY:
        states.note_failure(connection, failure)
        states.move(session, connection, ConnectionState.MISCONFIGURED, failure.failure_class)

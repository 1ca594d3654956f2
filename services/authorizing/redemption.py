"""The provider's answer to an authorization request: whose it is, and whether anything may come of it.

An attempt is claimed before its code is sent, so that a code is sent once at the most.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass

from pydantic import SecretStr
from sqlmodel import Session

import outbound
from config import Settings
from models import AttemptOutcome, AuthorizationAttempt, Connection, Refresh, Role, Trigger, User, keyring_of
from models.authorization_attempt import CHECKS, PAUSED
from models.types import Undecryptable, utc_now
from oauth.authorization_response import AuthorizationResponse
from oauth.issuer import wrong_issuer
from oauth.vocabulary import FailureClass, OAuthFailure
from services.authorizing import attempts, exchanges, refusals
from services.authorizing.exchanges import CHANGED, Exchange, Redeem
from services.authorizing.refusals import Unusable
from services.engine import client_secrets, hosts, states, tokens
from services.people import members
from services.resources import Resources

NOT_ADMIN = "You are no longer an admin of this workspace, so the authorization was not finished."
SOMEBODY_ELSE = "Somebody else, or another browser, came back with the answer. Start again, and finish where you began."


class SignInFirst(Exception):
    """The answer is kept; it goes on when the person has signed in again."""

    def __init__(self, attempt_id: uuid.UUID) -> None:
        """Which attempt goes on."""
        super().__init__()
        self.attempt_id = attempt_id


@dataclass(frozen=True)
class Visitor:
    """Who brings the answer back, and in which browser."""

    user: User | None
    browser_hash: str


def receive(resources: Resources, answer: AuthorizationResponse) -> uuid.UUID:
    """Keep an answer that came without cookies, until a request with them goes on; the first one counts.

    Returns the attempt's id. Raises Unusable.
    """
    with resources.database.session(writing=True) as session:
        attempt = _open_attempt(session, answer.state, resources.settings)
        if attempt.callback_sealed is None:
            _keep(session, attempt, answer)
        session.commit()
        return attempt.id


def kept(resources: Resources, attempt_id: uuid.UUID, browser_hash: str) -> AuthorizationResponse:
    """The answer kept by `receive`, or by `finish` for somebody signed out; for the attempt's own browser.

    Raises Unusable.
    """
    with resources.database.session() as session:
        attempt = session.get(AuthorizationAttempt, attempt_id)
        if attempt is None or attempt.browser_hash != browser_hash:
            raise Unusable(refusals.UNKNOWN)
        refusals.check_open(attempt)
        try:
            value = attempt.unseal("callback", keyring_of(session))
        except Undecryptable:
            value = None
    if value is None:
        raise Unusable(refusals.UNKNOWN)
    fields = json.loads(value.get_secret_value())
    code = fields.pop("code")
    return AuthorizationResponse(code=SecretStr(code) if code else None, **fields)


def finish(
    resources: Resources, answer: AuthorizationResponse, visitor: Visitor, redeem: Redeem
) -> AuthorizationAttempt:
    """Check an answer and exchange its code; returns the attempt as it ended.

    Checked in this order: state, expiry, unused, browser, person, right, configuration, issuer; only
    then does an error in it count. Raises Unusable, SignInFirst.
    """
    with resources.database.session(writing=True) as session:
        exchange = _claim(session, answer, visitor, resources.settings)
        session.commit()
    if isinstance(exchange, AuthorizationAttempt):
        return exchange
    if isinstance(exchange, Unusable):
        raise exchange
    return exchanges.run(resources, exchange, redeem)


def _claim(
    session: Session, answer: AuthorizationResponse, visitor: Visitor, settings: Settings
) -> Exchange | AuthorizationAttempt | Unusable:
    """The checks, and the one claim; whatever is refused after the claim has ended the attempt."""
    attempt = _open_attempt(session, answer.state, settings, visitor)
    if visitor.user is None and visitor.browser_hash == attempt.browser_hash:
        _keep(session, attempt, answer)
        session.commit()
        raise SignInFirst(attempt.id)
    if not attempts.claim(session, attempt, settings.lease):
        session.refresh(attempt)
        refusals.check_open(attempt)
        raise Unusable(refusals.IN_USE, 410)
    connection = session.get_one(Connection, attempt.connection_id)
    stranger = _stranger(session, attempt, visitor)
    paused = _pause(session, connection)
    words = stranger or _objection(attempt, connection, answer) or paused
    if words:
        code = PAUSED if words == paused else ""
        attempts.fail(session, attempt, connection, OAuthFailure(CHECKS, FailureClass.LOCAL, words, code=code))
        return Unusable(stranger, 403) if stranger else attempt
    return _prepare(session, attempt, connection, answer)


def _prepare(
    session: Session, attempt: AuthorizationAttempt, connection: Connection, answer: AuthorizationResponse
) -> Exchange | AuthorizationAttempt:
    """Open the journal for the token request, or end the attempt with the provider's error."""
    token = tokens.current_token(session, connection)
    try:
        registration = client_secrets.registration(session, connection, token)
    except Undecryptable as damage:
        failure = OAuthFailure("token request", FailureClass.LOCAL, damage.sentence)
        attempts.fail(session, attempt, connection, failure)
        return attempt
    if answer.code is None:
        outcome = AttemptOutcome.DENIED if answer.denied else AttemptOutcome.FAILED
        attempts.fail(
            session,
            attempt,
            connection,
            answer.failure([registration.client_secret, registration.other_secret]),
            outcome,
        )
        return attempt
    journal = Refresh(
        workspace_id=attempt.workspace_id,
        connection_id=attempt.connection_id,
        trigger=Trigger.AUTHORIZE,
        requested_by=attempt.user_id,
        lease_owner=states.NO_LEASE,
        generation=token.generation,
    )
    session.add(journal)
    return Exchange(attempt, journal.id, token.id, registration, token.auth_method, answer.state, answer.code)


def _open_attempt(
    session: Session, state: str, settings: Settings, visitor: Visitor | None = None
) -> AuthorizationAttempt:
    attempt = attempts.by_state(session, state)
    if attempt is None:
        raise refusals.unknown(session, settings, visitor.user if visitor else None)
    refusals.check_open(attempt)
    return attempt


def _keep(session: Session, attempt: AuthorizationAttempt, answer: AuthorizationResponse) -> None:
    """Put an answer by, encrypted; its code goes into no address."""
    fields = {**asdict(answer), "code": answer.code.get_secret_value() if answer.code else None}
    attempt.seal("callback", SecretStr(json.dumps(fields)), keyring_of(session))
    session.add(attempt)


def _stranger(session: Session, attempt: AuthorizationAttempt, visitor: Visitor) -> str:
    """Why the visitor may not end this attempt (AC-01, AC-02); empty when they may."""
    if visitor.browser_hash != attempt.browser_hash or visitor.user is None or visitor.user.id != attempt.user_id:
        return SOMEBODY_ELSE
    role = members.role_in(session, visitor.user.id, attempt.workspace_id)
    return "" if role is not None and role.includes(Role.ADMIN) else NOT_ADMIN


def _pause(session: Session, connection: Connection) -> str:
    """Which pause, made since the attempt began, forbids a token request; empty where none does."""
    stopped = hosts.refusal(session, utc_now(), outbound.origin(connection.token_endpoint))
    return str(stopped) if isinstance(stopped, hosts.Paused) else ""


def _objection(attempt: AuthorizationAttempt, connection: Connection, answer: AuthorizationResponse) -> str:
    """Why the answer does not fit the question (AC-08, AC-10); empty when it does."""
    if connection.version != attempt.connection_version:
        return CHANGED
    return wrong_issuer(connection.issuer, answer.iss)

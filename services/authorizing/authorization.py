"""Authorizing a connection, from the press of the button on; what comes back is `services.authorizing.redemption`'s."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

from sqlmodel import Session, col, select

import outbound
from models import AuthorizationAttempt, Connection, ConnectionState, Trigger, User, keyring_of
from models.authorization_attempt import PAUSED
from models.types import Undecryptable, utc_now
from oauth.vocabulary import UNDECRYPTABLE, FailureClass, OAuthFailure, Registration
from services import audit
from services.authorizing import attempts, exchanges, findings
from services.engine import client_secrets, hosts, tokens
from services.errors import NotFound
from services.resources import Resources

SETTINGS = "settings"
"""Step before anything is sent."""
REQUIRED = {"client_id": "Client ID", "token_endpoint": "Token Endpoint"}
GONE = "This connection no longer exists."

Ask = Callable[[AuthorizationAttempt, Registration], None]
"""Builds the authorization request and keeps its state in the attempt (`attempts.keep_state`)."""


def newest(session: Session, connection_id: uuid.UUID) -> AuthorizationAttempt | None:
    """How the last press of Authorize went."""
    query = select(AuthorizationAttempt).where(AuthorizationAttempt.connection_id == connection_id)
    return session.exec(query.order_by(col(AuthorizationAttempt.created_at).desc()).limit(1)).first()


def begin(
    resources: Resources,
    connection_id: uuid.UUID,
    user: User,
    *,
    browser_hash: str,
    popup: bool,
    return_to: str,
    ask: Ask,
) -> AuthorizationAttempt:
    """Start an attempt: one that waits for a person, or, where the flow needs none, one that has ended.

    What stops it before anything is sent ends it with words. The caller has checked the right. Raises NotFound.
    """
    with resources.database.session(writing=True) as session:
        connection = session.get(Connection, connection_id, with_for_update={"read": True, "key_share": True})
        if connection is None:
            raise NotFound(GONE)
        attempt = _new(resources, connection, user, browser_hash)
        attempt.popup, attempt.return_to = popup and connection.grant.needs_person, return_to
        attempts.erase_abandoned(session, connection_id)
        exchanges.close_abandoned(session, resources.settings.lease, connection_id)
        session.add(attempt)
        audit.record(session, audit.Actor.person(user), "connection.authorize_started", connection, connection.name)
        try:
            registration = _ready(resources, session, connection)
            if connection.grant.needs_person:
                ask(attempt, registration)
            else:
                attempts.use(attempt, resources.settings.lease + resources.settings.caller_wait)
        except OAuthFailure as failure:
            attempts.fail(session, attempt, connection, failure)
        session.commit()
    if attempt.waiting and not connection.grant.needs_person:
        return _fetch(resources, attempt)
    return attempt


def onward(session: Session, attempt: AuthorizationAttempt) -> str:
    """Where at the provider the person goes to agree; empty when that is over."""
    if not attempt.waiting:
        return ""
    try:
        kept = attempts.read_state(attempt, keyring_of(session))
    except Undecryptable:
        return ""
    return str(kept["url"]) if kept else ""


def _new(resources: Resources, connection: Connection, user: User, browser_hash: str) -> AuthorizationAttempt:
    return AuthorizationAttempt(
        workspace_id=connection.workspace_id,
        connection_id=connection.id,
        user_id=user.id,
        browser_hash=browser_hash,
        redirect_uri=resources.settings.redirect_url,
        connection_version=connection.version,
        expires_at=utc_now() + timedelta(seconds=resources.settings.attempt_ttl),
    )


def _ready(resources: Resources, session: Session, connection: Connection) -> Registration:
    """The registration, if it can be used: complete, its addresses as good as when they were saved (AC-11)."""
    if connection.state is ConnectionState.PAUSED:
        raise _unready("This connection is paused.", PAUSED)
    stopped = hosts.refusal(session, utc_now(), outbound.origin(connection.token_endpoint))
    if isinstance(stopped, hosts.Paused):
        raise _unready(str(stopped), PAUSED)
    missing = [label for name, label in REQUIRED.items() if not getattr(connection, name)]
    if missing:
        raise _unready(f"{' and '.join(missing)} must be filled in and saved first.")
    addresses = {"Token Endpoint": connection.token_endpoint}
    if connection.grant.needs_person:
        addresses["Authorization Endpoint"] = connection.authorization_endpoint
    for label, address in addresses.items():
        try:
            outbound.check_url(address, resources.http.policy)
        except outbound.OutboundFailure as problem:
            raise _unready(f"{label} cannot be used. {problem}") from None
    try:
        return client_secrets.registration(session, connection, tokens.current_token(session, connection))
    except Undecryptable as problem:
        raise _unready(problem.sentence, UNDECRYPTABLE) from None


def _unready(words: str, code: str = "") -> OAuthFailure:
    return OAuthFailure(SETTINGS, FailureClass.LOCAL, words, code=code)


def _fetch(resources: Resources, attempt: AuthorizationAttempt) -> AuthorizationAttempt:
    """The first token of a flow without a person, on the spot (RFC 6749 §4.4)."""
    problem: OAuthFailure | None = None
    try:
        tokens.refresh(resources, attempt.connection_id, Trigger.AUTHORIZE, requested_by=attempt.user_id)
    except OAuthFailure as failure:
        problem = failure
    except Undecryptable as damage:
        problem = _unready(damage.sentence, UNDECRYPTABLE)
    except tokens.BeingRefreshed as busy:
        problem = OAuthFailure("token request", FailureClass.UNKNOWN, str(busy))
    except hosts.Paused as pause:
        problem = _unready(str(pause), PAUSED)
    with resources.database.session(writing=True) as session:
        ended = session.get(AuthorizationAttempt, attempt.id)
        if ended is None:
            raise NotFound(GONE)
        connection = session.get_one(Connection, attempt.connection_id)
        if problem is None:
            attempts.succeed(ended, findings.of(connection, tokens.current_token(session, connection)))
        else:
            attempts.fail(session, ended, connection, problem)
        session.commit()
    return ended

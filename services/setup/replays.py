"""Using a reply that was kept because nobody could read it, once somebody has said where its fields are.

The request was made and answered long ago: nothing is sent here, and whatever was stored since wins.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import SecretStr
from sqlmodel import Session, col, select

from models import (
    AttemptOutcome,
    AuthorizationAttempt,
    Connection,
    ConnectionState,
    Outcome,
    Priority,
    Refresh,
    Token,
    Trigger,
    keyring_of,
)
from models.database import shared_now
from models.types import Undecryptable, utc_now
from oauth import reply as replies
from oauth.documents import Document
from oauth.documents import document as read_document
from oauth.explanation import is_page
from oauth.vocabulary import (
    GIVEN_UP_REPLY,
    UNDECRYPTABLE,
    ClientAuthMethod,
    FailureClass,
    LifetimeUnit,
    OAuthFailure,
    TokenReply,
)
from services import audit, edits
from services.audit import Actor
from services.authorizing import attempts, findings
from services.engine import client_secrets, habits, kept_replies, settle, states
from services.engine import tokens as token_rows
from services.errors import NotFound, Refused
from services.preview_tree import Node
from services.resources import Resources
from services.setup import reply_shapes

GONE = "This reply is no longer kept: a newer token was stored, or the connection was disconnected."
BUSY = "The token is being refreshed right now. Try again in a few seconds."
NEWER = "A newer token has been stored since this reply came, so it is not needed any more, and was not used."
STRANGE = "This reply was given to another client than the one that is configured now, so it was not used."
RAN_OUT = (
    "The access token in this reply has run out, and there is no refresh token to get another with. Press Authorize."
)
USED = "The reply was used: its token is stored."
USED_AND_DUE = "The reply was used. Its access token has run out meanwhile, so its refresh token gets a new one now."
GIVEN_UP = "The reply was erased."
TRYING = "The reply was erased. Cardkey asks the provider once more with the old refresh token."


@dataclass(frozen=True)
class Kept:
    """A kept reply as an admin may see it: its shape, and nothing that could be a secret."""

    refresh_id: uuid.UUID
    consent: bool
    """Whether it answers an authorization code, which cannot be sent again."""
    received_at: datetime
    status: int | None
    characters: int
    what: str
    """What it is, in words."""
    problem: str
    """Why it cannot be used as the mapping is now; empty when it can."""
    tree: Node | None
    suggestions: list[str]
    """Lines of a mapping that may do."""


def shown(session: Session, connection: Connection, token: Token) -> list[Kept]:
    """What is kept and could still be used: first what can be used at once, then what holds something."""
    found = [_shown(session, connection, token, journal) for journal in kept_replies.of(session, connection, token)]
    return sorted(found, key=lambda kept: (bool(kept.problem), kept.tree is None))


def use(resources: Resources, actor: Actor, connection_id: uuid.UUID, refresh_id: uuid.UUID) -> str:
    """Store the token of a kept reply, read with the present mapping; returns what came of it, as a sentence.

    Like any reply it is stored under the token's lock, for the generation it was received for, and counts
    from the moment it came. Raises Refused in plain words, NotFound.
    """
    with resources.database.session(writing=True) as session:
        connection, token = _locked(session, connection_id)
        journal = session.get(Refresh, refresh_id, populate_existing=True)
        if journal is None or journal.connection_id != connection.id or journal.raw_reply_sealed is None:
            raise Refused(GONE)
        objection = _objection(session, connection, token, journal)
        if objection:
            raise Refused(objection)
        try:
            found = _read(session, connection, token, journal)
        except OAuthFailure as failure:
            raise Refused(f"The reply still cannot be used. {failure}") from None
        _store(session, resources, connection, token, journal, found)
        with audit.aside(session):
            audit.record(session, actor, "connection.reply_used", connection, connection.name)
        due_now = not token.is_valid(utc_now())
        session.commit()
    return USED_AND_DUE if due_now else USED


def give_up(resources: Resources, actor: Actor, connection_id: uuid.UUID) -> str:
    """Erase what is kept and go on with the old refresh token, where there is one. Raises NotFound."""
    with resources.database.session(writing=True) as session:
        connection, token = _locked(session, connection_id)
        kept_replies.erase(session, connection.id)
        waiting = connection.awaits_replay
        if waiting:
            connection.failure_code = GIVEN_UP_REPLY
            states.move(session, connection, states.until_tried(connection, token))
            token.failures = 0
            if connection.state is not ConnectionState.PAUSED:
                token.next_refresh_at, token.priority = utc_now(), Priority.MANUAL
        audit.record(session, actor, "connection.reply_given_up", connection, connection.name)
        session.commit()
    return TRYING if waiting else GIVEN_UP


def _locked(session: Session, connection_id: uuid.UUID) -> tuple[Connection, Token]:
    """The rows as they are now, locked in the order of everybody: whoever refreshes waits for us, or we for them."""
    connection = session.get(Connection, connection_id, with_for_update=edits.WITHOUT_KEY, populate_existing=True)
    if connection is None:
        raise NotFound("This connection no longer exists.")
    token = token_rows.current_token(session, connection)
    return connection, session.get_one(Token, token.id, with_for_update=True, populate_existing=True)


def _objection(session: Session, connection: Connection, token: Token, journal: Refresh) -> str:
    """Why a kept reply may not be stored, whatever is in it; empty when it may."""
    if journal.trigger is Trigger.AUTHORIZE:
        newer = select(Refresh.id).where(
            Refresh.connection_id == connection.id,
            Refresh.trigger == Trigger.AUTHORIZE,
            Refresh.outcome == Outcome.STORED,
            col(Refresh.sent_at) > journal.sent_at,
        )
        return NEWER if session.exec(newer.limit(1)).first() is not None else ""
    if token.generation != journal.generation:
        return NEWER
    if token.is_leased(shared_now(session)):
        return BUSY
    return STRANGE if connection.has_strange_grant else ""


def _read(session: Session, connection: Connection, token: Token, journal: Refresh) -> TokenReply:
    """The token in a kept reply, if it is one worth storing. Raises OAuthFailure."""
    step = "refresh" if journal.trigger is not Trigger.AUTHORIZE else "token request"
    keyring = keyring_of(session)
    try:
        text = journal.unseal("raw_reply", keyring)
        sent = token.unseal("refresh_token", keyring)
        ours = [secret.value for secret in client_secrets.live(session, connection, token)]
    except Undecryptable as problem:
        raise OAuthFailure(step, FailureClass.LOCAL, problem.sentence, code=UNDECRYPTABLE) from None
    assert text is not None
    received_at = journal.closed_at or journal.sent_at
    found = replies.parse_kept(
        text,
        journal.http_status or 0,
        received_at=received_at,
        secrets=[sent, *ours],
        step=step,
        unit=LifetimeUnit(connection.expires_in_unit),
        mapping=connection.reply_mapping,
        renews=connection.grant.needs_person,
    )
    ended = found.lifetime is not None and (utc_now() - received_at).total_seconds() >= found.lifetime
    old = sent if journal.trigger is not Trigger.AUTHORIZE else None
    if ended and connection.grant.needs_person and found.refresh_token is None and old is None:
        raise OAuthFailure(step, FailureClass.GRANT_DEAD, RAN_OUT)
    return replace(
        found, auth_method=token.auth_method or ClientAuthMethod.NONE, client_secret_id=token.client_secret_id
    )


def _store(
    session: Session, resources: Resources, connection: Connection, token: Token, journal: Refresh, found: TokenReply
) -> None:
    """As `services.engine.settle` stores a reply; one that has run out is due at once."""
    method = token.auth_method
    if journal.trigger is Trigger.AUTHORIZE:
        settle.store_authorization(session, resources.settings, connection, token, journal, found)
        connection.authorized_at = found.received_at  # what was set since then was not there when somebody agreed
        _end_attempt(session, connection, token, journal)
    else:
        sent = token.unseal("refresh_token", keyring_of(session))
        journal.rotated = habits.is_replaced(sent, found.refresh_token)
        token.rotation, token.reuse = habits.learn(
            token.rotation, token.reuse, sent=sent, received=found.refresh_token, failure=None, after_unknown=False
        )
        states.store(session, resources.settings, connection, token, found)
        settle.close_stored(journal, token)
    token.auth_method = method
    journal.failure_class, journal.failure_code, journal.failure_said, journal.failure_reason = None, "", "", ""
    kept_replies.erase(session, connection.id)
    if not token.is_valid(utc_now()) and connection.state is not ConnectionState.PAUSED:
        token.next_refresh_at = utc_now()


def _end_attempt(session: Session, connection: Connection, token: Token, journal: Refresh) -> None:
    """The authorization that had failed for want of this reply has succeeded after all."""
    query = select(AuthorizationAttempt).where(
        AuthorizationAttempt.connection_id == connection.id,
        AuthorizationAttempt.outcome == AttemptOutcome.FAILED,
        AuthorizationAttempt.failure_class == FailureClass.REPLY_UNUSABLE,
        col(AuthorizationAttempt.ended_at) >= journal.sent_at,
    )
    attempt = session.exec(query.order_by(col(AuthorizationAttempt.ended_at)).limit(1)).first()
    if attempt is not None:
        attempts.succeed(attempt, findings.of(connection, token))


def _shown(session: Session, connection: Connection, token: Token, journal: Refresh) -> Kept:
    problem, text, found = "", SecretStr(""), Document()
    try:
        text = journal.unseal("raw_reply", keyring_of(session)) or text
        found = read_document(text.get_secret_value())
        _read(session, connection, token, journal)
    except Undecryptable as damage:
        problem = damage.sentence
    except OAuthFailure as failure:
        problem = str(failure)
    return Kept(
        refresh_id=journal.id,
        consent=journal.trigger is Trigger.AUTHORIZE and connection.grant.needs_person,
        received_at=journal.closed_at or journal.sent_at,
        status=journal.http_status,
        characters=len(text.get_secret_value()),
        what=_what(text.get_secret_value(), found),
        problem=problem,
        tree=None if found.value is None else reply_shapes.tree(found.value),
        suggestions=reply_shapes.suggestions(found.value) if problem else [],
    )


def _what(text: str, found: Document) -> str:
    if found.value is not None:
        return ("a form" if found.is_form else "JSON") + ("" if found.whole else " that breaks off")
    if is_page(text):
        return "a web page, or XML"
    return "text that breaks off, or is neither JSON nor a form" if text.strip() else "nothing"

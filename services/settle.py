"""Closing refreshes: replies stored by compare-and-swap on `generation`, the journal closed in the same commit."""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session

from config import Settings
from models import Connection, Outcome, Refresh, Token, Trigger, User, keyring_of
from models.types import utc_now
from oauth.vocabulary import FailureClass, OAuthFailure, TokenReply
from services import audit, edits, states
from services.leases import Claim


def settle(session: Session, settings: Settings, results: Iterable[tuple[Claim, TokenReply | OAuthFailure]]) -> None:
    """Settle every result in one commit. A connection deleted meanwhile stays deleted."""
    for claim, result in results:
        # Locked in the order in which an edit locks them, the connection first.
        connection = session.get(
            Connection, claim.connection_id, with_for_update=edits.WITHOUT_KEY, populate_existing=True
        )
        token = session.get(Token, claim.token_id, with_for_update=True, populate_existing=True)
        if connection is not None and token is not None:
            _settle_one(session, settings, claim, connection, token, result)
    session.commit()


def _settle_one(
    session: Session,
    settings: Settings,
    claim: Claim,
    connection: Connection,
    token: Token,
    result: TokenReply | OAuthFailure,
) -> None:
    journal = session.get_one(Refresh, claim.refresh_id, populate_existing=True)
    journal.closed_at = utc_now()
    if isinstance(result, OAuthFailure) and (token.lease_owner, connection.version) != (claim.owner, claim.version):
        # Whoever holds the lease now will find out by itself, and so will the settings saved meanwhile.
        close_failed(session, journal, result)
        _release_own(token, claim)
        return
    another_client = claim.client != connection.client
    if token.generation != claim.generation or (another_client and claim.trigger is Trigger.AUTHORIZE):
        # Somebody stored a newer grant, or took this one away: theirs wins and ours is history.
        journal.outcome = Outcome.SUPERSEDED
        _release_own(token, claim)
        return
    if isinstance(result, TokenReply) and claim.trigger is Trigger.AUTHORIZE:
        store_authorization(session, settings, connection, token, journal, result)
    elif isinstance(result, TokenReply) and another_client:
        # Kept for the day that client returns, and used for nothing until then.
        states.keep(session, settings, connection, token, result)
        close_stored(journal, token)
    elif isinstance(result, TokenReply):
        states.store(session, settings, connection, token, result)
        close_stored(journal, token)
    else:
        close_failed(session, journal, result)
        states.fail(session, settings, connection, token, result)


def _release_own(token: Token, claim: Claim) -> None:
    if token.lease_owner == claim.owner:
        states.release(token)


def store_authorization(
    session: Session, settings: Settings, connection: Connection, token: Token, journal: Refresh, reply: TokenReply
) -> None:
    """Keep the token of a new authorization and close its journal row. Does not commit."""
    states.store_new_grant(session, settings, connection, token, reply)
    close_stored(journal, token)
    connection.authorized_by = journal.requested_by
    mark_authorized(connection)
    person = session.get(User, journal.requested_by) if journal.requested_by else None
    actor = audit.Actor.person(person) if person else audit.WORKER
    scope = connection.scope if reply.scope is None else reply.scope
    with audit.aside(session):
        audit.record(session, actor, "connection.authorized", connection, connection.name, scope=scope)


def close_stored(journal: Refresh, token: Token) -> None:
    """The journal's last words on a success."""
    journal.outcome, journal.closed_at = Outcome.STORED, utc_now()
    journal.lifetime, journal.lifetime_rung = token.lifetime, token.lifetime_rung
    journal.raw_reply_sealed = None


def mark_authorized(connection: Connection) -> None:
    """Remember what the present grant was given for."""
    connection.authorized_at = utc_now()
    connection.authorized_client = connection.client
    connection.authorized_fingerprint = connection.fingerprint()


def close_failed(session: Session, journal: Refresh, failure: OAuthFailure) -> None:
    """The journal's last words on a failure; an unusable reply is kept, since it may hold a token."""
    unknown = failure.failure_class is FailureClass.UNKNOWN
    journal.outcome = Outcome.UNKNOWN if unknown else Outcome.FAILED
    journal.http_status = failure.status
    states.note_failure(journal, failure)
    if failure.failure_class is FailureClass.REPLY_UNUSABLE:
        journal.seal("raw_reply", failure.raw, keyring_of(session))

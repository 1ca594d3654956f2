"""Closing refreshes: replies stored by compare-and-swap on `generation`, the journal closed in the same commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

import logs
from config import Settings
from models import Connection, Outcome, Refresh, Token, Trigger, User, keyring_of
from models.database import AWAY, shared_now
from models.types import steady, utc_now
from oauth.vocabulary import FailureClass, OAuthFailure, TokenReply
from services import audit, edits
from services.engine import claims, habits, hosts, states, successes
from services.engine.breakers import Answer
from services.engine.claims import Claim
from services.resources import Resources

log = logs.get(__name__)


Result = tuple[Claim, TokenReply | OAuthFailure]

RETRY_SECONDS = 0.25
MISTAKES = (
    SQLAlchemyError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What one result may run into, of ours or of the database, that says nothing of the others."""
NOT_SENT = "not_sent"
"""Code of a failure that says nothing of the provider's host."""


def persist(resources: Resources, results: Sequence[Result]) -> None:
    """Store results, trying again while the database is away and a lease lasts. Raises what it raises then.

    A reply in hand may hold the only valid refresh token, and it is nowhere but in this process' memory: if the
    process dies too, or the leases end first, the journal rows stay open, and whoever claims next reads "outcome
    unknown". What cannot be stored for another reason does not keep the others from being stored.
    """
    try:
        _persist(resources, results)
    except AWAY:
        raise
    except MISTAKES as problem:
        if len(results) == 1:
            raise
        kind = type(getattr(problem, "orig", None) or problem).__name__
        log.warning("results are stored one by one", results=len(results), problem=kind)
        _one_by_one(resources, results)


def give_back(resources: Resources, unsent: Collection[Claim]) -> None:
    """Return leases under which nothing was sent, trying again as `persist` does. Raises what it raises then."""
    _patiently(resources, unsent, lambda session: claims.give_back(session, unsent))


def _persist(resources: Resources, results: Sequence[Result]) -> None:
    if results:
        _patiently(
            resources, [claim for claim, _ in results], lambda session: settle(session, resources.settings, results)
        )


def _patiently(resources: Resources, held: Collection[Claim], work: Callable[[Session], None]) -> None:
    """Do something in a session of its own, again while the database is away and one of the leases lasts."""
    while True:
        try:
            with resources.database.session(writing=True) as session:
                work(session)
            return
        except AWAY:
            if steady() > max(claim.lease_ends for claim in held):
                raise
            time.sleep(RETRY_SECONDS)


def _one_by_one(resources: Resources, results: Sequence[Result]) -> None:
    problem: BaseException | None = None
    for result in results:
        try:
            _persist(resources, [result])
        except MISTAKES as error:
            problem = error
    if problem is not None:
        raise problem


def settle(session: Session, settings: Settings, results: Sequence[Result]) -> None:
    """Settle every result in one commit. A connection deleted meanwhile stays deleted."""
    try:
        stored = successes.store(session, settings, results)
    except successes.Overtaken:
        session.rollback()
        stored = set()
    others = [(claim, result) for claim, result in results if claim.refresh_id not in stored]
    for claim, result in sorted(others, key=lambda each: each[0].connection_id):
        _settle_with_care(session, settings, claim, result)
    hosts.note(session, settings, utc_now(), [_answer(claim, result) for claim, result in results])
    session.commit()


def _answer(claim: Claim, result: TokenReply | OAuthFailure) -> Answer:
    """What a result says of the provider's host."""
    failure = result if isinstance(result, OAuthFailure) else None
    host = "" if failure is not None and failure.code == NOT_SENT else claim.host
    return Answer(host, failure, claim.connection_id, claim.workspace_id)


def _settle_with_care(session: Session, settings: Settings, claim: Claim, result: TokenReply | OAuthFailure) -> None:
    """Locked in the order in which an edit locks them: the connection first."""
    connection = session.get(Connection, claim.connection_id, with_for_update=edits.WITHOUT_KEY, populate_existing=True)
    token = session.get(Token, claim.token_id, with_for_update=True, populate_existing=True)
    if connection is not None and token is not None:
        _settle_one(session, settings, claim, connection, token, result)


def _settle_one(
    session: Session,
    settings: Settings,
    claim: Claim,
    connection: Connection,
    token: Token,
    result: TokenReply | OAuthFailure,
) -> None:
    journal = session.get_one(Refresh, claim.refresh_id, populate_existing=True)
    if journal.outcome is Outcome.STORED:
        return  # a commit that was made, though its answer was lost
    journal.closed_at = utc_now()
    changed = (token.lease_owner, connection.version) != (claim.owner, claim.version)
    if isinstance(result, OAuthFailure) and changed and not _waits_all_the_same(claim, connection, token, result):
        # Whoever holds the lease now will find out by itself, and so will the settings saved meanwhile.
        close_failed(session, journal, token, result)
        _release_own(token, claim)
        return
    another_client = claim.client != connection.client
    overtaken = token.generation != claim.generation and not _came_after(session, claim, token, journal)
    if overtaken or (another_client and claim.trigger is Trigger.AUTHORIZE):
        # Somebody stored a newer grant, or took this one away: theirs wins and ours is history.
        journal.outcome = Outcome.SUPERSEDED
        _release_own(token, claim)
        return
    if claim.trigger is not Trigger.AUTHORIZE:
        _learn_habits(session, claim, token, journal, result)
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
        close_failed(session, journal, token, result)
        states.fail(session, settings, connection, token, result)


def _came_after(session: Session, claim: Claim, token: Token, journal: Refresh) -> bool:
    """Whether what is stored answers an earlier request with the same refresh token: the provider's last word counts.

    So it goes when a process sleeps past its lease and wakes up before whoever took over has its reply. A provider
    that takes the old token once more may have ended the one it gave first.
    """
    if token.generation != claim.generation + 1 or claim.trigger is Trigger.AUTHORIZE:
        return False
    if token.is_leased(shared_now(session)):
        return False
    query = select(Refresh.id).where(
        Refresh.connection_id == journal.connection_id,
        Refresh.generation == journal.generation,
        Refresh.refresh_token_fingerprint == journal.refresh_token_fingerprint,
        Refresh.refresh_token_fingerprint != "",
        Refresh.outcome == Outcome.STORED,
        Refresh.trigger != Trigger.AUTHORIZE,
        col(Refresh.sent_at) < journal.sent_at,
    )
    return session.exec(query.limit(1)).first() is not None


def _waits_all_the_same(claim: Claim, connection: Connection, token: Token, failure: OAuthFailure) -> bool:
    """Whether a reply that may hold the only valid refresh token came while somebody saved: that spends no token."""
    ours = (token.lease_owner, token.generation, connection.client) == (claim.owner, claim.generation, claim.client)
    return ours and claim.trigger is not Trigger.AUTHORIZE and states.waits_for_a_person(token, failure)


def _learn_habits(
    session: Session, claim: Claim, token: Token, journal: Refresh, result: TokenReply | OAuthFailure
) -> None:
    """Before the row takes the result: what it teaches of the provider's refresh tokens."""
    failure = result if isinstance(result, OAuthFailure) else None
    received = result.refresh_token if isinstance(result, TokenReply) else None
    dead = failure is not None and failure.failure_class is FailureClass.GRANT_DEAD
    troubled = dead or token.failures > 0 or token.interruptions > 0
    token.rotation, token.reuse = habits.learn(
        token.rotation,
        token.reuse,
        sent=claim.refresh_token,
        received=received,
        failure=failure,
        after_unknown=troubled and _was_interrupted(session, journal),
        sent_before=dead and _replaced_was_sent_again(session, token),
    )
    if failure is None:
        journal.rotated = habits.is_replaced(claim.refresh_token, received)


def _was_interrupted(session: Session, journal: Refresh) -> bool:
    """Whether the same token was sent by an earlier request of whose outcome nothing is known."""
    query = select(Refresh.id).where(
        Refresh.connection_id == journal.connection_id,
        Refresh.generation == journal.generation,
        col(Refresh.outcome) == Outcome.UNKNOWN,
        col(Refresh.lease_owner) != states.NO_LEASE,
        col(Refresh.sent_at) < journal.sent_at,
    )
    return session.exec(query.limit(1)).first() is not None


def _replaced_was_sent_again(session: Session, token: Token) -> bool:
    """Whether the refresh token before this one went out once more after the request that was stored, within a day.

    That is the evidence for a provider that ends a grant on reuse: two journal rows with the predecessor's
    fingerprint, the stored one sent first, and then the newest token refused at its very first use. A retry after an
    unknown outcome looks the other way round: there the stored one was sent last.
    """
    lately = utc_now() - timedelta(days=1)
    stored, again = aliased(Refresh), aliased(Refresh)
    query = select(again.id).where(
        stored.connection_id == again.connection_id,
        stored.generation == again.generation,
        stored.refresh_token_fingerprint == again.refresh_token_fingerprint,
        again.connection_id == token.connection_id,
        again.generation == token.generation - 1,
        again.refresh_token_fingerprint != "",
        col(stored.outcome) == Outcome.STORED,
        col(stored.closed_at) > lately,
        col(again.sent_at) > col(stored.sent_at),
    )
    return session.exec(query.limit(1)).first() is not None


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


def close_failed(session: Session, journal: Refresh, token: Token, failure: OAuthFailure) -> None:
    """The journal's last words on a failure; an unusable reply is kept, since it may hold a token."""
    unknown = failure.failure_class is FailureClass.UNKNOWN
    journal.outcome = Outcome.UNKNOWN if unknown else Outcome.FAILED
    journal.http_status = failure.status
    states.conceal(session, token, failure)
    states.note_failure(journal, failure)
    if failure.failure_class is FailureClass.REPLY_UNUSABLE:
        journal.seal("raw_reply", failure.raw, keyring_of(session))

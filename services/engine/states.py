"""What a success or a failure does to a connection: its state, its words, its next due time.

Changes rows it is given; sends nothing and commits nothing.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from sqlmodel import Session, col, select

from config import Settings
from models import AuthorizationAttempt, Connection, ConnectionState, Outcome, Priority, Refresh, Token, keyring_of
from models.types import Undecryptable, utc_now
from oauth.grants import GRANTS
from oauth.scrub import Hidden, star
from oauth.vocabulary import UNDECRYPTABLE, FailureClass, OAuthFailure, Rotation, TokenReply
from services import audit
from services.engine import backoff, breakers, kept_replies, timing
from services.engine.timing import Plan, Timing

NO_LEASE = ""
"""Lease owner of an authorization in the journal: it spends no refresh token, so it waits for nobody."""
INTERRUPTED = (
    "A refresh was interrupted after it had been sent, and the provider no longer accepts the old refresh token. "
    "Authorize again to go on."
)
DEATHS = 3
"""Processes that died in a row while they refreshed a token: then it is left alone but for one try now and then."""
QUARANTINED = (
    "The process that refreshed this connection stopped three times before the outcome was stored, so it is refreshed "
    "only now and then, and alone. Look in the worker's log for what stopped it, then press Refresh now; if the "
    "provider no longer accepts the refresh token, authorize again."
)
FAILING = frozenset({ConnectionState.DEGRADED, ConnectionState.EXPIRED_RETRYING})
"""Refreshes fail and are tried again; the connection's row says why."""
RUN_OUT = "The access token can no longer be used, and the provider gave no refresh token to renew it with."
ENDED_BY = {
    FailureClass.GRANT_DEAD: ConnectionState.REAUTH_REQUIRED,
    FailureClass.CLIENT_BAD: ConnectionState.MISCONFIGURED,
    FailureClass.REQUEST_BAD: ConnectionState.MISCONFIGURED,
    FailureClass.LOCAL: ConnectionState.MISCONFIGURED,
}


def store(session: Session, settings: Settings, connection: Connection, token: Token, reply: TokenReply) -> None:
    """Keep a new token: next generation, lease released, next refresh planned, connection connected."""
    planned = keep(session, settings, connection, token, reply)
    if connection.failure_class is not None:
        kept_replies.erase_refreshes(session, connection.id)
    if connection.state is not ConnectionState.PAUSED:
        token.next_refresh_at, token.priority = planned.due, planned.priority
    connection.clear_failure()
    move(session, connection, ConnectionState.ACTIVE)


def keep(session: Session, settings: Settings, connection: Connection, token: Token, reply: TokenReply) -> Plan:
    """Keep a new token and give the lease back; it is planned for nothing yet. Returns what could be planned."""
    keyring = keyring_of(session)
    token.generation += 1
    token.seal("access_token", reply.access_token, keyring)
    if reply.refresh_token is not None:
        token.seal("refresh_token", reply.refresh_token, keyring)
    token.scope = reply.scope if reply.scope is not None else token.scope
    _note_secret(session, connection, token, reply.client_secret_id)
    changes, planned = news(
        settings,
        Timing.of(connection),
        reply,
        renewable=renewable(connection, token),
        learned=token.learned_lifetime,
    )
    token.sqlmodel_update(changes)
    token.priority, token.next_refresh_at = Priority.SCHEDULED, None
    release(token)
    return planned


def news(
    settings: Settings, timing_of: Timing, reply: TokenReply, *, renewable: bool, learned: float | None
) -> tuple[dict[str, Any], Plan]:
    """What a reply changes of a token, but for generation, secrets, scope, lease and due time; and the plan."""
    now = reply.received_at or utc_now()
    planned = timing.plan(
        settings,
        timing_of,
        lifetime=reply.lifetime,
        rung=reply.lifetime_rung,
        received_at=now,
        renewable=renewable,
        learned=learned,
    )
    changes = {
        "token_type": reply.token_type,
        "auth_method": reply.auth_method,
        "received_at": now,
        "expires_at": planned.expires_at,
        "lifetime_rung": planned.rung,
        "introspection_due": planned.introspect,
        "introspection_problem": "",
        "failures": 0,
        "interruptions": 0,
        "held": False,
    }
    return changes, planned


def store_new_grant(
    session: Session, settings: Settings, connection: Connection, token: Token, reply: TokenReply
) -> None:
    """Keep the first token of a new authorization: nothing of the grant before it stays."""
    token.refresh_token_sealed = token.scope = None
    kept_replies.erase(session, connection.id)
    store(session, settings, connection, token, reply)


def reschedule(settings: Settings, connection: Connection, token: Token) -> None:
    """Plan a token anew whose end is known already, as if it had just come."""
    received_at = token.received_at or utc_now()
    planned = timing.schedule(
        settings, Timing.of(connection), token.expires_at, received_at, renewable(connection, token)
    )
    token.next_refresh_at, token.priority = planned.due, planned.priority


def renewable(connection: Connection, token: Token) -> bool:
    """Whether a refresh has what it needs: a refresh token, or a flow that asks afresh each time."""
    return not GRANTS[connection.grant_type].needs_person or token.refresh_token_sealed is not None


def fail(session: Session, settings: Settings, connection: Connection, token: Token, failure: OAuthFailure) -> None:
    """Give a failure its one effect: end, or try again later."""
    release(token)
    token.interruptions = 0  # its process lived to tell
    token.failures = backoff.count(token.failures, connection.failure_class, failure)
    note_failure(connection, failure)
    ended = ENDED_BY.get(failure.failure_class)
    if waits_for_a_person(token, failure):
        ended = ConnectionState.MISCONFIGURED
    if ended is ConnectionState.REAUTH_REQUIRED and interrupted(session, token):
        connection.failure_reason = INTERRUPTED
    if ended is not None:
        token.next_refresh_at = None
        move(session, connection, ended, failure.failure_class)
        return
    token.priority = Priority.SCHEDULED
    if token.access_token_sealed is None:
        # A first authorization that failed is a person's to repeat, not the scheduler's.
        token.next_refresh_at = None
        move(session, connection, ConnectionState.CONFIGURED, failure.failure_class)
        return
    token.next_refresh_at = utc_now() + timedelta(seconds=backoff.wait(settings, token.failures, failure))
    token.held = failure.failure_class in breakers.DOWN
    if connection.state is ConnectionState.PAUSED:
        token.next_refresh_at, token.held = None, False
    fine = (connection.paused_from or connection.state) is ConnectionState.ACTIVE and token.is_valid(utc_now())
    if fine and failure.failure_class is FailureClass.THROTTLED:
        return
    move(session, connection, until_tried(connection, token), failure.failure_class)


def waits_for_a_person(token: Token, failure: OAuthFailure) -> bool:
    """Whether trying again could do harm: the provider acted, and its reply may hold the only valid refresh token.

    Sending the old one again ends the grant with some providers (RFC 9700 §4.14.2). Where there is none, or refresh
    tokens are known to stay and the reply names no new one, trying again costs nothing.
    """
    if token.refresh_token_sealed is None or failure.failure_class is not FailureClass.REPLY_UNUSABLE:
        return False
    return failure.brings_refresh_token or (failure.may_hold_token and token.rotation is not Rotation.NEVER)


def _note_secret(session: Session, connection: Connection, token: Token, secret_id: uuid.UUID | None) -> None:
    """Remember which client secret worked; told in the audit trail when it is another one than before."""
    before, token.client_secret_id = token.client_secret_id, secret_id
    if before is not None and secret_id is not None and before != secret_id:
        with audit.aside(session):
            audit.record(session, audit.WORKER, "connection.secret_worked", connection, connection.name)


def run_out(session: Session, connection: Connection, token: Token, *, refused: bool) -> None:
    """Nothing can renew the token: once it has run out, or its API has `refused` it, only a person can help."""
    release(token)
    token.priority, token.next_refresh_at = Priority.SCHEDULED, None
    if token.is_valid(utc_now()) and not refused:
        token.next_refresh_at = token.expires_at
        return
    note_failure(connection, OAuthFailure("refresh", FailureClass.GRANT_DEAD, RUN_OUT, code="no_refresh_token"))
    move(session, connection, ConnectionState.REAUTH_REQUIRED, FailureClass.GRANT_DEAD)


def quarantine(session: Session, settings: Settings, connection: Connection, token: Token) -> None:
    """Refreshing this token may be what kills the process: the next try is far off, and made apart from others."""
    release(token)
    token.priority, token.next_refresh_at = Priority.SCHEDULED, utc_now() + timedelta(seconds=settings.retry_longest)
    note_failure(connection, OAuthFailure("refresh", FailureClass.UNKNOWN, QUARANTINED, code="process_stopped"))
    move(session, connection, until_tried(connection, token), FailureClass.UNKNOWN)


def fail_closed(session: Session, connection: Connection, token: Token, problem: Undecryptable) -> None:
    """A stored secret cannot be decrypted: nothing is sent for this connection until an admin acts."""
    release(token)
    note_failure(connection, unreadable(problem))
    token.next_refresh_at = None
    move(session, connection, ConnectionState.MISCONFIGURED, FailureClass.LOCAL)


def unreadable(problem: Undecryptable) -> OAuthFailure:
    """A refresh that was not sent, since a secret it needs cannot be decrypted."""
    return OAuthFailure("refresh", FailureClass.LOCAL, problem.sentence, code=UNDECRYPTABLE)


def note_failure(row: Connection | Refresh | AuthorizationAttempt, failure: OAuthFailure) -> None:
    """Write a failure's words to a row that shows them."""
    row.failure_class = failure.failure_class
    row.failure_code = failure.code
    row.failure_said = failure.provider_said
    row.failure_reason = str(failure)
    if not isinstance(row, Refresh):
        row.failure_step = failure.step
    if isinstance(row, Connection):
        row.failed_at = utc_now()


def conceal(session: Session, token: Token, failure: OAuthFailure) -> None:
    """Star the stored tokens in a failure's words, before they are written anywhere.

    What was sent is starred already; these are read here and not with every claim, since only a failure tells anything.
    Of a token that cannot be read nobody knows where it stands, so then the provider's words are left out.
    """
    if not failure.provider_said and not failure.code:
        return
    keyring = keyring_of(session)
    try:
        hidden = Hidden((token.unseal("access_token", keyring), token.unseal("refresh_token", keyring)))
    except Undecryptable:
        failure.provider_said = ""
        return
    failure.provider_said, failure.code = star(failure.provider_said, hidden), star(failure.code, hidden)
    failure.args = (star(str(failure), hidden),)


def failure_of(connection: Connection) -> OAuthFailure | None:
    """The failure a connection rests or waits on, as it was noted; None when there is none."""
    if connection.failure_class is None:
        return None
    return OAuthFailure(
        connection.failure_step,
        connection.failure_class,
        connection.failure_reason,
        code=connection.failure_code,
        provider_said=connection.failure_said,
    )


def move(session: Session, connection: Connection, state: ConnectionState, why: FailureClass | None = None) -> None:
    """Change the state, with an audit entry; nothing when it is the state already.

    What is paused stays so, whatever comes of what was under way: it is resumed to that.
    """
    if connection.state is ConnectionState.PAUSED:
        connection.paused_from = state
        return
    if connection.state is state:
        return
    detail = {"from": connection.state.shown, "to": state.shown}
    if why is not None:
        detail["reason"] = why.value
    connection.state = state
    with audit.aside(session):
        audit.record(session, audit.WORKER, "connection.state_changed", connection, connection.name, **detail)


def until_tried(connection: Connection, token: Token) -> ConnectionState:
    """How a connection stands that is tried next: failing as long as a failure is on record, and never without one."""
    if connection.failure_class is None:
        return ConnectionState.ACTIVE
    return ConnectionState.DEGRADED if token.is_valid(utc_now()) else ConnectionState.EXPIRED_RETRYING


def release(token: Token) -> None:
    """Give the lease back."""
    token.lease_owner = token.lease_until = None


def interrupted(session: Session, token: Token) -> bool:
    """Whether the outcome of a refresh of the present generation is unknown."""
    query = select(Refresh.id).where(
        Refresh.connection_id == token.connection_id,
        Refresh.generation == token.generation,
        col(Refresh.outcome) == Outcome.UNKNOWN,
        col(Refresh.lease_owner) != NO_LEASE,
    )
    return session.exec(query.limit(1)).first() is not None

"""The rows of authorization attempts: what they keep for the callback, who may claim them, how they end.

Commits nothing.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import CursorResult, update
from sqlmodel import Session, col, select

from models import AttemptOutcome, AuthorizationAttempt, Connection, User
from models.authorization_attempt import CHECKS, STOPPED, TOKEN_REQUEST, WITHDRAWN
from models.types import Keyring, utc_now
from oauth.vocabulary import FailureClass, OAuthFailure
from services import audit
from services.engine import states
from services.people.links import digest

DISCONNECTED = "The connection was disconnected before the provider's answer was used, so that is not kept."
STATE_BYTES = 24
"""Entropy of `state`: 192 bits, 32 characters; at least 128 are asked for (RFC 9700 §4.7)."""


def new_state() -> str:
    """A `state` nobody can guess."""
    return secrets.token_urlsafe(STATE_BYTES)


def keep_state(attempt: AuthorizationAttempt, keyring: Keyring, state: str, data: Mapping[str, Any]) -> None:
    """Bind `state` to the attempt with what Authlib wants back at the callback."""
    attempt.state_hash = digest(state)
    attempt.seal("state_data", SecretStr(json.dumps(dict(data))), keyring)


def has_state(attempt: AuthorizationAttempt, state: str) -> bool:
    """Whether `state` is the attempt's."""
    return attempt.state_hash == digest(state)


def read_state(attempt: AuthorizationAttempt, keyring: Keyring) -> dict[str, Any] | None:
    """What was kept for the callback; None once it was used. Raises Undecryptable."""
    kept = attempt.unseal("state_data", keyring)
    return None if kept is None else dict(json.loads(kept.get_secret_value()))


def by_state(session: Session, state: str) -> AuthorizationAttempt | None:
    """The attempt that `state` belongs to."""
    return session.exec(select(AuthorizationAttempt).where(AuthorizationAttempt.state_hash == digest(state))).first()


def claim(session: Session, attempt: AuthorizationAttempt, seconds: float) -> bool:
    """Use the attempt up: one conditional UPDATE, so that of any number of callbacks one gets it.

    What was kept for the callback is erased from the row; `attempt` itself, in memory, still has it. Whoever finds it
    open after so many `seconds` knows that its process has died.
    """
    now = utc_now()
    statement = (
        update(AuthorizationAttempt)
        .where(
            col(AuthorizationAttempt.id) == attempt.id,
            col(AuthorizationAttempt.used_at).is_(None),
            col(AuthorizationAttempt.outcome) == AttemptOutcome.PENDING,
            col(AuthorizationAttempt.expires_at) > now,
        )
        .values(used_at=now, expires_at=now + timedelta(seconds=seconds), state_data_sealed=None, callback_sealed=None)
        .execution_options(synchronize_session=False)
    )
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount == 1


def use(attempt: AuthorizationAttempt, seconds: float) -> None:
    """The same for an attempt that waits for nobody."""
    attempt.used_at = utc_now()
    attempt.expires_at = attempt.used_at + timedelta(seconds=seconds)


def succeed(attempt: AuthorizationAttempt, finding: str = "") -> None:
    """It ended with a token; `finding` is what to know all the same. That it seemed interrupted before is over."""
    attempt.outcome, attempt.ended_at, attempt.finding = AttemptOutcome.SUCCEEDED, utc_now(), finding
    attempt.failure_step = attempt.failure_code = attempt.failure_said = attempt.failure_reason = ""
    attempt.failure_class = None


def is_open(attempt: AuthorizationAttempt) -> bool:
    """Whether a reply may still be stored: also one that comes after its process was taken for dead."""
    return attempt.outcome is AttemptOutcome.PENDING or attempt.failure_code == STOPPED


def fail(
    session: Session,
    attempt: AuthorizationAttempt,
    connection: Connection,
    failure: OAuthFailure,
    outcome: AttemptOutcome = AttemptOutcome.FAILED,
) -> None:
    """It ended without a token: words for the page, an entry for the audit trail."""
    _end(session, attempt, failure, outcome)
    detail = {"step": failure.step, "reason": str(failure)} | ({"code": failure.code} if failure.code else {})
    actor = audit.Actor.person(session.get_one(User, attempt.user_id))
    audit.record(session, actor, "connection.authorization_failed", connection, connection.name, **detail)


def withdraw(
    session: Session, connection: Connection, words: str, *, code: str = WITHDRAWN, under_way: bool = True
) -> dict[str, int]:
    """End every attempt that is still open: whatever its callback brings comes too late.

    `under_way`: those too whose token request has been sent, which then stores nothing. Returns what the audit entry
    of whatever ends them says of it.
    """
    failure = OAuthFailure(CHECKS, FailureClass.LOCAL, words, code=code)
    used = col(AuthorizationAttempt.used_at).is_not(None)
    waits = ~used & (col(AuthorizationAttempt.expires_at) > utc_now())
    pending = select(AuthorizationAttempt).where(
        AuthorizationAttempt.connection_id == connection.id,
        col(AuthorizationAttempt.outcome) == AttemptOutcome.PENDING,
        used | waits if under_way else waits,
    )
    found = session.exec(pending.with_for_update().execution_options(populate_existing=True)).all()
    for attempt in found:
        _end(session, attempt, failure, AttemptOutcome.FAILED)
    return {"withdrawn": len(found)} if found else {}


def close_interrupted(session: Session, connection_id: uuid.UUID | None = None) -> int:
    """End attempts whose process died during the token request, of one connection or all; returns how many.

    What somebody is ending at this moment is left to them. A reply that comes all the same is stored.
    """
    late = select(AuthorizationAttempt, Connection).join(
        Connection, col(Connection.id) == AuthorizationAttempt.connection_id
    )
    late = late.where(
        col(AuthorizationAttempt.outcome) == AttemptOutcome.PENDING,
        col(AuthorizationAttempt.used_at).is_not(None),
        col(AuthorizationAttempt.expires_at) <= utc_now(),
    )
    if connection_id is not None:
        late = late.where(col(AuthorizationAttempt.connection_id) == connection_id)
    found = session.exec(late.with_for_update(of=AuthorizationAttempt, skip_locked=True)).all()
    for attempt, connection in found:
        failure = OAuthFailure(TOKEN_REQUEST, FailureClass.UNKNOWN, attempt.stopped_words, code=STOPPED)
        fail(session, attempt, connection, failure)
    return len(found)


def erase_abandoned(session: Session, connection_id: uuid.UUID) -> None:
    """Erase what attempts of a connection kept for a callback that did not come in time."""
    late = update(AuthorizationAttempt).where(
        col(AuthorizationAttempt.connection_id) == connection_id, col(AuthorizationAttempt.expires_at) <= utc_now()
    )
    session.execute(
        late.values(state_data_sealed=None, callback_sealed=None).execution_options(synchronize_session=False)
    )


def _end(session: Session, attempt: AuthorizationAttempt, failure: OAuthFailure, outcome: AttemptOutcome) -> None:
    now = utc_now()
    attempt.outcome, attempt.ended_at, attempt.used_at = outcome, now, attempt.used_at or now
    attempt.state_data_sealed = attempt.callback_sealed = None
    states.note_failure(attempt, failure)
    session.add(attempt)

"""Sweeping up what has had its day: rows that nothing will read again. Everything here may run twice at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CursorResult, delete, or_, update
from sqlmodel import Session, SQLModel, col, select

from config import Settings
from models import (
    AuthorizationAttempt,
    BulkRefresh,
    CardPreview,
    Heartbeat,
    Refresh,
    SingleUseLink,
    Token,
    UserSession,
)
from models.refresh import OPEN
from models.types import utc_now
from services.authorizing import exchanges
from services.engine import claims
from services.engine.clock import SKEW
from services.engine.kept_replies import erase_old
from services.engine.states import NO_LEASE

REMEMBERED = timedelta(days=1)
"""How long what is over, an attempt, a link, a process, can still be told from what never was."""
PREVIEWS = timedelta(minutes=10)
BULKS = timedelta(days=7)


def _ago(seconds: float) -> datetime:
    return utc_now() - timedelta(seconds=seconds)


def attempts(session: Session, _settings: Settings) -> int:
    """Forget presses of Authorize that ended or ran out a day ago. Commits; returns how many."""
    return _sweep(session, AuthorizationAttempt, col(AuthorizationAttempt.expires_at) < utc_now() - REMEMBERED)


def links(session: Session, _settings: Settings) -> int:
    """Forget single-use links that were used or ran out a day ago. Commits; returns how many."""
    long_ago = utc_now() - REMEMBERED
    over = or_(col(SingleUseLink.used_at) < long_ago, col(SingleUseLink.expires_at) < long_ago)
    return _sweep(session, SingleUseLink, over)


def sessions(session: Session, settings: Settings) -> int:
    """Forget sign-ins that ended. Commits; returns how many."""
    over = or_(
        col(UserSession.revoked_at).is_not(None),
        col(UserSession.seen_at) < _ago(settings.session_idle),
        col(UserSession.created_at) < _ago(settings.session_longest),
    )
    return _sweep(session, UserSession, over)


def previews(session: Session, _settings: Settings) -> int:
    """Delete rendered cards, which hold what an API said about a customer. Commits; returns how many."""
    return _sweep(session, CardPreview, col(CardPreview.created_at) < utc_now() - PREVIEWS)


def bulk_refreshes(session: Session, _settings: Settings) -> int:
    """Forget bulk refreshes nobody follows any more. Commits; returns how many."""
    return _sweep(session, BulkRefresh, col(BulkRefresh.created_at) < utc_now() - BULKS)


def kept_replies(session: Session, settings: Settings) -> int:
    """Erase replies that nobody could use and nobody wanted. Commits; returns how many."""
    gone = erase_old(session, settings)
    session.commit()
    return gone


def unanswered(session: Session, settings: Settings) -> int:
    """Close requests whose process died, where nobody claims again and finds them so. Commits; returns how many.

    Such are exchanges of a code, and what was sent before the grant was taken away. Where the token is still leased by
    that process, whoever claims it next does that. A reply that comes later all the same finds another generation, as
    ever; the reply to an exchange is stored.
    """
    exchanged = exchanges.close_abandoned(session, settings.lease)
    leased = select(Token.id).where(
        Token.connection_id == Refresh.connection_id, Token.lease_owner == Refresh.lease_owner
    )
    statement = (
        update(Refresh)
        .where(
            OPEN,
            col(Refresh.lease_owner) != NO_LEASE,
            col(Refresh.sent_at) < _ago(settings.lease + SKEW),
            ~leased.exists(),
        )
        .values(claims.interrupted(utc_now()))
    )
    result = session.execute(statement.execution_options(synchronize_session=False))
    session.commit()
    assert isinstance(result, CursorResult)
    return result.rowcount + exchanged


def heartbeats(session: Session, _settings: Settings) -> int:
    """Forget processes that ended without a word long ago. Commits; returns how many."""
    return _sweep(session, Heartbeat, col(Heartbeat.seen_at) < utc_now() - REMEMBERED)


def _sweep(session: Session, table: type[SQLModel], over: ColumnElement[bool]) -> int:
    result = session.execute(delete(table).where(over).execution_options(synchronize_session=False))
    session.commit()
    assert isinstance(result, CursorResult)
    return result.rowcount

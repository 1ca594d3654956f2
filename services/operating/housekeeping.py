"""Sweeping up what has had its day: rows that nothing will read again. Everything here may run twice at once."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CursorResult, delete, or_
from sqlmodel import Session, SQLModel, col

from config import Settings
from models import (
    AuthorizationAttempt,
    BulkRefresh,
    CardPreview,
    Heartbeat,
    SingleUseLink,
    UserSession,
)
from models.types import utc_now
from services.engine.kept_replies import erase_old

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


def heartbeats(session: Session, _settings: Settings) -> int:
    """Forget processes that ended without a word long ago. Commits; returns how many."""
    return _sweep(session, Heartbeat, col(Heartbeat.seen_at) < utc_now() - REMEMBERED)


def _sweep(session: Session, table: type[SQLModel], over: ColumnElement[bool]) -> int:
    result = session.execute(delete(table).where(over).execution_options(synchronize_session=False))
    session.commit()
    assert isinstance(result, CursorResult)
    return result.rowcount

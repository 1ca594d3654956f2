"""Replies that could not be used, kept encrypted on their journal rows: the only valid refresh token may be in one.

Finding and erasing them; using one is in `services.setup.replays`. Commits nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, CursorResult, or_, update
from sqlmodel import Session, col, select

from config import Settings
from models import Connection, Refresh, Slot, Token, Trigger
from models.types import utc_now

SHOWN = 3


def of(session: Session, connection: Connection, token: Token) -> Sequence[Refresh]:
    """The kept replies that could still be used, newest first: to the present refresh token, and to a consent."""
    query = select(Refresh).where(
        Refresh.workspace_id == connection.workspace_id,
        Refresh.connection_id == connection.id,
        col(Refresh.raw_reply_sealed).is_not(None),
        or_(col(Refresh.trigger) == Trigger.AUTHORIZE, col(Refresh.generation) == token.generation),
    )
    return session.exec(query.order_by(col(Refresh.sent_at).desc()).limit(SHOWN)).all()


def erase(session: Session, connection_id: uuid.UUID) -> None:
    """Erase every kept reply of a connection: its grant is gone, or there is a new one (SS-07)."""
    _erase(session, col(Refresh.connection_id) == connection_id)


def erase_refreshes(session: Session, connection_id: uuid.UUID) -> None:
    """Erase replies to refreshes, once a newer token is stored; what a consent brought stays."""
    mine = col(Refresh.connection_id) == connection_id
    _erase(session, mine & (col(Refresh.trigger) != Trigger.AUTHORIZE))


def erase_consents(session: Session, connection_id: uuid.UUID) -> None:
    """Erase replies to consents, once what was agreed to is no longer what is configured."""
    mine = col(Refresh.connection_id) == connection_id
    _erase(session, mine & (col(Refresh.trigger) == Trigger.AUTHORIZE))


def erase_old(session: Session, settings: Settings) -> int:
    """Erase what nobody wanted for as long as failures are kept, and what a newer token made useless; says how many.

    The latter are erased with the newer token as a rule; an edit in between may have hidden that there are any.
    """
    old = col(Refresh.sent_at) < utc_now() - timedelta(days=settings.journal_failures_days)
    now = select(Token.generation).where(Token.connection_id == Refresh.connection_id, Token.slot == Slot.CURRENT)
    spent = (col(Refresh.trigger) != Trigger.AUTHORIZE) & (col(Refresh.generation) < now.scalar_subquery())
    return _erase(session, or_(old, spent))


def _erase(session: Session, which: ColumnElement[bool]) -> int:
    statement = update(Refresh).where(which, col(Refresh.raw_reply_sealed).is_not(None)).values(raw_reply_sealed=None)
    result = session.execute(statement.execution_options(synchronize_session=False))
    assert isinstance(result, CursorResult)
    return result.rowcount

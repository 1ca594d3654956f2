"""A person's own account: time zone, password, and the sessions that are signed in. Others' accounts: members."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from zoneinfo import available_timezones

from sqlalchemy import update
from sqlmodel import Session, col, select

from config import Settings
from models import User, UserSession
from models.types import utc_now
from services import audit
from services.audit import Actor
from services.errors import InvalidInput, NotFound
from services.people import passwords


def save_time_zone(session: Session, user: User, name: str) -> None:
    """Show times in that zone from now on; empty follows the browser. Commits. Raises InvalidInput."""
    if name and name not in available_timezones():
        raise InvalidInput({"time_zone": "Choose one of the list."})
    user.time_zone = name
    session.add(user)
    session.commit()


def change_password(session: Session, user: User, present: str, new: str, keep: uuid.UUID) -> None:
    """Change one's own password; every session but `keep` ends. Commits. Raises InvalidInput."""
    errors = {}
    if not passwords.matches(user.password_hash, present):
        errors["present"] = "This is not your present password."
    weakness = passwords.weakness(new, user.email)
    if weakness:
        errors["password"] = weakness
    if errors:
        raise InvalidInput(errors)
    user.password_hash = passwords.hash_password(new)
    session.add(user)
    _end_others(session, user.id, keep)
    audit.record_for(session, Actor.person(user), "user.password_changed", None)
    session.commit()


def sessions_of(session: Session, settings: Settings, user_id: uuid.UUID) -> Sequence[UserSession]:
    """Sessions that still work, the one used last first."""
    now = utc_now()
    query = select(UserSession).where(
        UserSession.user_id == user_id,
        col(UserSession.revoked_at).is_(None),
        col(UserSession.seen_at) > now - timedelta(seconds=settings.session_idle),
        col(UserSession.created_at) > now - timedelta(seconds=settings.session_longest),
    )
    return session.exec(query.order_by(col(UserSession.seen_at).desc(), col(UserSession.id))).all()


def end_session(session: Session, user: User, session_id: uuid.UUID) -> None:
    """End one of one's own sessions. Commits. Raises NotFound."""
    row = session.get(UserSession, session_id)
    if row is None or row.user_id != user.id:
        raise NotFound("There is no such session.")
    row.revoked_at = row.revoked_at or utc_now()
    session.add(row)
    audit.record_for(session, Actor.person(user), "user.sessions_ended", None)
    session.commit()


def end_other_sessions(session: Session, user: User, keep: uuid.UUID) -> None:
    """End every session of the person but `keep`. Commits."""
    _end_others(session, user.id, keep)
    audit.record_for(session, Actor.person(user), "user.sessions_ended", None)
    session.commit()


def _end_others(session: Session, user_id: uuid.UUID, keep: uuid.UUID) -> None:
    statement = update(UserSession).where(
        col(UserSession.user_id) == user_id, col(UserSession.id) != keep, col(UserSession.revoked_at).is_(None)
    )
    session.execute(statement.values(revoked_at=utc_now()).execution_options(synchronize_session=False))

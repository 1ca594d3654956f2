"""Signing in and out: server-side sessions that end at once when they are revoked."""

from __future__ import annotations

import secrets
import uuid
from datetime import timedelta

from sqlalchemy import update
from sqlmodel import Session, col, select

from config import Settings
from models import Membership, User, UserSession, Workspace
from models.types import utc_now
from services import audit
from services.errors import Refused
from services.people import passwords
from services.people.links import digest

SEEN_EVERY = timedelta(minutes=5)


class WrongPassword(Refused):
    """One answer for an unknown person and a wrong password."""

    def __init__(self) -> None:
        """Fixed words."""
        super().__init__("E-mail or password is wrong.")


def normal_email(email: str) -> str:
    """The form in which e-mail addresses are stored and compared."""
    return email.strip().lower()


def sign_in(session: Session, email: str, password: str, browser: str) -> tuple[User, str]:
    """Check a password and open a session; returns the person and the session's token. Commits.

    Raises WrongPassword after the same work whether or not the person exists.
    """
    user = session.exec(select(User).where(User.email == normal_email(email))).one_or_none()
    if not passwords.matches(user.password_hash if user else None, password) or user is None:
        audit.record_for(session, audit.Actor(None, normal_email(email)[:254]), "sign_in.refused", None)
        session.commit()
        raise WrongPassword
    if passwords.needs_new_hash(user.password_hash):
        user.password_hash = passwords.hash_password(password)
    token = open_session(session, user, browser)
    session.commit()
    return user, token


def open_session(session: Session, user: User, browser: str) -> str:
    """Add a session for a person who has proven who they are; returns its token. Does not commit."""
    token = secrets.token_urlsafe(32)
    first = session.exec(
        select(Workspace.id).join(Membership).where(Membership.user_id == user.id).order_by(Workspace.name).limit(1)
    ).first()
    session.add(UserSession(user_id=user.id, token_hash=digest(token), workspace_id=first, browser=browser[:200]))
    audit.record_for(session, audit.Actor.person(user), "sign_in.succeeded", None)
    return token


def current(session: Session, settings: Settings, token: str) -> tuple[User, UserSession] | None:
    """Who a session token belongs to; None when it ended, idled out or never was."""
    row = session.exec(select(UserSession).where(UserSession.token_hash == digest(token))).one_or_none()
    now = utc_now()
    if row is None or row.revoked_at is not None:
        return None
    if now - row.seen_at > timedelta(seconds=settings.session_idle):
        return None
    if now - row.created_at > timedelta(seconds=settings.session_longest):
        return None
    return session.get_one(User, row.user_id), row


def seen(session: Session, session_id: uuid.UUID) -> None:
    """Remember that a sign-in session is in use; the caller asks once in `SEEN_EVERY` at the most. Commits."""
    statement = update(UserSession).where(col(UserSession.id) == session_id).values(seen_at=utc_now())
    session.execute(statement.execution_options(synchronize_session=False))
    session.commit()


def sign_out(session: Session, token: str) -> None:
    """End the session. Commits."""
    statement = update(UserSession).where(col(UserSession.token_hash) == digest(token)).values(revoked_at=utc_now())
    session.execute(statement.execution_options(synchronize_session=False))
    session.commit()


def end_all(session: Session, user_id: uuid.UUID) -> None:
    """End every session of a person. Does not commit."""
    statement = update(UserSession).where(col(UserSession.user_id) == user_id, col(UserSession.revoked_at).is_(None))
    session.execute(statement.values(revoked_at=utc_now()).execution_options(synchronize_session=False))


def choose_workspace(session: Session, row: UserSession, workspace_id: uuid.UUID) -> None:
    """Show that workspace's lists from now on; the caller has checked the membership. Commits."""
    row.workspace_id = workspace_id
    session.add(row)
    session.commit()

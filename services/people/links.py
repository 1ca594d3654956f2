"""Single-use links: set up the installation, accept an invitation, choose a new password."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from datetime import timedelta

from sqlalchemy import ColumnElement, CursorResult, update
from sqlmodel import Session, col, select

from config import Settings
from models import LinkPurpose, Role, SingleUseLink, User
from models.types import utc_now
from services.errors import Refused


class LinkSpent(Refused):
    """Used, expired or never made; which of them is nobody's business."""

    def __init__(self) -> None:
        """Fixed words."""
        super().__init__("This link has been used already, or it has expired. Ask for a new one.")


def digest(token: str) -> str:
    """What is kept of a random token: SHA-256 in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def make(
    session: Session,
    settings: Settings,
    purpose: LinkPurpose,
    *,
    workspace_id: uuid.UUID | None = None,
    user_id: uuid.UUID | None = None,
    email: str = "",
    role: Role | None = None,
    created_by: uuid.UUID | None = None,
) -> str:
    """Add a link and return its token, the only time it can be read. Does not commit."""
    token = secrets.token_urlsafe(32)
    session.add(
        SingleUseLink(
            purpose=purpose,
            token_hash=digest(token),
            workspace_id=workspace_id,
            user_id=user_id,
            email=email,
            role=role,
            created_by=created_by,
            expires_at=utc_now() + timedelta(seconds=settings.link_ttl),
        )
    )
    return token


def find(session: Session, purpose: LinkPurpose, token: str) -> SingleUseLink:
    """The link, still good. Raises LinkSpent."""
    query = select(SingleUseLink).where(SingleUseLink.token_hash == digest(token), SingleUseLink.purpose == purpose)
    link = session.exec(query).one_or_none()
    if link is None or link.used_at is not None or link.expires_at is None or link.expires_at < utc_now():
        raise LinkSpent
    return link


def spend(session: Session, link: SingleUseLink) -> None:
    """Use the link up: one conditional UPDATE, so that two people at once cannot. Raises LinkSpent."""
    statement = (
        update(SingleUseLink)
        .where(col(SingleUseLink.id) == link.id, col(SingleUseLink.used_at).is_(None))
        .values(used_at=utc_now())
        .execution_options(synchronize_session=False)
    )
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    if result.rowcount != 1:
        raise LinkSpent


def end(session: Session, purpose: LinkPurpose, *which: ColumnElement[bool]) -> None:
    """Use up every open link of a purpose, or those of them that `which` says. Does not commit."""
    statement = update(SingleUseLink).where(
        col(SingleUseLink.purpose) == purpose, col(SingleUseLink.used_at).is_(None), *which
    )
    session.execute(statement.values(used_at=utc_now()).execution_options(synchronize_session=False))


def setup_token(session: Session, settings: Settings) -> str | None:
    """A fresh set-up link's token while no user exists, else None. Earlier ones stop working. Commits."""
    if session.exec(select(User.id).limit(1)).first() is not None:
        return None
    end(session, LinkPurpose.SETUP)
    token = make(session, settings, LinkPurpose.SETUP)
    session.commit()
    return token

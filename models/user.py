"""People: who they are, their sign-in sessions, and the single-use links that let them in."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlmodel import Field, UniqueConstraint

from models.database import Record, moment, now_column
from models.types import Words
from models.workspace import Role


class User(Record, table=True):
    """A person; may belong to several workspaces."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("email"),)

    email: str = Field(max_length=254)
    """Lower case: the sign-in name."""
    password_hash: str = Field(max_length=200)
    """argon2id, with its parameters."""
    time_zone: str = Field(default="", max_length=64)
    """IANA name for times shown to this person; empty follows the browser."""
    is_owner: bool = False
    """Owner of the installation: all queues, new workspaces."""
    created_at: datetime = now_column()


class UserSession(Record, table=True):
    """One sign-in in one browser; deleting or revoking the row ends it at once."""

    __tablename__ = "user_sessions"

    user_id: uuid.UUID = Field(foreign_key="users.id", index=True)
    token_hash: str = Field(max_length=64, unique=True)
    """SHA-256 of the random id in the cookie."""
    workspace_id: uuid.UUID | None = Field(default=None, foreign_key="workspaces.id")
    """The workspace whose lists are shown; it grants nothing."""
    browser: str = Field(default="", max_length=200)
    created_at: datetime = now_column()
    seen_at: datetime = now_column()
    revoked_at: datetime | None = moment()


class LinkPurpose(StrEnum):
    """What a single-use link lets its holder do."""

    SETUP = "setup"
    INVITATION = "invitation"
    PASSWORD = "password"


class SingleUseLink(Record, table=True):
    """A link sent to somebody; only its hash is kept."""

    __tablename__ = "single_use_links"

    purpose: LinkPurpose = Field(sa_type=Words(LinkPurpose))
    token_hash: str = Field(max_length=64, unique=True)
    workspace_id: uuid.UUID | None = Field(default=None, foreign_key="workspaces.id", index=True)
    """Workspace an invitation is for."""
    user_id: uuid.UUID | None = Field(default=None, foreign_key="users.id", index=True)
    """Person whose password is reset."""
    email: str = Field(default="", max_length=254)
    role: Role | None = Field(default=None, sa_type=Words(Role))
    created_by: uuid.UUID | None = Field(default=None, foreign_key="users.id")
    created_at: datetime = now_column()
    expires_at: datetime | None = moment()
    used_at: datetime | None = moment()

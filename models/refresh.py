"""The journal of refreshes, and bulk refreshes asked for by operators."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from enum import StrEnum

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from models.database import Record, Sealing, moment, now_column
from models.types import Words
from oauth.vocabulary import FailureClass, LifetimeRung


class Trigger(StrEnum):
    """Who asked for a token request."""

    AUTHORIZE = "authorize"
    AGENT_FACING = "agent_facing"
    MANUAL = "manual"
    SCHEDULED = "scheduled"
    KEEP_ALIVE = "keep_alive"


class Outcome(StrEnum):
    """How a token request ended."""

    SENT = "sent"
    STORED = "stored"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPERSEDED = "superseded"


OPEN = text(f"outcome = '{Outcome.SENT.value}'")
"""Of the few requests under way, in the words of their index: a parameter in its place would pass the index by."""
KEPT = text("raw_reply_sealed IS NOT NULL")
"""Of the few rows that keep a reply."""


class Refresh(Record, Sealing, table=True):
    """One token request: written before it leaves, closed in the commit that stores its reply."""

    __tablename__ = "refreshes"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"], ["connections.workspace_id", "connections.id"], ondelete="CASCADE"
        ),
        Index("ix_refreshes_history", "connection_id", "sent_at"),
        Index("ix_refreshes_open", "connection_id", postgresql_where=OPEN, sqlite_where=OPEN),
        Index("ix_refreshes_kept", "connection_id", postgresql_where=KEPT, sqlite_where=KEPT),
    )

    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    trigger: Trigger = Field(sa_type=Words(Trigger))
    requested_by: uuid.UUID | None = None
    lease_owner: str = Field(default="", max_length=64)
    generation: int = 0
    """Generation of the token that was spent; the new one has the next."""
    refresh_token_fingerprint: str = Field(default="", max_length=32)
    """Keyed hash, to tell whether the same refresh token was sent twice."""
    outcome: Outcome = Field(default=Outcome.SENT, sa_type=Words(Outcome))
    sent_at: datetime = now_column()
    closed_at: datetime | None = moment()
    lifetime: float | None = None
    """Seconds, as understood from the reply."""
    lifetime_rung: LifetimeRung | None = Field(
        default=None,
        sa_type=Words(LifetimeRung),
    )
    rotated: bool | None = None
    """Whether the reply brought another refresh token; None when there was none to bring."""
    failure_class: FailureClass | None = Field(default=None, sa_type=Words(FailureClass))
    failure_code: str = Field(default="", max_length=100)
    failure_said: str = ""
    failure_reason: str = ""
    http_status: int | None = None
    raw_reply_sealed: bytes | None = None
    """Kept only while a reply could not be stored as a token."""


class RefreshCount(Record, table=True):
    """Refreshes of a connection on one day (UTC), kept when their journal rows are gone."""

    __tablename__ = "refresh_counts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"], ["connections.workspace_id", "connections.id"], ondelete="CASCADE"
        ),
        UniqueConstraint("connection_id", "day"),
    )

    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    day: date
    stored: int = 0
    failed: int = 0
    """Everything that was not stored, unknown outcomes included."""


class BulkRefresh(Record, table=True):
    """One press of "Refresh selected"."""

    __tablename__ = "bulk_refreshes"
    __table_args__ = (UniqueConstraint("workspace_id", "id"),)

    workspace_id: uuid.UUID = Field(foreign_key="workspaces.id")
    requested_by: uuid.UUID | None = Field(default=None, foreign_key="users.id")
    created_at: datetime = now_column()
    cancelled_at: datetime | None = moment()
    cancelled_by: uuid.UUID | None = Field(default=None, foreign_key="users.id")


class BulkRefreshItem(Record, table=True):
    """A connection in a bulk refresh; whether it is done follows from the journal and the token."""

    __tablename__ = "bulk_refresh_items"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "bulk_id"], ["bulk_refreshes.workspace_id", "bulk_refreshes.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"], ["connections.workspace_id", "connections.id"], ondelete="CASCADE"
        ),
    )

    workspace_id: uuid.UUID
    bulk_id: uuid.UUID = Field(index=True)
    connection_id: uuid.UUID = Field(index=True)
    generation: int = 0
    """The token's generation when the refresh was asked for."""
    skipped: str = ""
    """Why this connection could not be asked to refresh, or stayed due though cancelled; else empty."""
    due_before: datetime | None = moment()
    """When it would have been refreshed without this, to go back to when it is cancelled."""
    priority_before: int | None = None
    """Its priority without this; None when this changed nothing, since it was due or under way already."""
    cancelled: bool = False
    """Taken back before it was sent."""

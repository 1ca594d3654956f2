"""Who did what, when; and which processes are alive."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index
from sqlmodel import Field, SQLModel

from models.database import Record, now_column
from models.types import UtcDateTime


class AuditEntry(Record, table=True):
    """One thing done, written in the transaction that did it; outlives what it is about."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index("ix_audit_entries_workspace_at", "workspace_id", "at"),)

    workspace_id: uuid.UUID | None = Field(default=None, foreign_key="workspaces.id")
    at: datetime = now_column()
    user_id: uuid.UUID | None = None
    actor: str = Field(default="", max_length=254)
    """E-mail of the person, or the process that acted."""
    action: str = Field(max_length=60)
    """`subject.verb`, such as `connection.authorized`."""
    subject_id: uuid.UUID | None = Field(default=None, index=True)
    subject_name: str = Field(default="", max_length=254)
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    """Names of changed fields and the like; never a secret."""


class Heartbeat(SQLModel, table=True):
    """A process that was alive at `seen_at`."""

    __tablename__ = "heartbeats"
    metadata = Record.metadata

    process: str = Field(primary_key=True, max_length=120)
    """kind:host:pid"""
    kind: str = Field(max_length=20, index=True)
    seen_at: datetime = Field(sa_type=UtcDateTime)

"""The tenant, and who may do what in it."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlmodel import Field, SQLModel, UniqueConstraint

from models.database import Record, now_column
from models.types import Words


class Role(StrEnum):
    """What a member may do in one workspace; admins may do what operators may."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AGENT = "agent"

    def includes(self, other: Role) -> bool:
        """Whether this role may do everything `other` may."""
        order = (Role.AGENT, Role.OPERATOR, Role.ADMIN)
        return order.index(self) >= order.index(other)


class Workspace(Record, table=True):
    """The tenant; every other tenant-owned row carries its id."""

    __tablename__ = "workspaces"
    __table_args__ = (UniqueConstraint("name"),)

    name: str = Field(max_length=100)
    time_zone: str = Field(default="UTC", max_length=64)
    """IANA name; used for dates inside cards."""
    created_at: datetime = now_column()


class Membership(SQLModel, table=True):
    """A person's role in a workspace."""

    __tablename__ = "memberships"
    metadata = Record.metadata

    workspace_id: uuid.UUID = Field(primary_key=True, foreign_key="workspaces.id")
    user_id: uuid.UUID = Field(primary_key=True, foreign_key="users.id", index=True)
    role: Role = Field(sa_type=Words(Role))
    created_at: datetime = now_column()

"""What an agent sees: a request, its authorization and a template."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

from models.database import Record, Sealing, moment, now_column
from models.types import UtcDateTime, Words, utc_now


class CardAuthorization(StrEnum):
    """How a card's request is authorized."""

    NONE = "none"
    HEADER = "header"
    OAUTH = "oauth"


class Card(Record, Sealing, table=True):
    """A panel in the agent's conversation view."""

    __tablename__ = "cards"
    __table_args__ = (
        UniqueConstraint("workspace_id", "id"),
        ForeignKeyConstraint(["workspace_id", "connection_id"], ["connections.workspace_id", "connections.id"]),
        Index("ix_cards_connection", "workspace_id", "connection_id"),
    )

    workspace_id: uuid.UUID = Field(foreign_key="workspaces.id", index=True)
    title: str = Field(max_length=100)
    hook_url: str = ""
    method: str = Field(default="GET", max_length=10)
    authorization: CardAuthorization = Field(
        default=CardAuthorization.NONE,
        sa_type=Words(CardAuthorization),
    )
    connection_id: uuid.UUID | None = None
    """None although authorization is `oauth`: the connection was deleted, and the card waits for another."""
    authorization_header_sealed: bytes | None = None
    """Whole value of the Authorization header, where authorization is `header`."""
    authorization_header_set_at: datetime | None = moment()
    template_content: str = ""
    version: int = 1
    """Counts saves; a form with an older one is refused."""
    created_at: datetime = now_column()
    updated_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime, nullable=False)


class CardHeader(Record, Sealing, table=True):
    """A request header of a card; secret values are never shown again."""

    __tablename__ = "card_headers"
    __table_args__ = (
        ForeignKeyConstraint(["workspace_id", "card_id"], ["cards.workspace_id", "cards.id"], ondelete="CASCADE"),
    )

    workspace_id: uuid.UUID
    card_id: uuid.UUID = Field(index=True)
    position: int = 0
    name: str = Field(max_length=100)
    value_sealed: bytes | None = None
    secret: bool = False
    set_at: datetime = now_column()

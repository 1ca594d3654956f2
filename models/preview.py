"""A rendered card, kept for the moment between the preview and the frame that shows it."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field

from models.database import Record, Sealing
from models.types import UtcDateTime, utc_now


class CardPreview(Record, Sealing, table=True):
    """HTML a card's template made of one reply; shown to the person who asked for it, pruned within minutes."""

    __tablename__ = "card_previews"
    __table_args__ = (
        ForeignKeyConstraint(["workspace_id", "card_id"], ["cards.workspace_id", "cards.id"], ondelete="CASCADE"),
    )

    workspace_id: uuid.UUID
    card_id: uuid.UUID = Field(index=True)
    user_id: uuid.UUID = Field(foreign_key="users.id")
    html_sealed: bytes | None = None
    """Encrypted, because it holds what the API said about a customer."""
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime, nullable=False, index=True)

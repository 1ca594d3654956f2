"""What a provider gave us for a connection, and when it is renewed next."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import IntEnum, StrEnum

from sqlalchemy import ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlmodel import Field

from models.database import Record, Sealing, moment
from models.types import Words
from oauth.vocabulary import ClientAuthMethod, LifetimeRung, Reuse, Rotation

ASKED_FOR, HELD, LEASED = text("introspection_due"), text("held"), text("lease_until IS NOT NULL")
"""Of few rows, in the words of their indexes: SQLite passes an index by for `held = 1`."""


class Slot(StrEnum):
    """Which of a connection's tokens a row is."""

    CURRENT = "current"
    SHADOW = "shadow"


class Priority(IntEnum):
    """Order in which due tokens are refreshed."""

    AGENT_FACING = 0
    MANUAL = 1
    SCHEDULED = 2
    KEEP_ALIVE = 3


class Token(Record, Sealing, table=True):
    """The grant of a connection, with its lease and due time.

    The row exists from the day the connection does, at generation 0 and without a token, so that
    leasing, storing and fencing are one conditional UPDATE each from the first token on.
    """

    __tablename__ = "tokens"
    __table_args__ = (
        UniqueConstraint("connection_id", "slot"),
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"], ["connections.workspace_id", "connections.id"], ondelete="CASCADE"
        ),
        Index("ix_tokens_due", "priority", "next_refresh_at"),
        Index("ix_tokens_leased", "provider_host", postgresql_where=LEASED, sqlite_where=LEASED),
        Index("ix_tokens_held", "provider_host", "failures", postgresql_where=HELD, sqlite_where=HELD),
        Index("ix_tokens_introspection", "id", postgresql_where=ASKED_FOR, sqlite_where=ASKED_FOR),
    )

    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    slot: Slot = Field(default=Slot.CURRENT, sa_type=Words(Slot))
    generation: int = 0
    """Fencing number: every stored token has the next one; a write with an old one is refused."""
    access_token_sealed: bytes | None = None
    refresh_token_sealed: bytes | None = None
    token_type: str = Field(default="", max_length=40)
    scope: str | None = None
    """As granted; None when the provider did not say, which means as asked (RFC 6749 §5.1)."""
    auth_method: ClientAuthMethod | None = Field(
        default=None,
        sa_type=Words(ClientAuthMethod),
    )
    """Client authentication that worked last, when it was found by trying."""
    client_secret_id: uuid.UUID | None = None
    """The client secret that worked last; the newest is tried first when that one is gone."""
    rotation: Rotation = Field(default=Rotation.UNSEEN, sa_type=Words(Rotation))
    reuse: Reuse = Field(default=Reuse.UNSEEN, sa_type=Words(Reuse))
    learned_lifetime: float | None = None
    """Shortest age in seconds at which the API was seen to refuse an access token of this connection."""
    received_at: datetime | None = moment()
    expires_at: datetime | None = moment()
    """None when nobody knows: refreshed when the API refuses the token."""
    lifetime_rung: LifetimeRung | None = Field(
        default=None,
        sa_type=Words(LifetimeRung),
    )

    introspection_due: bool = False
    """The reply did not say when the token ends, and the introspection endpoint is still to be asked (RFC 7662)."""
    introspection_problem: str = ""
    """Why it did not say so either, in a plain sentence."""

    provider_host: str = Field(default="", max_length=260)
    """Host of the token endpoint, for the limit of requests in flight."""
    next_refresh_at: datetime | None = moment()
    """None: nothing happens by itself. What nothing can renew is due at its end, to be found run out."""
    priority: int = Priority.SCHEDULED
    requested_at: datetime | None = moment()
    """Last press of Refresh now."""
    requested_by: uuid.UUID | None = None
    failures: int = 0
    """Retried failures in a row."""
    interruptions: int = 0
    """Refreshes in a row whose process died before their outcome was stored."""
    held: bool = False
    """Waits for its provider's host: moved out of the way, or found the host down; due again when that answers."""
    lease_owner: str | None = Field(default=None, max_length=64)
    lease_until: datetime | None = moment()

    @property
    def lifetime(self) -> float | None:
        """Seconds the access token lives from the moment it was received; None when nobody knows."""
        if self.expires_at is None or self.received_at is None:
            return None
        return (self.expires_at - self.received_at).total_seconds()

    def is_leased(self, now: datetime) -> bool:
        """Whether a refresh is under way."""
        return self.lease_until is not None and self.lease_until > now

    def is_valid(self, now: datetime, at_least: float = 0.0) -> bool:
        """Whether the access token can be used for another `at_least` seconds, as far as anybody knows."""
        if self.access_token_sealed is None:
            return False
        return self.expires_at is None or (self.expires_at - now).total_seconds() > at_least

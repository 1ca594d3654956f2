"""What all processes share about a provider's host: whether it answers, and whether it may be asked at all."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlmodel import Field

from models.database import Record, moment
from models.types import Words
from oauth.vocabulary import FailureClass

EVERYTHING = "*"
"""Host of the row that stands for the whole installation; only its pause counts."""


class ProviderHost(Record, table=True):
    """A host that token requests go to. The row exists from the first failure, limit or pause on.

    Belongs to no workspace: all of them ask the same host, and what one learns helps the others.
    """

    __tablename__ = "provider_hosts"

    host: str = Field(max_length=260, unique=True)
    """As in `Token.provider_host`."""
    concurrency: int | None = None
    """Requests in flight at most, all processes together; None: the installation's `host_concurrency`."""
    failures: int = 0
    """Requests in a row that found the host down, whichever connection they were for."""
    failure_class: FailureClass | None = Field(default=None, sa_type=Words(FailureClass))
    failure_status: int | None = None
    """With which status it answered then; None where it did not answer."""
    failure_reason: str = ""
    failed_at: datetime | None = moment()
    """Since when it is in trouble: the first of those requests."""
    failed_for: uuid.UUID | None = None
    """The connection of that first one."""
    failed_in: uuid.UUID | None = None
    """Its workspace."""
    is_shared: bool = False
    """Whether others have the same trouble: other connections, or other workspaces where it wants fewer requests."""
    open_until: datetime | None = moment()
    """The breaker: nothing is sent before; then one request tries, and the others follow its success."""
    releasing: bool = False
    """Whether tokens that waited for it are being brought back."""
    paused_at: datetime | None = moment()
    paused_by: uuid.UUID | None = Field(default=None, foreign_key="users.id")

    @property
    def trouble(self) -> str:
        """What it does while nothing is sent to it, in words that go on from its name."""
        if self.failure_status is not None:
            return f"answers with errors ({self.failure_status})"
        if self.failure_class is FailureClass.CERTIFICATE:
            return "has a certificate that is not trusted"
        return "does not answer"

    def is_closed(self, now: datetime) -> bool:
        """Whether nothing may be sent to it."""
        return self.paused_at is not None or (self.open_until is not None and self.open_until > now)

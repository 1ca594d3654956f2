"""One press of Authorize, from the click to how it ended."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field

from models.database import Record, Sealing, moment, now_column
from models.types import Words, utc_now
from oauth.vocabulary import STEPS_BY_CODE, FailureClass

CHECKS = "answer"
"""Step at which our own checks of the provider's answer stop an attempt."""
PAUSED = "paused"
"""Code of an attempt that a pause stopped: nothing about the settings has to be corrected."""
AGAIN = "Press Authorize to try again."
NEXT_STEPS = {
    FailureClass.GRANT_DEAD: AGAIN,
    FailureClass.THROTTLED: f"Wait a minute. {AGAIN}",
    FailureClass.PROVIDER_DOWN: f"{AGAIN} If it lasts, look at the provider's status page and check the endpoints.",
    FailureClass.CERTIFICATE: (
        "Ask the provider, or whoever runs your network's proxy, for a valid certificate. Then press Authorize again."
    ),
    FailureClass.REPLY_UNUSABLE: f"Check that the Token Endpoint is the right address. {AGAIN}",
    FailureClass.UNKNOWN: AGAIN,
}
"""What to do about a failed attempt, which nobody repeats by itself; other classes have their own words."""


class AttemptOutcome(StrEnum):
    """How an attempt stands; `pending` past its time shows as expired."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    DENIED = "denied"
    FAILED = "failed"


class AuthorizationAttempt(Record, Sealing, table=True):
    """Single use: found by the hash of `state`, bound to person, browser and configuration."""

    __tablename__ = "authorization_attempts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"], ["connections.workspace_id", "connections.id"], ondelete="CASCADE"
        ),
    )

    workspace_id: uuid.UUID
    connection_id: uuid.UUID = Field(index=True)
    user_id: uuid.UUID = Field(foreign_key="users.id")
    browser_hash: str = Field(max_length=64)
    """SHA-256 of the browser-id cookie."""
    state_hash: str | None = Field(default=None, max_length=64, unique=True)
    """SHA-256 of `state`; None for client credentials, which need no callback."""
    state_data_sealed: bytes | None = None
    """What Authlib keeps for the callback (PKCE verifier, redirect URI): JSON."""
    callback_sealed: bytes | None = None
    """Parameters of a callback that came by POST, until the GET that checks them."""
    redirect_uri: str = ""
    popup: bool = False
    """Whether it runs in a window of its own, which is closed at the end."""
    return_to: str = ""
    """Path of ours to go back to when it ran in the same tab."""
    connection_version: int = 0
    created_at: datetime = now_column()
    expires_at: datetime | None = moment()
    used_at: datetime | None = moment()
    """When the callback claimed it; a second claim fails."""
    ended_at: datetime | None = moment()
    outcome: AttemptOutcome = Field(
        default=AttemptOutcome.PENDING,
        sa_type=Words(AttemptOutcome),
    )
    failure_step: str = Field(default="", max_length=40)
    failure_class: FailureClass | None = Field(default=None, sa_type=Words(FailureClass))
    failure_code: str = Field(default="", max_length=100)
    failure_said: str = ""
    failure_reason: str = ""
    finding: str = ""
    """What to know although it succeeded, such as that no refresh token was given."""

    @property
    def waiting(self) -> bool:
        """Whether it may still end well."""
        return self.outcome is AttemptOutcome.PENDING and not self.expired

    @property
    def expired(self) -> bool:
        """Whether its time ran out before it ended."""
        late = self.expires_at is not None and self.expires_at <= utc_now()
        return self.outcome is AttemptOutcome.PENDING and late

    @property
    def standing(self) -> str:
        """How it stands in one word: its outcome, or `expired`."""
        return "expired" if self.expired else self.outcome.value

    def tells(self, version: int) -> bool:
        """Whether its failure still says something: not once the configuration it met was changed, or it was ended."""
        return self.failure_code != "withdrawn" and (self.failure_step == CHECKS or version == self.connection_version)

    @property
    def next_step(self) -> str:
        """What a person should do about its failure."""
        if self.failure_code == PAUSED:
            return f"Wait until that is resumed. {AGAIN}"
        if self.failure_code in STEPS_BY_CODE:
            return STEPS_BY_CODE[self.failure_code]
        if self.failure_class is None or self.failure_step == CHECKS:
            return AGAIN
        return NEXT_STEPS.get(self.failure_class, self.failure_class.next_step)

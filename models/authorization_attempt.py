"""One press of Authorize, from the click to how it ended."""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKeyConstraint
from sqlmodel import Field

from models.database import Record, Sealing, moment, now_column
from models.types import Words, utc_now
from oauth.vocabulary import AGAIN, STEPS_BY_CODE, FailureClass

CHECKS = "answer"
"""Step at which our own checks of the provider's answer stop an attempt."""
TOKEN_REQUEST = "token request"  # a step's name
"""Step at which the code is exchanged."""
PAUSED = "paused"
"""Code of an attempt that a pause stopped: nothing about the settings has to be corrected."""
WITHDRAWN = "withdrawn"
"""Code of an attempt that somebody ended before its answer was used."""
PAUSED_SINCE = "paused_since"
"""Code of one that ended because its connection was paused meanwhile."""
NEWER = "newer"
"""Code of one that another authorization of the same connection has overtaken."""
STOPPED = "process_stopped"
"""Code of one whose process died between its token request and storing the reply."""
STOPPED_WORDS = (
    "The process stopped after it had sent the provider's code and before a reply was stored. The code is spent, and "
    "the provider may have given an authorization that nobody holds; a new one takes its place."
)
STOPPED_ALONE = "The process stopped after it had asked the provider for a token and before a reply was stored."
STEPS = {
    PAUSED: f"Wait until that is resumed. {AGAIN}",
    PAUSED_SINCE: "Resume the connection, then press Authorize again.",
    NEWER: "There is nothing to do: the newer authorization goes on.",
    STOPPED: AGAIN,
}
"""What to do about an attempt, by the code of what ended it."""


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
    """Until when the provider's answer may come; once it is used, until when the token request ends at the latest."""
    used_at: datetime | None = moment()
    """When its token request began: the callback claimed it, and a second claim fails."""
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
    def interrupted(self) -> bool:
        """Whether its process died during the token request, be that closed already or only seen by its time."""
        return self.failure_code == STOPPED or (self.expired and self.used_at is not None)

    @property
    def stopped_words(self) -> str:
        """What an interruption means; with client credentials there is no code to be spent, nor a person's consent."""
        return STOPPED_WORDS if self.state_hash else STOPPED_ALONE

    @property
    def overtaken(self) -> bool:
        """Whether another authorization of the same connection is in use in its place."""
        return self.failure_code == NEWER

    @property
    def withdrawn(self) -> bool:
        """Whether somebody ended it, or began a newer one that was quicker: nothing about it has to be corrected."""
        return self.failure_code in (WITHDRAWN, PAUSED_SINCE, NEWER)

    @property
    def standing(self) -> str:
        """How it stands in one word: its outcome, `expired`, or `interrupted`."""
        if self.outcome is not AttemptOutcome.SUCCEEDED and self.interrupted:
            return "interrupted"
        return "expired" if self.expired else self.outcome.value

    def tells(self, version: int) -> bool:
        """Whether its failure still says something: not once the configuration it met was changed."""
        return self.failure_step == CHECKS or version == self.connection_version

    @property
    def next_step(self) -> str:
        """What a person should do about its failure."""
        if self.interrupted:
            return STEPS[STOPPED]
        if self.failure_code in STEPS:
            return STEPS[self.failure_code]
        if self.failure_code in STEPS_BY_CODE:
            return STEPS_BY_CODE[self.failure_code]
        if self.failure_class is None or self.failure_step == CHECKS:
            return AGAIN
        return self.failure_class.first_step

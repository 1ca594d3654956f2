"""One OAuth client registration of a workspace, and how it stands."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import SecretStr
from sqlalchemy import JSON, CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlmodel import Field

import outbound
from models.database import Record, Sealing, moment, now_column
from models.types import UtcDateTime, Words, utc_now
from oauth.grants import GRANTS, Grant
from oauth.vocabulary import (
    STEPS_BY_CODE,
    ClientAuthMethod,
    FailureClass,
    GrantType,
    LifetimeUnit,
    RefreshKind,
    Registration,
)


class ConnectionState(StrEnum):
    """Inside states; several share a word on the screen."""

    DRAFT = "draft"
    CONFIGURED = "configured"
    AUTHORIZING = "authorizing"
    DISCONNECTED = "disconnected"
    ACTIVE = "active"
    REFRESHING = "refreshing"
    DEGRADED = "degraded"
    EXPIRED_RETRYING = "expired_retrying"
    REAUTH_REQUIRED = "reauth_required"
    MISCONFIGURED = "misconfigured"
    PAUSED = "paused"

    @property
    def shown(self) -> str:
        """The word on the screen."""
        return _SHOWN[self]


_SHOWN = {
    ConnectionState.DRAFT: "Not configured",
    ConnectionState.CONFIGURED: "Not authorized",
    ConnectionState.AUTHORIZING: "Not authorized",
    ConnectionState.DISCONNECTED: "Not authorized",
    ConnectionState.ACTIVE: "Connected",
    ConnectionState.REFRESHING: "Connected",
    ConnectionState.DEGRADED: "Refresh failing",
    ConnectionState.EXPIRED_RETRYING: "Refresh failing",
    ConnectionState.REAUTH_REQUIRED: "Needs authorization",
    ConnectionState.MISCONFIGURED: "Misconfigured",
    ConnectionState.PAUSED: "Paused",
}
SHOWN_STATES = tuple(dict.fromkeys(_SHOWN.values()))


def client_of(grant_type: GrantType, client_id: str) -> str:
    """What a grant belongs to, as `Connection.client` has it."""
    return f"{grant_type.value}:{client_id}"


class Connection(Record, Sealing, table=True):
    """A client registration (RFC 6749 §2), the words for its fields taken from RFC 6749, 7591, 8414."""

    __tablename__ = "connections"
    __table_args__ = (
        UniqueConstraint("workspace_id", "id"),
        UniqueConstraint("workspace_id", "name"),
        Index("ix_connections_listed", "workspace_id", "state", "name", "id"),
        CheckConstraint("grant_type IN ('authorization_code', 'client_credentials')", name="grant_type"),
        CheckConstraint(
            "grant_type <> 'authorization_code' OR authorization_endpoint <> ''", name="authorization_endpoint"
        ),
    )

    workspace_id: uuid.UUID = Field(foreign_key="workspaces.id")
    name: str = Field(max_length=100)
    grant_type: GrantType = Field(sa_type=Words(GrantType))
    refresh_kind: RefreshKind = Field(sa_type=Words(RefreshKind))
    client_id: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    revocation_endpoint: str = ""
    issuer: str = ""
    scope: str = ""
    """Handed on exactly as typed."""
    audience: str = ""
    token_endpoint_auth_method: ClientAuthMethod = Field(
        default=ClientAuthMethod.AUTOMATIC,
        sa_type=Words(ClientAuthMethod),
    )
    pkce: bool = True
    authorization_params: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    token_params: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    api_hosts: list[str] = Field(default_factory=list, sa_type=JSON)
    """Hosts (`host` or `host:port`) the access token may be sent to."""

    introspection_endpoint: str = ""
    """Asked for a token's end where the reply does not say (RFC 7662); empty when there is none."""
    expires_in_unit: str = Field(default="seconds", max_length=20)
    """`seconds` or `milliseconds`: how this provider counts `expires_in`."""
    assumed_lifetime: float | None = None
    """Seconds an access token is taken to live where nobody says and nothing was learned."""
    longest_lifetime: float | None = None
    """Seconds after which an access token counts as run out whatever the provider says."""
    earliest_refresh: float | None = None
    """Seconds a token is kept at least before the provider gives a new one."""
    idle_limit: float | None = None
    """Seconds after which the provider ends a refresh token that nobody used."""
    dead_statuses: list[int] = Field(default_factory=lambda: [401], sa_type=JSON)
    """Statuses of the API that mean that the access token is no longer good."""
    dead_expression: str = ""
    """JMESPath over the API's JSON reply that is true when the access token is no longer good."""
    reply_mapping: dict[str, str] = Field(default_factory=dict, sa_type=JSON)
    """Where the token reply keeps its fields, each a JMESPath; a field left out is found by its usual name."""

    state: ConnectionState = Field(
        default=ConnectionState.DRAFT,
        sa_type=Words(ConnectionState),
        index=True,
    )
    paused_from: ConnectionState | None = Field(default=None, sa_type=Words(ConnectionState))
    """The state to go back to; None unless paused."""
    failure_step: str = Field(default="", max_length=40)
    failure_class: FailureClass | None = Field(default=None, sa_type=Words(FailureClass))
    failure_code: str = Field(default="", max_length=100)
    failure_said: str = ""
    """What the provider said, scrubbed of our secrets, at most 2 KB."""
    failure_reason: str = ""
    """The failure in one plain sentence."""
    failed_at: datetime | None = moment()

    authorized_at: datetime | None = moment()
    authorized_by: uuid.UUID | None = Field(default=None, foreign_key="users.id")
    authorized_client: str = ""
    """Flow and client id the present grant belongs to; a grant works for no other."""
    authorized_fingerprint: str = Field(default="", max_length=64)
    """Configuration when the present grant was given; differs when authorization is out of date."""
    version: int = 1
    """Counts saves; a form with an older one is refused."""
    created_at: datetime = now_column()
    updated_at: datetime = Field(default_factory=utc_now, sa_type=UtcDateTime, nullable=False)

    @property
    def grant(self) -> Grant:
        """The flow: its name, and what it asks of a person."""
        return GRANTS[self.grant_type]

    @property
    def provider(self) -> str:
        """Host by which people know the provider; empty when no endpoint has one."""
        return outbound.origin(self.authorization_endpoint or self.token_endpoint)

    @property
    def client(self) -> str:
        """What a grant belongs to: flow and client id."""
        return client_of(self.grant_type, self.client_id)

    @property
    def has_strange_grant(self) -> bool:
        """Whether the grant that is kept was given to another client or flow; it rests until that one returns."""
        return bool(self.authorized_client) and self.authorized_client != self.client

    @property
    def next_step(self) -> str:
        """What a person should do about its failure; empty while there is none."""
        if self.failure_code in STEPS_BY_CODE:
            return STEPS_BY_CODE[self.failure_code]
        if self.failure_class is None:
            return ""
        if self.authorized_at is None or self.has_strange_grant:
            return self.failure_class.first_step
        return self.failure_class.next_step if self.grant.needs_person else self.failure_class.step_without_consent

    @property
    def awaits_replay(self) -> bool:
        """Whether nothing is sent until somebody has looked at a kept reply: the only valid token may be in it."""
        stands = self.paused_from or self.state
        return stands is ConnectionState.MISCONFIGURED and self.failure_class is FailureClass.REPLY_UNUSABLE

    def fingerprint(self) -> str:
        """SHA-256 over everything an authorization depends on; no secret is part of it."""
        parts: list[Any] = [self.grant_type.value, self.client_id, self.authorization_endpoint]
        parts += [self.token_endpoint, self.issuer, self.scope, self.audience]
        parts += [self.authorization_params, self.token_params]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @property
    def authorization_out_of_date(self) -> bool:
        """Whether settings changed since somebody gave the present grant."""
        changed = bool(self.authorized_fingerprint) and self.authorized_fingerprint != self.fingerprint()
        return changed and self.grant.needs_person

    def registration(
        self,
        client_secret: SecretStr | None,
        *,
        client_secret_id: uuid.UUID | None = None,
        other_secret: SecretStr | None = None,
        other_secret_id: uuid.UUID | None = None,
    ) -> Registration:
        """What the protocol engine needs to know; the secrets come from the caller. Reads columns only."""
        return Registration(
            grant_type=self.grant_type,
            client_id=self.client_id,
            client_secret=client_secret,
            client_secret_id=client_secret_id,
            other_secret=other_secret,
            other_secret_id=other_secret_id,
            authorization_endpoint=self.authorization_endpoint,
            token_endpoint=self.token_endpoint,
            revocation_endpoint=self.revocation_endpoint,
            issuer=self.issuer,
            scope=self.scope,
            audience=self.audience,
            token_endpoint_auth_method=self.token_endpoint_auth_method,
            pkce=self.pkce,
            authorization_params=self.authorization_params,
            token_params=self.token_params,
            introspection_endpoint=self.introspection_endpoint,
            expires_in_unit=LifetimeUnit(self.expires_in_unit),
            reply_mapping=self.reply_mapping,
        )

    def clear_failure(self) -> None:
        """Forget the last failure, after a success or an edit."""
        self.failure_step = self.failure_code = self.failure_said = self.failure_reason = ""
        self.failure_class = None
        self.failed_at = None


class ClientSecret(Record, Sealing, table=True):
    """A secret of a connection; two may be live while a provider's secret is exchanged for a new one."""

    __tablename__ = "client_secrets"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "connection_id"], ["connections.workspace_id", "connections.id"], ondelete="CASCADE"
        ),
    )

    workspace_id: uuid.UUID
    connection_id: uuid.UUID = Field(index=True)
    value_sealed: bytes | None = None
    set_at: datetime = now_column()

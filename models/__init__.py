"""Records: columns, constraints and methods that only need self. Importing this package defines every table."""

from models.audit import AuditEntry, Heartbeat
from models.authorization_attempt import AttemptOutcome, AuthorizationAttempt
from models.card import Card, CardAuthorization, CardHeader
from models.connection import SHOWN_STATES, ClientSecret, Connection, ConnectionState
from models.database import Database, Record, keyring_of
from models.preview import CardPreview
from models.provider_host import EVERYTHING, ProviderHost
from models.refresh import BulkRefresh, BulkRefreshItem, Outcome, Refresh, RefreshCount, Trigger
from models.token import Priority, Slot, Token
from models.user import LinkPurpose, SingleUseLink, User, UserSession
from models.workspace import Membership, Role, Workspace

__all__ = [
    "EVERYTHING",
    "SHOWN_STATES",
    "AttemptOutcome",
    "AuditEntry",
    "AuthorizationAttempt",
    "BulkRefresh",
    "BulkRefreshItem",
    "Card",
    "CardAuthorization",
    "CardHeader",
    "CardPreview",
    "ClientSecret",
    "Connection",
    "ConnectionState",
    "Database",
    "Heartbeat",
    "LinkPurpose",
    "Membership",
    "Outcome",
    "Priority",
    "ProviderHost",
    "Record",
    "Refresh",
    "RefreshCount",
    "Role",
    "SingleUseLink",
    "Slot",
    "Token",
    "Trigger",
    "User",
    "UserSession",
    "Workspace",
    "keyring_of",
]

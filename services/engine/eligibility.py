"""Whether a connection may be refreshed, and whether whoever asked for it still may ask. Changes nothing."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlmodel import Session

from models import Connection, ConnectionState, Priority, Role, Token, User
from services.engine import states
from services.people import members

AUTHORIZE = "An admin of its workspace has to press Authorize on the connection first."
NOT_REFRESHED = {
    ConnectionState.DRAFT: "It is not configured yet. Save its configuration first.",
    ConnectionState.DISCONNECTED: f"It is not authorized. {AUTHORIZE}",
    ConnectionState.REAUTH_REQUIRED: (
        "A refresh cannot help: it needs authorization. An admin of its workspace has to press Authorize on it."
    ),
    ConnectionState.PAUSED: "It is paused. Resume it first.",
}
"""States in which no refresh is sent, whoever asks, and what to say about it."""


KEPT_REPLY = (
    "The provider's last reply could not be read and may hold the only valid refresh token. An admin has to use it or "
    "give it up on the connection's page first."
)


def refusal(connection: Connection, token: Token) -> str:
    """Why a manual refresh of a connection would be pointless, in a plain sentence; empty when it would not."""
    if connection.state in NOT_REFRESHED:
        return NOT_REFRESHED[connection.state]
    if connection.awaits_replay:
        return KEPT_REPLY
    if token.access_token_sealed is None and token.refresh_token_sealed is None:
        return f"It is not authorized. {AUTHORIZE}"
    if connection.has_strange_grant:
        return f"It was authorized for another client. {AUTHORIZE}"
    if not states.renewable(connection, token):
        return (
            "The provider gave no refresh token. To get a new access token, an admin of its workspace has to press "
            "Authorize on the connection."
        )
    return ""


def resting(connection: Connection, token: Token, now: datetime) -> bool:
    """Whether a caller in need of a token must do without: only a person can help, or the next try has its time.

    Callers come in crowds; without this each would ask a provider that is down, or that said no for good.
    """
    ended = connection.state in NOT_REFRESHED or connection.state is ConnectionState.MISCONFIGURED
    if ended or token.access_token_sealed is None or connection.has_strange_grant:
        return True
    waits = connection.failure_class is not None and connection.failure_class.retried
    return waits and token.next_refresh_at is not None and token.next_refresh_at > now


def withdrawn(session: Session, token: Token) -> bool:
    """Whether a token is due only because of a person who may no longer refresh it (MT-07).

    The command line asks without a person, and is the operator's already.
    """
    if token.priority != Priority.MANUAL or token.requested_by is None:
        return False
    return may_not_ask(session, token.requested_by, token.workspace_id)


def may_not_ask(session: Session, user_id: uuid.UUID, workspace_id: uuid.UUID) -> bool:
    """Whether a person may not refresh what is a workspace's."""
    role = members.role_in(session, user_id, workspace_id)
    if role is not None and role.includes(Role.OPERATOR):
        return False
    person = session.get(User, user_id)
    return person is None or not person.is_owner

"""Taking a grant away, locally and at the provider, and what an edit means for the one that is there."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr
from sqlmodel import Session

from models import Connection, ConnectionState, Priority, Token, keyring_of
from models.types import Undecryptable, utc_now
from oauth.session import TokenClient
from oauth.vocabulary import ClientAuthMethod, OAuthFailure, Registration
from services.engine import client_secrets, kept_replies, states, tokens
from services.resources import Resources

NOTHING_KEPT = "There were no tokens to take away."
NOT_TOLD = "Its tokens are gone from here. The provider was not told: remove the access there as well."
RESTING = frozenset({ConnectionState.DRAFT, ConnectionState.CONFIGURED})
"""States of a grant that waits for its own client to be configured again."""


@dataclass(frozen=True)
class Goodbye:
    """What is needed to tell the provider that a grant is over, after it is gone here."""

    registration: Registration
    token: SecretStr
    hint: str
    """`refresh_token` or `access_token` (RFC 7009 §2.1)."""
    auth_method: ClientAuthMethod | None


def forget(session: Session, connection: Connection, token: Token) -> None:
    """Remove the grant; a refresh in flight finds a newer generation and stores nothing. Does not commit."""
    token.generation += 1
    token.access_token_sealed = token.refresh_token_sealed = None
    token.received_at = token.expires_at = token.next_refresh_at = token.lifetime_rung = None
    token.scope, token.token_type, token.failures = None, "", 0
    token.learned_lifetime, token.introspection_due, token.introspection_problem = None, False, ""
    token.priority, token.held = Priority.SCHEDULED, False
    states.release(token)
    connection.authorized_at = connection.authorized_by = None
    connection.authorized_client = connection.authorized_fingerprint = ""
    connection.state, connection.paused_from = ConnectionState.CONFIGURED, None
    kept_replies.erase(session, connection.id)
    session.add_all((connection, token))


def kept(token: Token) -> bool:
    """Whether there is a grant, be it in use or resting until its client returns."""
    return token.access_token_sealed is not None or token.refresh_token_sealed is not None


def usable(connection: Connection, token: Token) -> bool:
    """Whether there is a grant, and it was given to this client by this flow."""
    return kept(token) and not connection.has_strange_grant


def after_change(session: Session, connection: Connection, token: Token, *, asks_anew: bool) -> None:
    """What saving means for the grant: one of another client rests until that client returns; others go on.

    What was stopped is tried at once, without new consent; so is what is failing, if it now `asks_anew` for tokens.
    Why it failed stays on the page until the provider has answered.
    """
    stands = connection.paused_from or connection.state
    if stands is ConnectionState.REAUTH_REQUIRED:
        return  # and why stays on the page: no edit brings an ended authorization back
    if connection.awaits_replay and usable(connection, token) and kept_replies.of(session, connection, token):
        return  # the kept reply is used first, or given up: the old refresh token is probably spent
    if not usable(connection, token):
        connection.clear_failure()
        token.next_refresh_at = None
        connection.state, connection.paused_from = ConnectionState.CONFIGURED, None
        return
    if stands in RESTING:
        connection.clear_failure()
    elif stands is not ConnectionState.MISCONFIGURED and not (asks_anew and stands in states.FAILING):
        return
    _try_now(connection, token)


def _try_now(connection: Connection, token: Token) -> None:
    """Let the grant be tried with what was saved; what nothing can renew is used to its end, and then found run out."""
    now = utc_now()
    lives_on = token.is_valid(now) and not states.renewable(connection, token)
    if lives_on:
        connection.clear_failure()
    next_state = states.until_tried(connection, token)
    token.failures = 0
    if connection.state is ConnectionState.PAUSED:
        connection.paused_from = next_state
        return
    # No longer somebody's request, which they may take back.
    token.next_refresh_at, token.priority = token.expires_at if lives_on else now, Priority.SCHEDULED
    token.held = False
    connection.state = next_state


def goodbye(session: Session, connection: Connection) -> Goodbye | str:
    """Read what a revocation needs while it is still here; a sentence where nobody is to be told."""
    token = tokens.current_token(session, connection)
    if not kept(token):
        return NOTHING_KEPT
    if not connection.revocation_endpoint or not usable(connection, token):
        return NOT_TOLD
    keyring = keyring_of(session)
    try:
        refresh_token = token.unseal("refresh_token", keyring)
        value = refresh_token or token.unseal("access_token", keyring)
        registration = client_secrets.registration(session, connection, token)
    except Undecryptable:
        return NOT_TOLD
    if value is None:
        return NOT_TOLD
    hint = "refresh_token" if refresh_token else "access_token"
    return Goodbye(registration, value, hint, token.auth_method)


def revoke(resources: Resources, words: Goodbye | str) -> str:
    """Tell the provider (RFC 7009), at best effort; returns what came of it, as a sentence."""
    if isinstance(words, str):
        return words
    client = TokenClient(
        resources.http, words.registration, resources.token_limits, step="revocation", worked=words.auth_method
    )
    try:
        resources.http.run(client.revoke(words.token, words.hint))
    except OAuthFailure as failure:
        return f"Its tokens are gone from here. The provider could not be told: {failure} Remove the access there."
    return "Its tokens are gone from here, and the provider has revoked them."

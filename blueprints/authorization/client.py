"""Authlib's Flask client for one attempt: it builds the authorization request and exchanges the code.

Made anew for each request, never registered: a registry would go on serving a secret that was replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from authlib.integrations.flask_client import FlaskIntegration, FlaskOAuth2App

from blueprints import web
from models import AuthorizationAttempt
from models.types import Keyring, Undecryptable
from oauth.grants import GRANTS, PROTECTED_PARAMS
from oauth.session import TokenClient
from oauth.vocabulary import UNDECRYPTABLE, ClientAuthMethod, FailureClass, OAuthFailure, Registration, TokenReply
from services.authorizing import attempts
from services.authorizing.exchanges import Exchange

STEP = "token request"
OURS = PROTECTED_PARAMS - {"scope", "audience"}
NAMED = frozenset({"scope", "nonce"})
"""Parameters that Authlib wants to know of."""


class AttemptState(FlaskIntegration):
    """Keeps Authlib's state in the attempt's row instead of cookie or cache: single use, any number side by side."""

    def __init__(self, attempt: AuthorizationAttempt, keyring: Keyring) -> None:
        """For one attempt; whoever owns the row commits it."""
        super().__init__("connection")
        self._attempt, self._keyring = attempt, keyring

    def set_state_data(self, session: Any, state: str, data: dict[str, Any]) -> None:
        """Bind the state, and keep what the callback needs."""
        attempts.keep_state(self._attempt, self._keyring, state, data)

    def get_state_data(self, session: Any, state: str) -> dict[str, Any] | None:
        """What was kept, if the state is this attempt's."""
        return attempts.read_state(self._attempt, self._keyring) if attempts.has_state(self._attempt, state) else None

    def clear_state_data(self, session: Any, state: str) -> None:
        """Forget it here too: the row was cleared when the attempt was claimed."""
        self._attempt.state_data_sealed = None


class ConnectionClient(FlaskOAuth2App):
    """One registration's client, on top of the guarded HTTP client."""

    client_cls = TokenClient

    def ask(self, registration: Registration, redirect_uri: str) -> None:
        """Build the authorization request (RFC 6749 §4.1.1) and keep it with its state in the attempt."""
        params = GRANTS[registration.grant_type].authorization_params(registration)
        named = {name: value for name, value in params.items() if name in NAMED}
        rest = {name: value for name, value in params.items() if name not in NAMED}
        self.authorize_url = with_params(registration.authorization_endpoint, rest)
        request = self.create_authorization_url(redirect_uri, state=attempts.new_state(), **named)
        self.save_authorize_data(redirect_uri=redirect_uri, **request)

    def redeem(self, state: str, code: str) -> TokenReply:
        """Exchange a code (RFC 6749 §4.1.3) with the redirect URI and verifier of its request. Raises OAuthFailure."""
        kept = self.framework.get_state_data(None, state)
        self.framework.clear_state_data(None, state)
        params = self._format_state_params(kept, {"code": code})
        reply = self.fetch_access_token(**params)["reply"]
        assert isinstance(reply, TokenReply)
        return reply


def client_for(
    attempt: AuthorizationAttempt, registration: Registration, worked: ClientAuthMethod | None = None
) -> ConnectionClient:
    """The client for one attempt. `worked` is the client authentication that worked last."""
    resources = web.resources()
    return ConnectionClient(
        AttemptState(attempt, resources.database.keyring),
        name="connection",
        client_id=registration.client_id,
        authorize_url=registration.authorization_endpoint,
        access_token_url=registration.token_endpoint,
        client_kwargs={
            "http": resources.http,
            "registration": registration,
            "limits": resources.token_limits,
            "step": STEP,
            "worked": worked,
        },
    )


def ask(attempt: AuthorizationAttempt, registration: Registration) -> None:
    """`services.authorizing.authorization.Ask`, by Authlib."""
    client_for(attempt, registration).ask(registration, attempt.redirect_uri)


def redeem(exchange: Exchange) -> TokenReply:
    """`services.authorizing.exchanges.Redeem`, by Authlib."""
    client = client_for(exchange.attempt, exchange.registration, exchange.auth_method)
    try:
        return client.redeem(exchange.state, exchange.code.get_secret_value())
    except Undecryptable as damage:
        raise OAuthFailure(STEP, FailureClass.LOCAL, damage.sentence, code=UNDECRYPTABLE) from None


def with_params(endpoint: str, params: Mapping[str, str]) -> str:
    """The authorization endpoint with extra parameters in its query.

    There, and not among Authlib's keyword arguments, a parameter may have any name, and the endpoint's
    own query any character. What this client sets by itself is left out, whatever stands in the row.
    """
    parts = urlsplit(endpoint)
    pairs = [*parse_qsl(parts.query, keep_blank_values=True), *params.items()]
    return urlunsplit(parts._replace(query=urlencode([pair for pair in pairs if pair[0] not in OURS])))

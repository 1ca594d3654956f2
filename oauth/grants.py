"""The two grants: the only behaviour that differs by flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pydantic import SecretStr

from oauth.vocabulary import GrantType, RefreshKind, Registration

PROTECTED_PARAMS = frozenset(
    "client_id client_secret client_assertion client_assertion_type code code_challenge code_challenge_method "
    "code_verifier grant_type redirect_uri refresh_token response_type state scope audience".split()
)
"""Parameters that an admin's extra ones may not replace."""


class Grant(Protocol):
    """What a flow asks of a person, and how its token is renewed."""

    label: str
    """The flow's name on the screen."""
    needs_person: bool
    """Whether somebody has to agree in a browser."""
    refresh_kind: RefreshKind

    def authorization_params(self, registration: Registration) -> dict[str, str]:
        """Extra parameters of the authorization request (RFC 6749 §4.1.1)."""
        ...

    def renewal_params(self, registration: Registration, refresh_token: SecretStr | None) -> dict[str, str]:
        """Parameters of the token request that renews the token, client authentication left out."""
        ...


class AuthorizationCode:
    """RFC 6749 §4.1, renewed as §6."""

    label = "Authorization Code Flow"
    needs_person = True
    refresh_kind = RefreshKind.REFRESH_TOKEN

    def authorization_params(self, registration: Registration) -> dict[str, str]:
        """The audience names the API, where a provider wants it; scope is handed on exactly as typed."""
        return {
            **extra(registration.authorization_params),
            **_given(scope=registration.scope, audience=registration.audience),
        }

    def renewal_params(self, registration: Registration, refresh_token: SecretStr | None) -> dict[str, str]:
        """No scope: leaving it out means as granted (RFC 6749 §6), and some providers refuse it."""
        value = refresh_token.get_secret_value() if refresh_token else ""
        return {**extra(registration.token_params), "grant_type": "refresh_token", "refresh_token": value}


class ClientCredentials:
    """RFC 6749 §4.4: a renewal is the same request again."""

    label = "Client Credentials Flow"
    needs_person = False
    refresh_kind = RefreshKind.REISSUE

    def authorization_params(self, registration: Registration) -> dict[str, str]:
        """Nobody is asked."""
        return {}

    def renewal_params(self, registration: Registration, refresh_token: SecretStr | None) -> dict[str, str]:
        """Scope and audience as configured."""
        return {
            **extra(registration.token_params),
            "grant_type": "client_credentials",
            **_given(scope=registration.scope, audience=registration.audience),
        }


def extra(params: Mapping[str, str]) -> dict[str, str]:
    """An admin's extra parameters, without those that would replace the protocol's own."""
    return {name: value for name, value in params.items() if name.lower() not in PROTECTED_PARAMS}


def _given(**params: str) -> dict[str, str]:
    return {name: value for name, value in params.items() if value}


GRANTS: Mapping[GrantType, Grant] = {
    GrantType.AUTHORIZATION_CODE: AuthorizationCode(),
    GrantType.CLIENT_CREDENTIALS: ClientCredentials(),
}

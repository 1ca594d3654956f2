"""What a provider sends back to the redirect URL (RFC 6749 §4.1.2): read strictly, its errors in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import SecretStr

from oauth.explanation import told
from oauth.scrub import Hidden
from oauth.vocabulary import FailureClass, OAuthFailure

STEP = "authorization"
LONGEST_CODE = 4096
LONGEST_STATE = 100
LONGEST_WORDS = 2000
LONGEST_SAID = 200
DENIED = frozenset({"access_denied", "user_denied", "user_cancelled_login", "user_cancelled_authorize"})
ONCE = frozenset({"code", "state", "error", "error_description", "error_uri", "iss"})
PRINTABLE = re.compile(r"[\x20-\x7e]+")
ERROR_CODE = re.compile(r"[\x20-\x7e]{1,100}")

ERRORS = {
    "invalid_request": (FailureClass.REQUEST_BAD, "The provider could not use the authorization request."),
    "invalid_scope": (FailureClass.REQUEST_BAD, "The provider does not know this scope, or does not give it out."),
    "invalid_target": (FailureClass.REQUEST_BAD, "The provider does not know this audience."),
    "unauthorized_client": (FailureClass.CLIENT_BAD, "The provider does not let this client ask people this way."),
    "invalid_client": (FailureClass.CLIENT_BAD, "The provider does not know this client."),
    "unsupported_response_type": (FailureClass.REQUEST_BAD, "The provider does not offer the Authorization Code Flow."),
    "server_error": (FailureClass.PROVIDER_DOWN, "The provider met an error of its own."),
    "temporarily_unavailable": (FailureClass.PROVIDER_DOWN, "The provider is overloaded or under maintenance."),
    "login_required": (
        FailureClass.REQUEST_BAD,
        "The provider wanted you to sign in there, and was not allowed to ask.",
    ),
    "interaction_required": (
        FailureClass.REQUEST_BAD,
        "The provider wanted to ask you something, and was not allowed to.",
    ),
}
"""RFC 6749 §4.1.2.1 and its successors: class and fixed words for each code."""


class Odd(Exception):
    """Parameters that no authorization response has; nothing may come of them."""


@dataclass(frozen=True)
class AuthorizationResponse:
    """Either a code or an error, with what says whose it is."""

    state: str = field(repr=False)
    code: SecretStr | None = None
    error: str = ""
    error_description: str = ""
    iss: str | None = None

    @property
    def denied(self) -> bool:
        """Whether somebody said no, as opposed to something going wrong."""
        return self.error in DENIED

    def failure(self, secrets: Iterable[SecretStr | None]) -> OAuthFailure:
        """The error as a failure; the provider's own words are scrubbed and cut."""
        kind, words = ERRORS.get(
            self.error, (FailureClass.REQUEST_BAD, "The provider ended the authorization with an error.")
        )
        if self.denied:
            words = "Access was refused at the provider."
        hidden = Hidden((*secrets, self.code))
        said = told(self.error_description, hidden, LONGEST_SAID)
        return OAuthFailure(STEP, kind, words, code=told(self.error, hidden, 100), provider_said=said)


def parse(pairs: Iterable[tuple[str, str]]) -> AuthorizationResponse:
    """The response in the parameters of a callback; unknown ones are ignored (RFC 6749 §4.1.2). Raises Odd."""
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in ONCE and name in given:
            raise Odd(f"The answer names {name} twice.")
        given[name] = value
    state, code, error = given.get("state", ""), given.get("code", ""), given.get("error", "")
    if not state or len(state) > LONGEST_STATE:
        raise Odd("The answer does not say which authorization it belongs to.")
    if bool(code) == bool(error):
        raise Odd("The answer holds neither a code nor an error." if not code else "The answer is both yes and no.")
    if code and (len(code) > LONGEST_CODE or not PRINTABLE.fullmatch(code)):
        raise Odd("The code in the answer is not one.")
    if error and not ERROR_CODE.fullmatch(error):
        raise Odd("The error in the answer is not one.")
    return AuthorizationResponse(
        state=state,
        code=SecretStr(code) if code else None,
        error=error,
        error_description=given.get("error_description", "")[:LONGEST_WORDS],
        iss=given.get("iss"),
    )

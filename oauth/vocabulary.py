"""The protocol's nouns, in the words of RFC 6749, 7591 and 8414, and the one table of failure classes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pydantic import SecretStr


class GrantType(StrEnum):
    """How the first token is obtained; no other grant exists here (RFC 9700 §2.1.2, §2.4)."""

    AUTHORIZATION_CODE = "authorization_code"
    CLIENT_CREDENTIALS = "client_credentials"


class ClientAuthMethod(StrEnum):
    """How the client proves itself at the token endpoint (RFC 7591 §2)."""

    AUTOMATIC = "automatic"
    BASIC = "client_secret_basic"
    BASIC_RAW = "client_secret_basic_raw"
    """Basic without form-encoding first (RFC 6749 §2.3.1 asks for it; half the world decodes nothing)."""
    POST = "client_secret_post"
    NONE = "none"


class RefreshKind(StrEnum):
    """How a token is renewed."""

    REFRESH_TOKEN = "refresh_token"
    REISSUE = "reissue"
    EXCHANGE = "exchange"
    NONE = "none"


class Rotation(StrEnum):
    """What a provider does with the refresh token at a refresh (RFC 9700 §4.14.2), as experience has it."""

    UNSEEN = "unseen"
    """No refresh has been made yet."""
    NEVER = "never"
    SOMETIMES = "sometimes"
    ALWAYS = "always"


class Reuse(StrEnum):
    """What becomes of the old refresh token once it has been replaced, as experience has it."""

    UNSEEN = "unseen"
    """The old one was never needed."""
    ACCEPTED = "accepted"
    """It went on working for a while: a lost reply costs nothing."""
    REFUSED = "refused"
    """It was turned down: a lost reply costs the grant."""
    ENDS_GRANT = "ends_grant"
    """Sending it ended the new one as well."""


class LifetimeUnit(StrEnum):
    """What a provider counts `expires_in` in: seconds (RFC 6749 §5.1), or what some take them for."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"

    @property
    def in_a_second(self) -> float:
        """How many of it a second has."""
        return 1000.0 if self is LifetimeUnit.MILLISECONDS else 1.0


class LifetimeRung(StrEnum):
    """Where a token's lifetime comes from."""

    REPLY = "reply"
    JWT = "jwt"
    INTROSPECTION = "introspection"
    LEARNED = "learned"
    PRESET = "preset"
    DEFAULT = "default"
    UNKNOWN = "unknown"


class FailureClass(StrEnum):
    """What kind of failure a token request met; each has one effect."""

    GRANT_DEAD = "grant_dead"
    CLIENT_BAD = "client_bad"
    REQUEST_BAD = "request_bad"
    THROTTLED = "throttled"
    PROVIDER_DOWN = "provider_down"
    CERTIFICATE = "certificate"
    LOCAL = "local"
    REPLY_UNUSABLE = "reply_unusable"
    UNKNOWN = "unknown"

    @property
    def title(self) -> str:  # type: ignore[override]  # hides str.title, which nobody calls on a class of failure
        """The class in plain words."""
        return _WORDS[self][0]

    @property
    def next_step(self) -> str:
        """What a person should do about it, where there is a grant that goes on once it is mended."""
        return _WORDS[self][1]

    @property
    def first_step(self) -> str:
        """The same where there is no grant yet: nobody but a person repeats a first authorization."""
        return _FIRST_STEPS.get(self, self.next_step)

    @property
    def step_without_consent(self) -> str:
        """The same where the grant is the client's own, and nobody has to agree to anything (RFC 6749 §4.4)."""
        return _STEPS_WITHOUT_CONSENT.get(self, self.next_step)

    @property
    def retried(self) -> bool:
        """Whether Cardkey tries again by itself."""
        return self in _RETRIED


UNDECRYPTABLE = "undecryptable"
"""Code of a failure whose reason names the secret that cannot be read, and the key it needs."""
GIVEN_UP_REPLY = "reply_given_up"
"""Code of a failure whose reply was kept, until somebody chose to try the old refresh token once more."""
AGAIN = "Press Authorize to try again."
NO_ENDPOINT = "no_token_endpoint"
"""Code of a reply that shows that nothing is at the address, and holds nothing that could be a token."""
NOTHING_KEPT = "no_token"
"""Code of another reply that was not kept, since nothing in it could be a token."""
STEPS_BY_CODE = {
    NO_ENDPOINT: (
        "Compare the Token Endpoint with the provider's documentation, correct it and save. What was authorized before "
        "is then tried again by itself; else press Authorize."
    ),
    NOTHING_KEPT: (
        "Check that the Token Endpoint is the right address, and that nothing answers in the provider's place, such as "
        "a firewall or a sign-in page. What was authorized before is tried again by itself; else press Authorize."
    ),
    UNDECRYPTABLE: (
        "Whoever runs this installation puts the missing key back at the end of CARDKEY_ENCRYPTION_KEYS of every "
        "process and restarts them; flask keys check says whether everything can be read again. Then press Refresh "
        "now. Where the key is lost or the secret damaged: of a client secret, enter it again under Client secret and "
        "save; of a token, press Authorize."
    ),
    GIVEN_UP_REPLY: (
        "Nothing to do for now: Cardkey tries the old refresh token once more. If the provider refuses it, press "
        "Authorize."
    ),
}
"""What to do where the code of a failure tells more than its class."""

_RETRIED = frozenset(
    {
        FailureClass.THROTTLED,
        FailureClass.PROVIDER_DOWN,
        FailureClass.CERTIFICATE,
        FailureClass.REPLY_UNUSABLE,
        FailureClass.UNKNOWN,
    }
)
_COMPARE_CLIENT = "Compare Client ID, Client secret and Token endpoint authentication with the provider's"
_COMPARE_REQUEST = "Compare Scope, Audience and the endpoints with the provider's documentation"
_SAVE = "press Save configuration: Cardkey tries again at once"
_WORDS = {
    FailureClass.GRANT_DEAD: (
        "The provider ended the authorization",
        "Press Authorize on the connection and agree again.",
    ),
    FailureClass.CLIENT_BAD: (
        "The provider does not accept this client",
        f"{_COMPARE_CLIENT}, then {_SAVE}, without new consent.",
    ),
    FailureClass.REQUEST_BAD: (
        "The provider refused the request",
        f"{_COMPARE_REQUEST}, then {_SAVE}, without new consent.",
    ),
    FailureClass.THROTTLED: (
        "The provider asks us to slow down",
        "Nothing to do: Cardkey waits as long as the provider asked and tries again.",
    ),
    FailureClass.PROVIDER_DOWN: (
        "The provider does not work just now",
        "Nothing to do for now: Cardkey goes on trying. If it lasts, look at the provider's status page and check "
        "the Token Endpoint.",
    ),
    FailureClass.CERTIFICATE: (
        "The provider's certificate is not trusted",
        "Ask the provider, or whoever runs your network's proxy, for a valid certificate. Cardkey goes on trying.",
    ),
    FailureClass.LOCAL: (
        "Cardkey itself stopped the request",
        "Correct what the message names; an operator may have to allow the address or restore a key.",
    ),
    FailureClass.REPLY_UNUSABLE: (
        "The provider's reply holds no usable token",
        "Check that the Token Endpoint is the right address. The reply is kept, encrypted: if there is a token in it, "
        "an admin can say where under Reply mapping, and use the reply, on the connection's page.",
    ),
    FailureClass.UNKNOWN: (
        "It is not known whether the provider acted on the request",
        "Nothing to do for now: Cardkey tries again. If the provider refuses that, authorize again.",
    ),
}
_FIRST_STEPS = {
    FailureClass.GRANT_DEAD: AGAIN,
    FailureClass.CLIENT_BAD: f"{_COMPARE_CLIENT}, then press Save configuration and Authorize.",
    FailureClass.REQUEST_BAD: f"{_COMPARE_REQUEST}, then press Save configuration and Authorize.",
    FailureClass.THROTTLED: f"Wait a minute. {AGAIN}",
    FailureClass.PROVIDER_DOWN: f"{AGAIN} If it lasts, look at the provider's status page and check the endpoints.",
    FailureClass.CERTIFICATE: (
        "Ask the provider, or whoever runs your network's proxy, for a valid certificate. Then press Authorize again."
    ),
    FailureClass.REPLY_UNUSABLE: f"Check that the Token Endpoint is the right address. {AGAIN}",
    FailureClass.UNKNOWN: AGAIN,
}
_STEPS_WITHOUT_CONSENT = {
    FailureClass.GRANT_DEAD: "Press Authorize: Cardkey asks for a token anew, and nobody has to sign in.",
    FailureClass.CLIENT_BAD: f"{_COMPARE_CLIENT}, then {_SAVE}.",
    FailureClass.REQUEST_BAD: f"{_COMPARE_REQUEST}, then {_SAVE}.",
    FailureClass.UNKNOWN: "Nothing to do for now: Cardkey tries again.",
}


@dataclass(frozen=True)
class Registration:
    """A client registration (RFC 6749 §2): what the protocol needs to know of a connection."""

    grant_type: GrantType
    client_id: str
    client_secret: SecretStr | None
    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str = ""
    issuer: str = ""
    scope: str = ""
    audience: str = ""
    token_endpoint_auth_method: ClientAuthMethod = ClientAuthMethod.AUTOMATIC
    pkce: bool = True
    authorization_params: Mapping[str, str] = field(default_factory=dict)
    token_params: Mapping[str, str] = field(default_factory=dict)
    introspection_endpoint: str = ""
    expires_in_unit: LifetimeUnit = LifetimeUnit.SECONDS
    reply_mapping: Mapping[str, str] = field(default_factory=dict)
    """Where the token reply keeps its fields, each a JMESPath."""
    client_secret_id: uuid.UUID | None = None
    """Which of the connection's secrets `client_secret` is."""
    other_secret: SecretStr | None = None
    """Tried once when the provider does not recognise the client; None where there is no second one."""
    other_secret_id: uuid.UUID | None = None


@dataclass(frozen=True)
class TokenReply:
    """A token reply that can be used. `lifetime` is in seconds from receipt, None when nobody knows."""

    access_token: SecretStr
    refresh_token: SecretStr | None
    token_type: str
    scope: str | None
    lifetime: float | None
    lifetime_rung: LifetimeRung
    raw: SecretStr
    auth_method: ClientAuthMethod = ClientAuthMethod.NONE
    """Client authentication that worked."""
    client_secret_id: uuid.UUID | None = None
    """The client secret that worked, as `Registration` names it."""
    received_at: datetime | None = None
    """None: just now."""


class OAuthFailure(Exception):
    """A step of the protocol failed; `str()` is one plain sentence and holds no secret."""

    def __init__(
        self,
        step: str,
        failure_class: FailureClass,
        reason: str,
        *,
        code: str = "",
        provider_said: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        raw: SecretStr | None = None,
        may_hold_token: bool = False,
        brings_refresh_token: bool = False,
    ) -> None:
        """`provider_said` is scrubbed already; `retry_after` in seconds.

        `may_hold_token` is said of `raw`, and so is `brings_refresh_token`: that one in it is called a refresh token
        and is not the one that was sent.
        """
        super().__init__(reason)
        self.step = step
        self.failure_class = failure_class
        self.code = code
        self.provider_said = provider_said
        self.status = status
        self.retry_after = retry_after
        self.raw = raw
        self.may_hold_token = may_hold_token
        self.brings_refresh_token = brings_refresh_token

    def saying(self, more: str) -> OAuthFailure:
        """The same failure with another sentence at its end."""
        said = OAuthFailure(self.step, self.failure_class, f"{self} {more}")
        said.__dict__.update(self.__dict__)
        return said

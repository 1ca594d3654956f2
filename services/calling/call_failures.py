"""How a card's call can fail: at which step, what kind of failure it is, and what to do next. Sends nothing."""

from __future__ import annotations

from enum import Enum, StrEnum

import outbound
from oauth.vocabulary import STEPS_BY_CODE, FailureClass, OAuthFailure


class Step(StrEnum):
    """Steps of a card, in order."""

    CONNECTION = "connection"
    TOKEN = "token"
    REQUEST = "request"
    REPLY = "reply"
    TEMPLATE = "template"


class Problem(Enum):
    """What kind of failure a card's call met."""

    NO_CONNECTION = "no_connection"
    NOT_AUTHORIZED = "not_authorized"
    PAUSED = "paused"
    REFRESHES_PAUSED = "refreshes_paused"
    SECRET_MISSING = "secret_missing"
    SECRET_UNREADABLE = "secret_unreadable"
    BEING_REFRESHED = "being_refreshed"
    WRONG_HOST = "wrong_host"
    BUSY = "busy"
    BAD_REQUEST = "bad_request"
    UNREACHABLE = "unreachable"
    CERTIFICATE = "certificate"
    TIMEOUT = "timeout"
    TOO_LARGE = "too_large"
    REDIRECT = "redirect"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    THROTTLED = "throttled"
    REFUSED = "refused"
    API_BROKEN = "api_broken"
    NOT_JSON = "not_json"
    TEMPLATE = "template"
    CARD_GONE = "card_gone"

    @property
    def title(self) -> str:
        """The kind in plain words."""
        return _WORDS[self][0]

    @property
    def next_step(self) -> str:
        """What an admin should do about it."""
        return _WORDS[self][1]

    @property
    def retried(self) -> bool:
        """Whether Cardkey tries again by itself: nobody but the person at the preview does."""
        return False


_WORDS = {
    Problem.NO_CONNECTION: (
        "The card has no connection",
        "Choose a connection for the card, or make a new one, and press Save configuration.",
    ),
    Problem.NOT_AUTHORIZED: ("The connection is not authorized", "Press Authorize on the connection."),
    Problem.PAUSED: (
        "The connection is paused",
        "Press Resume on the connection, then press Preview again.",
    ),
    Problem.REFRESHES_PAUSED: (
        "Token requests are paused",
        "The owner of the installation resumes them under Operations. Then press Preview again.",
    ),
    Problem.SECRET_MISSING: (
        "The Authorization header is empty",
        "Enter the value of the Authorization header again and press Save configuration.",
    ),
    Problem.SECRET_UNREADABLE: (
        "A stored secret cannot be read",
        "Enter the secret again, or ask whoever runs this installation to put the missing key back (flask keys check "
        "names it).",
    ),
    Problem.BEING_REFRESHED: ("The token is being refreshed", "Press Preview again in a few seconds."),
    Problem.WRONG_HOST: (
        "The token may not go to this host",
        "Correct the Hook URL. If the host is right, choose the connection again and press Save configuration, "
        "which allows the host.",
    ),
    Problem.BUSY: ("Another preview is running", "Wait until it has ended, then press Preview again."),
    Problem.BAD_REQUEST: ("The request cannot be made", "Correct what the message names, save, and try again."),
    Problem.UNREACHABLE: (
        "The API cannot be reached",
        "Check the host name in the Hook URL. If it is right, ask whoever runs this installation to allow the API "
        "where it is an internal one; else it is down, so try again later.",
    ),
    Problem.CERTIFICATE: (
        "The API's certificate is not trusted",
        "Ask whoever runs the API for a valid certificate; nothing is sent without one.",
    ),
    Problem.TIMEOUT: (
        "The API took too long",
        "Try again later; if it stays, ask whoever runs the API. Where it has much to send, ask it for less, for "
        "example by a filter or a page size in the Hook URL.",
    ),
    Problem.TOO_LARGE: (
        "The API's reply is too large",
        "Ask the API for less, for example by a filter or a page size in the Hook URL.",
    ),
    Problem.REDIRECT: (
        "The API redirects elsewhere",
        "Redirects are not followed, so that nothing secret travels along. Enter the final address as Hook URL.",
    ),
    Problem.UNAUTHORIZED: (
        "The API does not accept the authorization",
        "Check that the card uses the right Authorization, and that it is meant for this API.",
    ),
    Problem.FORBIDDEN: (
        "The API does not allow this request",
        "Compare the Scope of the connection with what the API asks for; after a change, authorize again.",
    ),
    Problem.NOT_FOUND: (
        "The API knows nothing at this address",
        "Check the path of the Hook URL and the sample values: there may simply be no such customer.",
    ),
    Problem.THROTTLED: ("The API asks to slow down", "Wait a little, then press Preview again."),
    Problem.REFUSED: (
        "The API refused the request",
        "Read what the API says, and compare Hook URL, Method and Headers with its documentation.",
    ),
    Problem.API_BROKEN: ("The API itself failed", "Try again later; if it stays, ask whoever runs the API."),
    Problem.NOT_JSON: (
        "The reply is not JSON",
        "Check that the Hook URL is the address of an API and not of a web page; some APIs want an Accept header.",
    ),
    Problem.TEMPLATE: ("The template cannot be rendered", "Correct the Template content and press Preview again."),
    Problem.CARD_GONE: ("The card was deleted", "Go back to the list of cards."),
}


class CallFailure(Exception):
    """A step failed; `str()` is one plain sentence. Its attributes are named like those of rows that show failures."""

    def __init__(
        self,
        step: Step | str,
        kind: Problem | FailureClass,
        reason: str,
        *,
        code: str = "",
        said: str = "",
        next_step: str = "",
    ) -> None:
        """`said` is what the other side said, scrubbed already; `code` its own name for the failure.

        `next_step` is for a failure about which something else helps than about its kind.
        """
        super().__init__(reason)
        self.failure_step = str(step)
        self.failure_class = kind
        self.failure_code = code
        self.failure_said = said
        self.said_by = "The provider" if isinstance(kind, FailureClass) else "The API"
        self.failure_reason = reason
        self.own_step = next_step

    @property
    def next_step(self) -> str:
        """What an admin should do about it."""
        return self.own_step or STEPS_BY_CODE.get(self.failure_code) or self.failure_class.next_step

    @property
    def retried(self) -> bool:
        """Whether Cardkey tries again by itself."""
        return self.failure_class.retried and not self.own_step

    def without_details(self) -> CallFailure:
        """The same for those who may not see what the other side said."""
        return CallFailure(self.failure_step, self.failure_class, self.failure_reason, next_step=self.own_step)


_OUTBOUND: dict[type, tuple[Step, Problem]] = {
    outbound.OutboundFailure: (Step.REQUEST, Problem.BAD_REQUEST),
    outbound.Blocked: (Step.REQUEST, Problem.UNREACHABLE),
    outbound.Unreachable: (Step.REQUEST, Problem.UNREACHABLE),
    outbound.CertificateProblem: (Step.REQUEST, Problem.CERTIFICATE),
    outbound.Timeout: (Step.REPLY, Problem.TIMEOUT),
    outbound.TooLarge: (Step.REPLY, Problem.TOO_LARGE),
    outbound.RedirectRefused: (Step.REPLY, Problem.REDIRECT),
}


def of_outbound(failure: outbound.OutboundFailure) -> CallFailure:
    """A failure of sending, in a card's words."""
    step, problem = next(_OUTBOUND[kind] for kind in type(failure).__mro__ if kind in _OUTBOUND)
    return CallFailure(step, problem, str(failure))


def of_token(failure: OAuthFailure, before: str = "", *, next_step: str = "") -> CallFailure:
    """A token request that failed; its class is the provider's. `before` is said before its words."""
    reason = f"{before} {failure}" if before else str(failure)
    said = {"code": failure.code, "said": failure.provider_said}
    return CallFailure(Step.TOKEN, failure.failure_class, reason, **said, next_step=next_step)


def of_status(status: int, said: str) -> CallFailure | None:
    """What a status means when it is no success; None for 2xx."""
    if 200 <= status < 300:
        return None
    problem = _BY_STATUS.get(status, Problem.API_BROKEN if status >= 500 else Problem.REFUSED)
    return CallFailure(Step.REPLY, problem, f"The API answered with status {status}.", code=str(status), said=said)


_BY_STATUS = {
    401: Problem.UNAUTHORIZED,
    403: Problem.FORBIDDEN,
    404: Problem.NOT_FOUND,
    410: Problem.NOT_FOUND,
    429: Problem.THROTTLED,
}

"""A card's call: its request made ready, authorized, sent, and the reply judged. Renders nothing, knows no preview."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from urllib.parse import urljoin, urlsplit

from pydantic import SecretStr

import outbound
from models import CardAuthorization, Connection
from models.types import utc_now
from oauth import scrub
from rendering import placeholders
from services.calling import call_authorization, call_failures, call_replies, dead_tokens
from services.calling.call_authorization import Credential
from services.calling.call_failures import CallFailure, Problem, Step
from services.calling.call_plans import Plan
from services.engine.tokens import Access
from services.resources import Resources
from services.setup.cards import METHODS
from services.slots import NoRoom

DEFAULT_HEADERS: Mapping[str, str] = MappingProxyType({"Accept": "application/json", "User-Agent": "Cardkey"})
REFRESHED = "The token had expired and was refreshed on the way."
RETRIED = "The API turned the token down, so it was refreshed and the call was made once more."
RETRIED_WITH_NEWER = "The API turned the token down, and a newer one was there already, so the call was made once more."
NOT_AGAIN = "The API turned the token down, which was refreshed only a moment ago, so it was not refreshed again."
NOT_RENEWED = "The API turned the token down, and there is no new one yet."
BY_RULE = "The API answered with status {status}, and its reply says that the token is not accepted."


@dataclass(frozen=True)
class Request:
    """A request as sent, fit to be shown: secret values are stars."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]


@dataclass
class Call:
    """What came of a call, as far as it went."""

    request: Request | None = None
    reply: outbound.Reply | None = None
    text: str = ""
    """The reply's body, scrubbed."""
    is_json: bool = False
    data: object = None
    """The reply's JSON, scrubbed."""
    notes: list[str] = field(default_factory=list)
    refused: bool = False
    """Whether the reply means that the token is no longer good, by the connection's rule."""
    failure: CallFailure | None = None
    secrets: list[SecretStr] = field(default_factory=list, repr=False)
    """Everything that must not be shown of this call."""

    @property
    def hidden(self) -> scrub.Hidden:
        """The call's secrets, made ready to be looked for in what comes back."""
        return scrub.Hidden(self.secrets)


@contextmanager
def slot(resources: Resources, workspace_id: uuid.UUID, card_id: uuid.UUID) -> Iterator[None]:
    """One of the places for calls of a card and of its workspace (EG-06). Raises CallFailure when all are taken."""
    settings = resources.settings
    most = {("card", card_id): settings.calls_per_card, ("workspace", workspace_id): settings.calls_per_workspace}
    try:
        with resources.slots.hold(most):
            yield
    except NoRoom:
        words = "Another preview is running, so this one was not started."
        raise CallFailure(Step.REQUEST, Problem.BUSY, words) from None


def call(resources: Resources, plan: Plan, values: Mapping[str, str]) -> Call:
    """Make the call with the conversation's `values`. Never raises for what the outside world does."""
    made = Call()
    try:
        headers = _prepare(resources, plan, values, made)
        _send(resources, plan, headers, made)
        _judge(plan, made)
    except CallFailure as failure:
        made.failure = failure
    return made


def _prepare(resources: Resources, plan: Plan, values: Mapping[str, str], made: Call) -> dict[str, str]:
    """Headers to send, with URL and headers filled and checked before any token is fetched."""
    try:
        url = outbound.check_url(placeholders.fill_url(plan.card.hook_url, values), resources.http.policy)
        headers, shown = _headers(plan, values, made)
    except outbound.OutboundFailure as failure:
        raise call_failures.of_outbound(failure) from None
    except (placeholders.PlaceholderProblem, outbound.BadHeader) as problem:
        raise CallFailure(Step.REQUEST, Problem.BAD_REQUEST, str(problem)) from None
    if plan.card.method not in METHODS:
        raise CallFailure(Step.REQUEST, Problem.BAD_REQUEST, f"The method must be one of {', '.join(METHODS)}.")
    made.request = Request(plan.card.method, url, tuple(shown.items()))
    return headers


def _headers(plan: Plan, values: Mapping[str, str], made: Call) -> tuple[dict[str, str], dict[str, str]]:
    """Headers as they are sent, and as they are shown."""
    given = {header.name.lower() for header in plan.headers}
    headers = {name: value for name, value in DEFAULT_HEADERS.items() if name.lower() not in given}
    shown = dict(headers)
    for header in plan.headers:
        value = placeholders.fill_header(header.value.get_secret_value(), values)
        outbound.check_header(header.name, value)
        headers[header.name], shown[header.name] = value, scrub.STARS if header.secret else value
        if header.secret:
            made.secrets += (header.value, SecretStr(value))
    return headers, shown


def _send(resources: Resources, plan: Plan, headers: dict[str, str], made: Call) -> None:
    """Authorize the request as the card says, and send it."""
    if plan.card.authorization is CardAuthorization.OAUTH:
        _send_with_token(resources, plan, headers, made)
        return
    if plan.card.authorization is CardAuthorization.HEADER:
        _authorize(headers, made, call_authorization.of_card(plan))
    _exchange(resources, headers, made)


def _send_with_token(resources: Resources, plan: Plan, headers: dict[str, str], made: Call) -> None:
    """Send with the connection's token; one refresh and one more try when the API turns it down (TK-13, P9)."""
    assert made.request is not None
    connection = call_authorization.usable(plan, made.request.url)
    access = call_authorization.access(resources, connection, token=plan.token)
    if access.refreshed:
        made.notes.append(REFRESHED)
    if not _refused(resources, connection, access, headers, made) or not call_authorization.renewable(plan, connection):
        return
    refused_at = utc_now()
    if dead_tokens.was_just_replaced(resources, connection, access):
        made.notes.append(NOT_AGAIN)
        return
    try:
        newer = call_authorization.access(resources, connection, access.generation)
    except CallFailure:
        made.notes.append(NOT_RENEWED)
        raise
    made.notes.append(RETRIED if newer.refreshed else RETRIED_WITH_NEWER)
    if not _refused(resources, connection, newer, headers, made):
        dead_tokens.learn(resources, connection, access, refused_at)


def _refused(resources: Resources, connection: Connection, access: Access, headers: dict[str, str], made: Call) -> bool:
    """Send once with a token; returns whether the API turns the token down."""
    _authorize(headers, made, call_authorization.of_token(access))
    made.refused = dead_tokens.refused(connection, _exchange(resources, headers, made))
    return made.refused


def _authorize(headers: dict[str, str], made: Call, credential: Credential) -> None:
    """Put the Authorization header on the request, and stars on the one that is shown."""
    assert made.request is not None
    credential.check()
    made.secrets += credential.secrets
    others = tuple(pair for pair in made.request.headers if pair[0] != "Authorization")
    made.request = replace(made.request, headers=(*others, ("Authorization", credential.shown)))
    headers["Authorization"] = credential.value.get_secret_value()


def _exchange(resources: Resources, headers: Mapping[str, str], made: Call) -> outbound.Reply:
    """One request and its reply; no redirect is followed (EG-04)."""
    assert made.request is not None
    try:
        made.reply = resources.http.send_now(
            made.request.method, made.request.url, headers=headers, limits=resources.call_limits
        )
    except outbound.OutboundFailure as failure:
        raise call_failures.of_outbound(failure) from None
    return made.reply


def _judge(plan: Plan, made: Call) -> None:
    """Read the reply, and raise CallFailure unless it is a success with JSON in it, or with nothing."""
    reply, hidden = made.reply, made.hidden
    assert reply is not None
    text = call_replies.text_of(reply)
    made.text, not_json = scrub.star(text, hidden), ""
    try:
        made.data = call_replies.json_of(text, hidden)
        made.is_json = bool(text.strip())
    except call_replies.NotJson as problem:
        not_json = str(problem)
    if 300 <= reply.status < 400 and "location" in reply.headers:
        words = f"The API answered with status {reply.status} and leads to {scrub.star(_target(reply), hidden)}."
        raise CallFailure(Step.REPLY, Problem.REDIRECT, words, code=str(reply.status))
    said = scrub.one_line(call_replies.said_in(made.data, made.text))
    failure = call_failures.of_status(reply.status, said)
    if failure is None and made.refused:
        words = BY_RULE.format(status=reply.status)
        failure = CallFailure(Step.REPLY, Problem.UNAUTHORIZED, words, code=str(reply.status), said=said)
    if failure is not None:
        raise call_authorization.why_refused(plan, failure, by_rule=made.refused)
    if not_json:
        raise CallFailure(Step.REPLY, Problem.NOT_JSON, not_json)


def _target(reply: outbound.Reply) -> str:
    """Host a redirect leads to; the rest of the address may hold secrets."""
    try:
        return urlsplit(urljoin(reply.url, reply.headers["location"])).hostname or "an address without a host"
    except ValueError:
        return "an address that cannot be read"

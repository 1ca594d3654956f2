"""The authorization of a card's call: whether a token may be used, where it may go, and what of it is shown."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from pydantic import SecretStr

import outbound
from models import CardAuthorization, Connection, ConnectionState, Token
from models.types import Undecryptable
from oauth.scrub import STARS
from oauth.vocabulary import OAuthFailure
from services.calling import call_failures
from services.calling.call_failures import CallFailure, Problem, Step
from services.calling.call_plans import Plan, unreadable
from services.engine import advice, states, tokens
from services.engine.hosts import Paused
from services.engine.tokens import Access, BeingRefreshed
from services.errors import NotFound
from services.resources import Resources

SCHEMES = frozenset({"basic", "bearer", "token", "apikey"})
UNAUTHORIZED = frozenset({ConnectionState.DRAFT, ConnectionState.CONFIGURED, ConnectionState.DISCONNECTED})
ENDED = frozenset({ConnectionState.REAUTH_REQUIRED, ConnectionState.MISCONFIGURED})
"""The provider has said no: a token that is still valid may be used, and no new one is asked for."""
TRY_ANOTHER = (
    "Press Authorize on the connection. If the API refuses the new token as well, check that the connection is meant "
    "for this API."
)


@dataclass(frozen=True)
class Credential:
    """A value of the Authorization header."""

    value: SecretStr

    @property
    def shown(self) -> str:
        """Stars, after the scheme where it is a known one; never a character of the secret."""
        scheme, _, rest = self.value.get_secret_value().partition(" ")
        return f"{scheme} {STARS}" if rest and scheme.lower() in SCHEMES else STARS

    @property
    def secrets(self) -> list[SecretStr]:
        """The value and each part of it that an API may echo on its own."""
        scheme, _, rest = self.value.get_secret_value().partition(" ")
        password = _password(rest) if scheme.lower() == "basic" else ""
        return [self.value, *(SecretStr(part) for part in (rest, password) if part)]

    def check(self) -> None:
        """Refuse what cannot stand in a header. Raises CallFailure."""
        try:
            outbound.check_header("X-Authorization", self.value.get_secret_value())  # the name itself is ours to set
        except outbound.BadHeader as problem:
            raise CallFailure(Step.REQUEST, Problem.BAD_REQUEST, f"Authorization header: {problem}") from None


def of_card(plan: Plan) -> Credential:
    """The Authorization header stored on the card. Raises CallFailure."""
    if plan.authorization_header is None:
        words = "The card has an Authorization header without a value."
        raise CallFailure(Step.REQUEST, Problem.SECRET_MISSING, words)
    return Credential(plan.authorization_header)


def of_token(access: Access) -> Credential:
    """How a token is sent (RFC 6750 §2.1)."""
    return Credential(SecretStr(f"{access.token_type or 'Bearer'} {access.token.get_secret_value()}"))


def usable(plan: Plan, url: str) -> Connection:
    """The card's connection, if its token may be used for `url`. Raises CallFailure."""
    connection, host = plan.connection, outbound.origin(url)
    if connection is None:
        raise CallFailure(Step.CONNECTION, Problem.NO_CONNECTION, "The card uses OAuth, but no connection is chosen.")
    if connection.state in UNAUTHORIZED:
        words = f"Nobody has authorized the connection {connection.name} yet, or it was disconnected."
        raise CallFailure(Step.CONNECTION, Problem.NOT_AUTHORIZED, words)
    if connection.state is ConnectionState.PAUSED:
        raise CallFailure(Step.CONNECTION, Problem.PAUSED, f"The connection {connection.name} is paused.")
    if host not in connection.api_hosts:
        allowed = ", ".join(connection.api_hosts) or "no host yet"
        words = f"The token of {connection.name} may be sent to {allowed}, and not to {host}."
        raise CallFailure(Step.TOKEN, Problem.WRONG_HOST, words)
    if not plan.token_is_valid and (connection.state in ENDED or not plan.token_is_renewable):
        raise _ended(plan, connection)
    return connection


def renewable(plan: Plan, connection: Connection) -> bool:
    """Whether asking for a new token makes sense when the API turns the present one down."""
    return plan.token_is_renewable and connection.state not in ENDED


def access(
    resources: Resources, connection: Connection, refused: int | None = None, *, token: Token | None = None
) -> Access:
    """`tokens.access`, with its refusals in a card's words. Raises CallFailure.

    `token` is the row that was read together with `connection`, this very moment.
    """
    seen = None if token is None else (connection, token)
    try:
        return tokens.access(resources, connection.workspace_id, connection.id, refused=refused, seen=seen)
    except OAuthFailure as failure:
        raise call_failures.of_token(failure) from None
    except BeingRefreshed as busy:
        raise CallFailure(Step.TOKEN, Problem.BEING_REFRESHED, str(busy)) from None
    except Paused as pause:
        raise _paused(resources, connection, pause, refused) from None
    except NotFound as problem:
        raise CallFailure(Step.CONNECTION, Problem.NOT_AUTHORIZED, str(problem)) from None
    except Undecryptable as problem:
        raise unreadable(problem) from None


def why_refused(plan: Plan, failure: CallFailure, *, by_rule: bool) -> CallFailure:
    """The API's refusal in the light of the connection: where that can get no new token, this is the cause.

    `by_rule`: by the connection's rule the token is no longer good. Else a 401 says as much, and a 403 may.
    """
    connection, kind = plan.connection, failure.failure_class
    if connection is None or plan.card.authorization is not CardAuthorization.OAUTH:
        return failure
    if not by_rule and kind not in (Problem.UNAUTHORIZED, Problem.FORBIDDEN):
        return failure
    if connection.state in ENDED:
        certain = by_rule or kind is Problem.UNAUTHORIZED
        explain = _refused_after_the_end if certain else _forbidden_after_the_end
        return explain(connection, _step(plan, connection), failure)
    if by_rule and not plan.token_is_renewable:
        words = f"{failure.failure_reason} The provider gave nothing to renew the token with."
        said = {"code": failure.failure_code, "said": failure.failure_said}
        return CallFailure(Step.REPLY, Problem.UNAUTHORIZED, words, **said, next_step=TRY_ANOTHER)
    return failure


def _refused_after_the_end(connection: Connection, step: str, failure: CallFailure) -> CallFailure:
    """The provider has said no, and the API takes the old token no longer: the reason is the provider's."""
    on_record = states.failure_of(connection)
    if on_record is None:
        words = f"{failure.failure_reason} No new token is asked for: the connection is at “{connection.state.shown}”."
        return CallFailure(Step.TOKEN, Problem.NOT_AUTHORIZED, words)
    before = f"{failure.failure_reason} No new token is asked for, because of this:"
    return call_failures.of_token(on_record, before, next_step=step)


def _forbidden_after_the_end(connection: Connection, step: str, failure: CallFailure) -> CallFailure:
    """A refusal that may mean the token's end or something else: both are told, the likelier first."""
    words = f"{failure.failure_reason} The connection is at “{connection.state.shown}”, which may be why."
    step = f"{step or Problem.NOT_AUTHORIZED.next_step} If the API still refuses: {failure.next_step}"
    said = {"code": failure.failure_code, "said": failure.failure_said}
    return CallFailure(Step.REPLY, Problem.FORBIDDEN, words, **said, next_step=step)


def _ended(plan: Plan, connection: Connection) -> CallFailure:
    """The token has run out and there is no way to a new one but a person's: with the reason on record."""
    failure = states.failure_of(connection)
    if failure is None:
        words = f"The token of {connection.name} has run out, and the provider gave nothing to renew it with."
        return CallFailure(Step.TOKEN, Problem.NOT_AUTHORIZED, words)
    return call_failures.of_token(failure, next_step=_step(plan, connection))


def _step(plan: Plan, connection: Connection) -> str:
    """What an admin should do about the failure on record; empty where there is none."""
    assert plan.token is not None, "every connection has its token"
    return advice.next_step(connection, plan.token)


def _paused(resources: Resources, connection: Connection, pause: Paused, refused: int | None) -> CallFailure:
    """A pause that began while a new token was needed: of the connection alone, or of its provider or everything."""
    with resources.database.session() as session:
        row = session.get(Connection, connection.id)
    if row is not None and row.state is ConnectionState.PAUSED:
        return CallFailure(Step.CONNECTION, Problem.PAUSED, f"The connection {row.name} is paused.")
    why = "The token has run out" if refused is None else "The API turned the token down"
    return CallFailure(Step.TOKEN, Problem.REFRESHES_PAUSED, f"{why}, and a new one has to wait. {pause}")


def _password(credential: str) -> str:
    """The password inside a Basic credential (RFC 7617)."""
    try:
        return base64.b64decode(credential, validate=True).decode("utf-8", "replace").partition(":")[2]
    except binascii.Error:
        return ""

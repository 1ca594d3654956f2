"""What an admin types for a connection, and everything that can be wrong with it. Reads, never writes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr
from sqlmodel import Session, col, func, select

import outbound
from models import Connection
from oauth import expressions
from oauth.fields import MAPPABLE, TOKENS
from oauth.grants import GRANTS, PROTECTED_PARAMS
from oauth.vocabulary import ClientAuthMethod, GrantType, LifetimeUnit

LONGEST_TEXT = 8192
LONGEST_NAME = 100
MOST_PARAMS = 30
UNSENDABLE = re.compile("[\x00-\x1f\x7f]")
ENDPOINTS = {
    "authorization_endpoint": "Authorization Endpoint",
    "token_endpoint": "Token Endpoint",
    "revocation_endpoint": "Revocation Endpoint",
    "introspection_endpoint": "Introspection Endpoint",
}
TEXTS = {"client_id": "Client ID", "scope": "Scope", "audience": "Audience"}


@dataclass(frozen=True)
class Configuration:
    """One connection as typed. `client_secret` is None where nothing was typed, which keeps the stored one."""

    name: str
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
    reply_mapping: Mapping[str, str] = field(default_factory=dict)
    introspection_endpoint: str = ""
    expires_in_unit: LifetimeUnit = LifetimeUnit.SECONDS
    assumed_lifetime: float | None = None
    """Seconds, as the other times."""
    longest_lifetime: float | None = None
    earliest_refresh: float | None = None
    idle_limit: float | None = None
    dead_statuses: Sequence[int] = (401,)
    dead_expression: str = ""
    keep_old_secret: bool = False
    """Whether the client secret that worked last stays beside a new one."""

    def columns(self) -> dict[str, Any]:
        """Column values of a `Connection`, the secret left out."""
        values = dict(self.__dict__)
        del values["client_secret"], values["keep_old_secret"]
        values["reply_mapping"] = dict(self.reply_mapping)
        values["dead_statuses"] = list(self.dead_statuses)
        values["name"] = " ".join(self.name.split())
        values["authorization_params"] = dict(self.authorization_params)
        values["token_params"] = dict(self.token_params)
        values["refresh_kind"] = GRANTS[self.grant_type].refresh_kind
        return values


def problems(
    session: Session,
    policy: outbound.Policy,
    workspace_id: uuid.UUID,
    typed: Configuration,
    existing: Connection | None,
) -> dict[str, str]:
    """Everything wrong with what was typed: name of the field → words to act on. Empty when it will do."""
    found = _name(session, workspace_id, typed.name, existing)
    for name, label in TEXTS.items():
        found |= _text(name, label, getattr(typed, name))
    for name, label in ENDPOINTS.items():
        found |= _endpoint(name, label, getattr(typed, name), policy)
    found |= _required(typed)
    if typed.token_endpoint and typed.token_endpoint == typed.authorization_endpoint:
        found["token_endpoint"] = (
            "This looks like the authorization endpoint pasted twice. The Token Endpoint is another address."
        )
    found |= _issuer(typed.issuer)
    for name in ("authorization_params", "token_params"):
        found |= _params(name, getattr(typed, name))
    return found | _mapping(typed.reply_mapping) | _lives(typed)


def _lives(typed: Configuration) -> dict[str, str]:
    """What is wrong with the lives of tokens as typed: times that cannot all be kept, an expression that is none."""
    found: dict[str, str] = {}
    words = expressions.problem(typed.dead_expression) if typed.dead_expression else ""
    if words:
        found["dead_expression"] = words
    earliest, longest, idle = typed.earliest_refresh, typed.longest_lifetime, typed.idle_limit
    if earliest is not None and longest is not None and earliest >= longest:
        found["earliest_refresh"] = "This has to be shorter than the longest lifetime, or tokens run out before it."
    if earliest is not None and idle is not None and earliest > idle / 2 and GRANTS[typed.grant_type].needs_person:
        found["earliest_refresh"] = (
            "This may be half at most of the time after which an unused refresh token ends, or it ends before it."
        )
    return found


def _name(session: Session, workspace_id: uuid.UUID, name: str, existing: Connection | None) -> dict[str, str]:
    name = " ".join(name.split())
    if not name:
        return {"name": "Give the connection a name, such as the provider's."}
    if len(name) > LONGEST_NAME:
        return {"name": f"Use at most {LONGEST_NAME} characters."}
    same = select(Connection.id).where(
        Connection.workspace_id == workspace_id, func.lower(Connection.name) == func.lower(name)
    )
    if existing is not None:
        same = same.where(col(Connection.id) != existing.id)
    if session.exec(same).first() is not None:
        return {"name": "This workspace has a connection of that name already. Choose another name."}
    return {}


def _text(name: str, label: str, value: str) -> dict[str, str]:
    if len(value) > LONGEST_TEXT:
        return {name: f"{label} may hold {LONGEST_TEXT} characters at most."}
    if UNSENDABLE.search(value):
        return {name: f"{label} is one line without control characters. Paste it once more, without line breaks."}
    return {}


def address_problem(label: str, address: str, policy: outbound.Policy) -> str:
    """Why an address may not be called, in words that speak of it by its label; empty when it may."""
    try:
        outbound.check_url(address, policy)
    except outbound.OutboundFailure as problem:
        return re.sub(r"^(The|This|An) address\b", label, str(problem))
    return ""


def _endpoint(name: str, label: str, value: str, policy: outbound.Policy) -> dict[str, str]:
    words = address_problem(label, value, policy) if value else ""
    return {name: words} if words else {}


def _required(typed: Configuration) -> dict[str, str]:
    found: dict[str, str] = {}
    if not typed.client_id:
        found["client_id"] = "Enter the Client ID that the provider gave you."
    if not typed.token_endpoint:
        found["token_endpoint"] = "Enter the Token Endpoint; the provider's documentation names it."
    if GRANTS[typed.grant_type].needs_person and not typed.authorization_endpoint:
        found["authorization_endpoint"] = (
            "Enter the Authorization Endpoint; the provider's documentation names it beside the Token Endpoint."
        )
    return found


def _issuer(value: str) -> dict[str, str]:
    """An issuer is compared, never called (RFC 8414 §2), so only its shape matters."""
    if value and (not value.startswith(("https://", "http://localhost", "http://127.0.0.1")) or "?" in value):
        return {"issuer": "Issuer is an address starting with https://, exactly as the provider publishes it."}
    return _text("issuer", "Issuer", value)


def _mapping(mapping: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with a reply mapping. A token is pointed at, never written down: this is no place for secrets."""
    for name, expression in mapping.items():
        if name not in MAPPABLE:
            return {"reply_mapping": f"Before the equals sign goes one of: {', '.join(MAPPABLE)}."}
        words = expressions.problem(expression)
        if words:
            return {"reply_mapping": f"{name}: {words}"}
        if name in TOKENS and expressions.find(expression, None) is not None:
            return {"reply_mapping": f"{name}: say where in the reply it stands, and not what it is."}
    return {}


def _params(name: str, params: Mapping[str, str]) -> dict[str, str]:
    protected = sorted(set(params) & PROTECTED_PARAMS)
    if protected:
        return {name: f"{protected[0]} is set by Cardkey itself and cannot be given here."}
    if len(params) > MOST_PARAMS:
        return {name: f"Give at most {MOST_PARAMS} parameters."}
    if any(UNSENDABLE.search(key + value) or len(key + value) > LONGEST_TEXT for key, value in params.items()):
        return {name: "A parameter is one line without control characters."}
    return {}

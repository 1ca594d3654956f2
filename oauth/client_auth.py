"""Client authentication at the token endpoint (RFC 6749 §2.3), as callables Authlib's client can use."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote_plus

from pydantic import SecretStr

from oauth.vocabulary import ClientAuthMethod, Registration

SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.~-"


def basic(client: Any, _method: str, uri: str, headers: dict[str, str], body: str) -> tuple[str, dict[str, str], str]:
    """Basic with id and secret form-encoded first, as RFC 6749 §2.3.1 asks."""
    return uri, _with_basic(headers, quote_plus(client.client_id), quote_plus(client.client_secret or "")), body


def basic_raw(
    client: Any, _method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    """Basic as most HTTP libraries do it, for servers that decode nothing."""
    return uri, _with_basic(headers, client.client_id, client.client_secret or ""), body


def in_body(client: Any, _method: str, uri: str, headers: dict[str, str], body: str) -> tuple[str, dict[str, str], str]:
    """Id and secret in the body (RFC 6749 §2.3.1), as Authlib does it but without reading the body back first."""
    return uri, headers, _added(body, {"client_id": client.client_id, "client_secret": client.client_secret or ""})


def id_in_body(
    client: Any, _method: str, uri: str, headers: dict[str, str], body: str
) -> tuple[str, dict[str, str], str]:
    """A client without a secret names itself (RFC 6749 §3.2.1)."""
    return uri, headers, _added(body, {"client_id": client.client_id})


AUTHENTICATORS = {
    ClientAuthMethod.BASIC: basic,
    ClientAuthMethod.BASIC_RAW: basic_raw,
    ClientAuthMethod.POST: in_body,
    ClientAuthMethod.NONE: id_in_body,
}


def candidates(registration: Registration, worked: ClientAuthMethod | None) -> Iterator[ClientAuthMethod]:
    """Methods to try in order: what was chosen, what worked last, or Basic, body, raw Basic; never two at once."""
    chosen = registration.token_endpoint_auth_method
    if chosen is not ClientAuthMethod.AUTOMATIC:
        yield chosen
    elif registration.client_secret is None:
        yield ClientAuthMethod.NONE
    else:
        order = [ClientAuthMethod.BASIC, ClientAuthMethod.POST]
        if _encoding_matters(registration):
            order.append(ClientAuthMethod.BASIC_RAW)
        if worked in order:
            order.remove(worked)
            order.insert(0, worked)
        yield from order


@dataclass(frozen=True)
class Proof:
    """One way of proving to be the client."""

    method: ClientAuthMethod
    secret: SecretStr | None = None
    secret_id: uuid.UUID | None = None


def proofs(registration: Registration, worked: ClientAuthMethod | None) -> Iterator[Proof]:
    """What to try in order; the other secret once, after the first one.

    Between two secrets, where a method has worked before, it is the secret that is refused and not the method:
    then each is tried by that method alone, since providers count what does not fit.
    """
    first = [
        Proof(method, registration.client_secret, registration.client_secret_id)
        for method in candidates(registration, worked)
    ]
    if registration.other_secret is None:
        yield from first
        return
    other = replace(registration, client_secret=registration.other_secret)
    second = [
        Proof(method, registration.other_secret, registration.other_secret_id) for method in candidates(other, worked)
    ]
    alike = {worked}
    if worked is ClientAuthMethod.BASIC and not _encoding_matters(registration):
        alike.add(ClientAuthMethod.BASIC_RAW)  # how this provider decodes has not shown yet
    known = first[0].method is worked
    yield from first[:1] if known else first
    yield from (proof for proof in second if not known or proof.method in alike)


def _encoding_matters(registration: Registration) -> bool:
    secret = registration.client_secret.get_secret_value() if registration.client_secret else ""
    return quote_plus(registration.client_id) + quote_plus(secret) != registration.client_id + secret


def form(params: Mapping[str, str]) -> str:
    """`params` form-encoded (RFC 6749 App. B); what needs no encoding is not looked at twice."""
    return "&".join([f"{_encoded(name)}={_encoded(value)}" for name, value in params.items()])


def _encoded(text: str) -> str:
    return text if text.isascii() and not text.encode().translate(None, SAFE) else quote_plus(text)


def _added(body: str, params: Mapping[str, str]) -> str:
    return f"{body}&{form(params)}" if body else form(params)


def _with_basic(headers: dict[str, str], user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {**headers, "Authorization": f"Basic {pair}"}

"""Token, revocation and metadata endpoints (RFC 6749 §3.2, RFC 7009, RFC 8414)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import unquote_plus

from flask import Blueprint, Response, jsonify, request

from rehearsal.authorize import state
from rehearsal.state import AUDIENCE, CLIENTS, SCOPES, Client, digest

blueprint = Blueprint("token", __name__)
Reply = tuple[Response, int]


class Refused(Exception):
    """An error reply of RFC 6749 §5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        """`error` is the RFC's code."""
        super().__init__(description)
        self.error, self.status = error, status


@blueprint.post("/token")
def token() -> Reply:
    """One token request, as the grant has it, or as a switched-on behaviour wants it."""
    memory = state()
    grant_type = request.form.get("grant_type", "")
    odd, argument = memory.switched("token")
    memory.counts[f"token_{grant_type}"] += 1  # after the switch was read, so that a test may turn it when this counts
    if odd in BEHAVIOURS:
        reply = BEHAVIOURS[odd](argument)
        if reply is not None:
            return reply
    with memory.change():  # on disk, a refusal's consequences too, before the answer leaves
        try:
            body = _granted(grant_type)
        except Refused as problem:
            memory.note("refused", f"refused: {problem.error}")
            return jsonify(error=problem.error, error_description=str(problem)), problem.status
    if odd in ODD_REPLIES:
        body = ODD_REPLIES[odd](body, argument)
    return jsonify(body), 200


@blueprint.post("/revoke")
def revoke() -> Reply:
    """Forget a token and its family; unknown tokens are fine (RFC 7009 §2.2)."""
    try:
        _authenticate()
    except Refused as problem:
        return jsonify(error=problem.error, error_description=str(problem)), problem.status
    memory, key = state(), digest(request.form.get("token", ""))
    with memory.change():
        found = memory.refresh.get(key) or memory.access.get(key)
        if found is not None:
            memory.end(found.family)
        memory.note("revoked", "a token was revoked")
    return jsonify({}), 200


@blueprint.get("/.well-known/oauth-authorization-server")
def metadata() -> Response:
    """What this server can do."""
    issuer = state().issuer
    return jsonify(
        issuer=issuer,
        authorization_endpoint=f"{issuer}/authorize",
        token_endpoint=f"{issuer}/token",
        revocation_endpoint=f"{issuer}/revoke",
        response_types_supported=["code"],
        response_modes_supported=["query", "form_post"],
        grant_types_supported=["authorization_code", "refresh_token", "client_credentials"],
        token_endpoint_auth_methods_supported=["client_secret_basic", "client_secret_post"],
        code_challenge_methods_supported=["S256"],
        scopes_supported=list(SCOPES),
        authorization_response_iss_parameter_supported=True,
    )


def _granted(grant_type: str) -> dict[str, object]:
    """The reply to a client that may have one. Raises Refused."""
    client = _authenticate()
    if grant_type not in client.grant_types:
        known = grant_type in GRANTS
        raise Refused("unauthorized_client" if known else "unsupported_grant_type", "Not a grant of this client.")
    body = GRANTS[grant_type](client)
    state().note(f"issued_{grant_type}", f"token for {client.client_id} by {grant_type}")
    return body


def _authenticate() -> Client:
    """Basic, form-decoded as RFC 6749 §2.3.1 asks, or body; never both."""
    header = request.headers.get("Authorization", "")
    in_body = "client_secret" in request.form
    if header and in_body:
        raise Refused("invalid_request", "The client authenticated in two ways at once.")
    client_id, secret = request.form.get("client_id", ""), request.form.get("client_secret", "")
    if header:
        client_id, secret = _basic(header)
    client = CLIENTS.get(client_id)
    if client is None or not secrets.compare_digest(client.secret.encode(), secret.encode()):
        raise Refused("invalid_client", "There is no such client, or its secret is another one.", 401)
    return client


def _basic(header: str) -> tuple[str, str]:
    try:
        pair = base64.b64decode(header.removeprefix("Basic "), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Refused("invalid_client", "The Authorization header is not Basic.", 401) from None
    user, _, password = pair.partition(":")
    return unquote_plus(user), unquote_plus(password)


def _authorization_code(client: Client) -> dict[str, object]:
    memory, key = state(), digest(request.form.get("code", ""))
    code = memory.codes.get(key)
    if code is None or code.client_id != client.client_id or code.expires < time.time():
        raise Refused("invalid_grant", "There is no such code, or it has expired.")
    if code.used:
        memory.end(code.family)
        raise Refused("invalid_grant", "This code was used before; what it gave is revoked.")
    if code.redirect_uri != request.form.get("redirect_uri"):
        raise Refused("invalid_grant", "The redirect URL is not the one of the authorization request.")
    verifier = request.form.get("code_verifier", "")
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    if bool(code.challenge) != bool(verifier) or (code.challenge and challenge != code.challenge):
        raise Refused("invalid_grant", "The code verifier does not fit the code challenge.")
    memory.codes[key] = replace(code, used=True)
    return memory.issue(client.client_id, code.scope, code.person, code.family, "", renewable=True)


def _refresh_token(client: Client) -> dict[str, object]:
    memory, key = state(), digest(request.form.get("refresh_token", ""))
    old = memory.refresh.get(key)
    if old is None or old.client_id != client.client_id or not memory.alive(old):
        raise Refused("invalid_grant", "There is no such refresh token, or it was revoked.")
    if old.used:
        memory.end(old.family)
        raise Refused("invalid_grant", "This refresh token was used before; the whole authorization is revoked.")
    scope = " ".join(request.form.get("scope", "").split()) or old.scope
    if set(scope.split()) - set(old.scope.split()):
        raise Refused("invalid_scope", "A refresh cannot widen the scope.")
    memory.refresh[key] = replace(old, used=True)
    return memory.issue(client.client_id, scope, old.person, old.family, "", renewable=True)


def _client_credentials(client: Client) -> dict[str, object]:
    scope = " ".join(request.form.get("scope", "").split()) or SCOPES[0]
    if set(scope.split()) - set(SCOPES):
        raise Refused("invalid_scope", f"There are: {', '.join(SCOPES)}.")
    audience = request.form.get("audience", "")
    if audience and audience != AUDIENCE:
        raise Refused("invalid_target", f"The audience here is {AUDIENCE}.")
    return state().issue(client.client_id, scope, "", secrets.token_hex(8), audience, renewable=False)


GRANTS: dict[str, Callable[[Client], dict[str, object]]] = {
    "authorization_code": _authorization_code,
    "refresh_token": _refresh_token,
    "client_credentials": _client_credentials,
}


def _slow(seconds: str) -> None:
    time.sleep(float(seconds))


def _status(code: str) -> Reply:
    return jsonify(message="The rehearsal provider was told to fail."), int(code)


def _dead(_argument: str) -> Reply:
    return jsonify(error="invalid_grant", error_description="The rehearsal provider was told to refuse."), 400


def _echo(_argument: str) -> Reply:
    sent = " ".join(f"{name}={value}" for name, value in request.form.items())
    header = request.headers.get("Authorization", "")
    return jsonify(error="invalid_request", error_description=f"You sent {sent} with {header}"), 400


BEHAVIOURS: dict[str, Callable[[str], Reply | None]] = {
    "delay": _slow,
    "status": _status,
    "invalid_grant": _dead,
    "echo": _echo,
}
"""Switches of the token endpoint, `name:argument`; one that returns nothing lets the request go on."""


def _left_out(body: dict[str, object], names: str) -> dict[str, object]:
    return {name: value for name, value in body.items() if name not in names.split(",")}


def _scope(body: dict[str, object], scope: str) -> dict[str, object]:
    return {**body, "scope": scope}


def _wrapped(body: dict[str, object], name: str) -> dict[str, object]:
    return {"status": "success", name: body}


def _renamed(body: dict[str, object], _argument: str) -> dict[str, object]:
    """In a form of its own: no name of RFC 6749 stands where it should."""
    names = {"access_token": "token", "refresh_token": "renewal_token", "expires_in": "ttl"}
    return {"status": "success", "data": {names.get(name, name): value for name, value in body.items()}}


ODD_REPLIES: dict[str, Callable[[dict[str, object], str], dict[str, object]]] = {
    "without": _left_out,
    "scope": _scope,
    "wrapped": _wrapped,
    "renamed": _renamed,
}
"""Switches that change what a successful reply says: `without:refresh_token,scope`, `scope:orders.read`,
`wrapped:data`, `renamed`."""

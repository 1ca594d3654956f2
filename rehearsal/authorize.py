"""The authorization endpoint (RFC 6749 §4.1): sign in, agree or refuse, go back with a code."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

from flask import Blueprint, current_app, make_response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from rehearsal.state import CLIENTS, PEOPLE, SCOPES, Client, State, digest

blueprint = Blueprint("authorize", __name__)
COOKIE = "rehearsal"
Page = str | AnyResponse | tuple[str, int]


def state() -> State:
    """What the provider remembers."""
    found = current_app.extensions["state"]
    assert isinstance(found, State)
    return found


@blueprint.get("/authorize")
def ask() -> Page:
    """Check the request, then show sign-in or consent."""
    client, problem = _client(request.args.get("client_id", ""), request.args.get("redirect_uri", ""))
    if client is None:
        return render_template("problem.html", words=problem), 400
    error = _request_error()
    if error:
        return back({"error": error[0], "error_description": error[1]})
    memory = state()
    memory.note("authorize", f"authorization asked for by {client.client_id}")
    if memory.switched("authorize")[0] == "deny":
        return back({"error": "access_denied", "error_description": "The rehearsal provider was told to refuse."})
    if memory.auto_consent:
        return _agree(next(iter(PEOPLE)))
    person = memory.sessions.get(digest(request.cookies.get(COOKIE, "")))
    if person is None:
        return render_template("sign_in.html", client=client, people=PEOPLE, error="")
    return render_template("consent.html", client=client, person=person, scopes=request.args.get("scope", "").split())


@blueprint.post("/authorize")
def answer() -> Page:
    """Sign-in or consent, posted back to the same address with its query."""
    client, problem = _client(request.args.get("client_id", ""), request.args.get("redirect_uri", ""))
    if client is None:
        return render_template("problem.html", words=problem), 400
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return render_template("problem.html", words="This answer came from another site."), 403
    action = request.form.get("action")
    if action == "sign-in":
        return _sign_in(client)
    person = state().sessions.get(digest(request.cookies.get(COOKIE, "")))
    if action == "allow" and person:
        return _agree(person)
    return back({"error": "access_denied", "error_description": "The person refused."})


def back(params: dict[str, str]) -> AnyResponse:
    """To the client's redirect URI (RFC 6749 §4.1.2), with `iss` (RFC 9207); by POST where it asked for that."""
    memory, target = state(), request.args["redirect_uri"]
    params = {**params, "iss": memory.issuer}
    if "state" in request.args:
        params["state"] = request.args["state"]
    odd, argument = memory.switched("authorize")
    if odd in ODD_ANSWERS:
        params = ODD_ANSWERS[odd](params, argument)
    if odd == "never":
        return make_response(render_template("problem.html", words="The rehearsal provider was told not to go back."))
    if request.args.get("response_mode") == "form_post" or odd == "form_post":
        return make_response(render_template("form_post.html", target=target, params=params))
    return redirect(f"{target}{'&' if urlsplit(target).query else '?'}{urlencode(params)}", 303)


def _sign_in(client: Client) -> Page:
    person = request.form.get("person", "")
    if PEOPLE.get(person) != request.form.get("password"):
        words = "That is not the practice password; it stands below."
        return render_template("sign_in.html", client=client, people=PEOPLE, error=words), 422
    token = secrets.token_urlsafe(16)
    with state().change():
        state().sessions[digest(token)] = person
    response = redirect(request.full_path, 303)
    response.set_cookie(COOKIE, token, httponly=True, samesite="Lax")
    return response


def _agree(person: str) -> AnyResponse:
    memory = state()
    scope = " ".join(request.args.get("scope", "").split()) or SCOPES[0]
    with memory.change():
        code = memory.new_code(
            request.args["client_id"],
            request.args["redirect_uri"],
            scope,
            person,
            request.args.get("code_challenge", ""),
        )
        memory.note("code", f"{person} agreed")
    return back({"code": code})


def _client(client_id: str, redirect_uri: str) -> tuple[Client | None, str]:
    """The client, or why nothing may be sent to that redirect URI (RFC 6749 §4.1.2.1).

    Any loopback address with the callback's fixed path is registered, so that a portal on another port works too.
    """
    client = CLIENTS.get(client_id)
    if client is None or "authorization_code" not in client.grant_types:
        return None, f"No client with the id “{client_id[:60]}” may ask people here."
    target = urlsplit(redirect_uri)
    local = target.hostname in ("127.0.0.1", "localhost", "::1")
    if not local or target.scheme not in ("http", "https") or not target.path.startswith("/auth/provider/callback"):
        return None, f"The redirect URL “{redirect_uri[:200]}” is not registered for this client."
    return client, ""


def _request_error() -> tuple[str, str] | None:
    if request.args.get("response_type") != "code":
        return "unsupported_response_type", "Only response_type=code is served."
    unknown = set(request.args.get("scope", "").split()) - set(SCOPES)
    if unknown:
        return "invalid_scope", f"There is no scope {min(unknown)[:60]}. There are: {', '.join(SCOPES)}."
    if "code_challenge" in request.args and request.args.get("code_challenge_method") != "S256":
        return "invalid_request", "Only the code challenge method S256 is served."
    return None


def _error(params: dict[str, str], argument: str) -> dict[str, str]:
    """`code=words` instead of the code."""
    code, _, words = argument.partition("=")
    kept = {name: value for name, value in params.items() if name != "code"}
    return {**kept, "error": code, "error_description": words}


def _without(name: str) -> Callable[[dict[str, str], str], dict[str, str]]:
    return lambda params, _argument: {key: value for key, value in params.items() if key != name}


ODD_ANSWERS: dict[str, Callable[[dict[str, str], str], dict[str, str]]] = {
    "wrong_state": lambda params, _argument: {**params, "state": "not-the-state-that-was-sent"},
    "missing_state": _without("state"),
    "cut_state": lambda params, argument: {**params, "state": params.get("state", "")[: int(argument or 20)]},
    "missing_iss": _without("iss"),
    "iss": lambda params, argument: {**params, "iss": argument},
    "extra_fields": lambda params, _argument: {**params, "session_state": "abc", "authuser": "0", "prompt": "consent"},
    "other_name": lambda params, _argument: {**_without("code")(params, ""), "auth_code": params.get("code", "")},
    "error": _error,
}
"""Switches of the authorization endpoint, `name:argument`, that change what goes back; others are looked up above."""

"""Wiring of the rehearsal provider: its pages, its control endpoint, headers."""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify, redirect, render_template, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from rehearsal import api, authorize, failures, token
from rehearsal.state import AUDIENCE, CLIENTS, PEOPLE, State

# A consent form that ends in a redirect to the client would be stopped by form-action, so it is left open.
CSP = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"


def create_app(state: State) -> Flask:
    """The provider around `state`."""
    app = Flask(__name__)
    app.extensions["state"] = state
    for module in (authorize, token, api, failures):
        app.register_blueprint(module.blueprint)
    app.add_url_rule("/", view_func=start)
    app.add_url_rule("/control", view_func=control, methods=["GET", "POST"])
    app.add_url_rule("/lifetime", view_func=change_lifetime, methods=["POST"])
    app.register_error_handler(404, show_missing)
    app.after_request(add_headers)
    return app


def add_headers(response: Response) -> Response:
    """Strict headers, as a real provider sends; COOP where switched on."""
    response.headers.setdefault("Content-Security-Policy", CSP)
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-store" if request.endpoint != "static" else "max-age=300"
    if "coop" in authorize.state().behaviours:
        response.headers["Cross-Origin-Opener-Policy"] = authorize.state().behaviours["coop"]
    return response


def start() -> str:
    """What this is, the values to enter, and what happened last."""
    state = authorize.state()
    return render_template(
        "start.html",
        state=state,
        clients=CLIENTS.values(),
        audience=AUDIENCE,
        people=PEOPLE,
        failing=failures.switched_on(),
        events=state.events[::-1],
    )


def change_lifetime() -> AnyResponse | tuple[str, int]:
    """The form on the start page. A foreign page may not post here."""
    if failures.is_foreign():
        return "Use the form on this server's own page.", 403
    try:
        lifetime = min(max(float(request.form.get("lifetime", "")), 1.0), 86400.0 * 365)
    except ValueError:
        return render_template("problem.html", words="A lifetime is a number of seconds, such as 30.", back=True), 422
    state = authorize.state()
    with state.change():
        state.lifetime = lifetime
    return redirect("/", 303)


def show_missing(_error: HTTPException) -> Response:
    """A mistyped endpoint: a page for people, a sentence for programs."""
    words = f"There is nothing at {request.path} here."
    if request.method == "GET":
        return Response(render_template("problem.html", words=words), 404)
    return Response(words, 404, mimetype="text/plain")


def control() -> Response:
    """For tests and scripts: read counters, change behaviours. JSON both ways."""
    state = authorize.state()
    if request.method == "POST":
        _apply(state, request.get_json())
    with state.lock:
        return jsonify(
            counts=dict(state.counts),
            lifetime=state.lifetime,
            behaviours=dict(state.behaviours),
            access_tokens=len(state.access),
            refresh_tokens=sum(not token.used for token in state.refresh.values()),
            dead_families=len(state.dead_families),
        )


def _apply(state: State, wishes: dict[str, Any]) -> None:
    with state.change():
        if wishes.get("reset"):
            state.reset()
        if "lifetime" in wishes:
            state.lifetime = float(wishes["lifetime"])
        if "auto_consent" in wishes:
            state.auto_consent = bool(wishes["auto_consent"])
        if "behaviours" in wishes:
            state.behaviours.clear()
            state.behaviours.update(wishes["behaviours"])
        if wishes.get("revoke_all"):
            state.end_all()

"""Authorize: the press of the button, the window it opens, the provider's answer, and how it ended."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, make_response, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from blueprints import guards, web
from blueprints.authorization import client
from blueprints.pauses import view
from models import AuthorizationAttempt, Connection, Role
from oauth import authorization_response
from services.authorizing import authorization, redemption, refusals
from services.errors import NotFound

blueprint = Blueprint("authorization", __name__)

SETTLED = "authorization-settled"
"""Event on the page's body: parts that show the connection read it again."""


@blueprint.after_request
def send_no_referrer(response: Response) -> Response:
    """No address of these pages is told to the provider or anybody else (PU-05)."""
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@blueprint.after_app_request
def know_the_browser(response: Response) -> Response:
    """Give a browser its id with its first page, so that two first starts at once share it."""
    page = request.method == "GET" and response.mimetype == "text/html" and response.status_code == 200
    if page and guards.browser_cookie() not in request.cookies:
        guards.keep_browser_id(response)
    return response


@blueprint.post("/connections/<uuid:connection_id>/authorize")
@login_required
def authorize(connection_id: uuid.UUID) -> Response:
    """Start: to the window's page, or, where nobody has to agree, to how it ended."""
    web.find(Connection, connection_id, Role.ADMIN)
    user = web.me().user
    web.release_db()
    attempt = authorization.begin(
        web.resources(),
        connection_id,
        user,
        browser_hash=guards.browser_hash(),
        popup=request.form.get("popup") == "1",
        return_to=web.safe_next(request.form.get("return_to")) or "",
        ask=client.ask,
    )
    if web.is_htmx() and not attempt.waiting:
        return guards.keep_browser_id(latest(connection_id))
    return guards.keep_browser_id(web.see_other("authorization.show", attempt_id=attempt.id))


@blueprint.get("/authorization/<uuid:attempt_id>")
@login_required
def show(attempt_id: uuid.UUID) -> str:
    """The window's page, or the same tab's: onward to the provider, and afterwards how it ended."""
    return render_template("authorization/show.html", **_about(attempt_id))


@blueprint.get("/authorization/<uuid:attempt_id>/status")
@login_required
def status(attempt_id: uuid.UUID) -> str:
    """The part of that page which changes."""
    return render_template("authorization/_status.html", **_about(attempt_id))


@blueprint.get("/connections/<uuid:connection_id>/authorization")
@login_required
def latest(connection_id: uuid.UUID) -> Response:
    """The Authorize button of a connection's or card's page, and how the newest attempt stands."""
    connection = web.find(Connection, connection_id, Role.OPERATOR)
    attempt = authorization.newest(web.db(), connection_id)
    role = web.role_in(connection.workspace_id)
    body = render_template(
        "authorization/_authorization.html",
        connection=connection,
        attempt=attempt,
        can_authorize=role is not None and role.includes(Role.ADMIN),
        return_to=web.safe_next(request.values.get("return_to")) or "",
        stopped=view.is_stopped(connection),
    )
    response = make_response(body)
    if attempt is not None and not attempt.waiting:
        response.headers["HX-Trigger"] = json.dumps({SETTLED: {"attempt": str(attempt.id)}})
    return response


@blueprint.route("/auth/provider/callback", methods=["GET", "POST"])
def callback() -> Response:
    """The provider's answer. State is its guard, so it needs no form token."""
    if request.method == "HEAD" or "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        return Response(status=204)
    if request.method == "POST":
        return _receive()
    web.release_db()
    try:
        attempt = redemption.finish(web.resources(), _answer(), _visitor(), client.redeem)
    except redemption.SignInFirst as pause:
        here = url_for("authorization.callback", attempt=pause.attempt_id)
        return redirect(url_for("auth.login", next=here), 303)
    except NotFound as gone:
        raise refusals.Unusable(str(gone), 410) from None
    return redirect(url_for("authorization.show", attempt_id=attempt.id), 303)


def _receive() -> Response:
    """An answer by POST comes without cookies: it is kept, and a GET that has them goes on."""
    answer = authorization_response.parse(request.form.items(multi=True))
    attempt_id = redemption.receive(web.resources(), answer)
    return redirect(url_for("authorization.callback", attempt=attempt_id), 303)


def _answer() -> authorization_response.AuthorizationResponse:
    """From the address, or kept from before."""
    try:
        attempt_id = uuid.UUID(request.args.get("attempt", ""))
    except ValueError:
        return authorization_response.parse(request.args.items(multi=True))
    return redemption.kept(web.resources(), attempt_id, guards.browser_hash())


def _visitor() -> redemption.Visitor:
    user = web.me().user if current_user.is_authenticated else None
    web.release_db()
    return redemption.Visitor(user, guards.browser_hash())


@blueprint.errorhandler(authorization_response.Odd)
def refuse_odd(_problem: authorization_response.Odd) -> tuple[str, int]:
    """Parameters no provider sends: nothing of them is shown, nothing is used up."""
    words = "This is not an answer of a provider. Start again from the connection's page."
    return render_template("authorization/refused.html", words=words), 400


@blueprint.errorhandler(refusals.Unusable)
def refuse(problem: refusals.Unusable) -> tuple[str, int]:
    """An answer nothing may come of."""
    return render_template("authorization/refused.html", words=str(problem)), problem.status


def _about(attempt_id: uuid.UUID) -> Mapping[str, Any]:
    attempt = web.find(AuthorizationAttempt, attempt_id, Role.ADMIN)
    mine = attempt.user_id == web.me().user.id and attempt.browser_hash == guards.browser_hash()
    onward = authorization.onward(web.db(), attempt) if mine else ""
    connection = web.db().get_one(Connection, attempt.connection_id)
    back = attempt.return_to or url_for("connections.show", connection_id=connection.id)
    return {
        "attempt": attempt,
        "connection": connection,
        "onward": onward,
        "host": connection.provider,
        "back": back,
    }

"""Pages of connections. Operators read them and refresh; only admins change anything."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Blueprint, flash, make_response, render_template, request, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.connections import forms, lives
from blueprints.forms import parsed_uuid
from blueprints.operations.forms import FilterForm
from blueprints.pauses import view
from blueprints.stale import Difference, differences
from models import Connection, ConnectionState, Role
from models.types import utc_now
from services.authorizing import authorization
from services.engine import eligibility, habits, states, tokens
from services.errors import InvalidInput, Stale
from services.operating import journal, overview, refreshes
from services.operating.overview import Filter
from services.operating.pauses import NOTHING_TO_PAUSE
from services.setup import connections, replays
from workers import queue

blueprint = Blueprint("connections", __name__, url_prefix="/connections")

FIELDS = {"fields_url": "connections.fields"}
"""Where a connection's form asks for the fields of another flow."""

CHANGED = "refreshes-changed"
"""What the status fragment calls out when the history, or what is kept of a reply, is another than it saw last."""
OFTEN, SELDOM = 2, 15
"""Seconds after which a page asks again how a connection stands: while something happens, and otherwise."""

LAST_PAGE = 10_000

Page = str | Response | tuple[str, int]


@blueprint.get("")
@web.role_required(Role.OPERATOR)
def index() -> Page:
    """The connections of the workspace by name, and how each stands."""
    form = FilterForm.from_address()
    wanted = Filter(web.current_workspace().id, text=form.text.data or "")
    number = min(max(request.args.get("page", 1, type=int), 1), LAST_PAGE)
    page = overview.page(web.db(), wanted, number, by_name=True)
    return render_template(
        "connections/index.html",
        form=form,
        page=page,
        cards=connections.cards_of_each(web.db(), [row.connection.id for row in page.rows]),
        may_edit=web.current_role() is Role.ADMIN,
        **view.of_lists(),
    )


@blueprint.get("/new")
@web.role_required(Role.ADMIN)
def new() -> Page:
    """A connection to be made."""
    return editor(None, forms.empty_form())


@blueprint.post("/new")
@web.role_required(Role.ADMIN)
def create() -> Page:
    """Save configuration, for the first time."""
    return _save(None)


@blueprint.get("/<uuid:connection_id>")
@login_required
def show(connection_id: uuid.UUID) -> Page:
    """One connection: how it stands, its configuration, its history."""
    connection = web.find(Connection, connection_id, Role.OPERATOR)
    return editor(connection, forms.stored_form(web.db(), connection))


@blueprint.post("/<uuid:connection_id>")
@login_required
def save(connection_id: uuid.UUID) -> Page:
    """Save configuration."""
    return _save(web.find(Connection, connection_id, Role.ADMIN))


@blueprint.post("/fields")
@web.role_required(Role.ADMIN)
def fields() -> Page:
    """The fields of another flow, with everything typed kept; the whole page without htmx."""
    stored = _named(request.form.get("connection_id", ""))
    form = forms.typed_form(request.form, web.db(), stored)
    if web.is_htmx():
        return render_template("connections/_fields.html", form=form, **FIELDS, redirect_url=redirect_url())
    return editor(stored, form)


@blueprint.get("/<uuid:connection_id>/status")
@login_required
def status(connection_id: uuid.UUID) -> Page:
    """How a connection stands, as a fragment that renews itself."""
    connection = web.find(Connection, connection_id, Role.OPERATOR)
    return status_fragment(connection, seen=request.args.get("seen", ""))


@blueprint.post("/<uuid:connection_id>/refresh")
@login_required
def refresh(connection_id: uuid.UUID) -> Page:
    """Refresh now."""
    connection = web.find(Connection, connection_id, Role.OPERATOR)
    asked = refreshes.refresh_now(web.db(), web.resources().settings, [connection], web.me().user.id, web.actor())
    rung = queue.ring(web.resources())
    words = (_stopped(connection) if asked.marked else "") or _asked_words(asked, rung)
    if web.is_htmx():
        return status_fragment(connection, words)
    return web.see_other("connections.show", words, connection_id=connection_id)


@blueprint.get("/<uuid:connection_id>/disconnect")
@login_required
def confirm_disconnect(connection_id: uuid.UUID) -> Page:
    """What disconnecting breaks."""
    return _confirm("connections/disconnect.html", web.find(Connection, connection_id, Role.ADMIN))


@blueprint.post("/<uuid:connection_id>/disconnect")
@login_required
def disconnect(connection_id: uuid.UUID) -> Page:
    """Take the grant away, here and at the provider."""
    web.find(Connection, connection_id, Role.ADMIN)
    actor = web.actor()
    web.release_db()
    said = connections.disconnect(web.resources(), actor, connection_id)
    return web.see_other("connections.show", f"Disconnected. {said}", connection_id=connection_id)


@blueprint.get("/<uuid:connection_id>/delete")
@login_required
def confirm_delete(connection_id: uuid.UUID) -> Page:
    """What deleting breaks."""
    return _confirm("connections/delete.html", web.find(Connection, connection_id, Role.ADMIN))


@blueprint.post("/<uuid:connection_id>/delete")
@login_required
def delete(connection_id: uuid.UUID) -> Page:
    """Delete the connection and its secrets."""
    web.find(Connection, connection_id, Role.ADMIN)
    actor = web.actor()
    web.release_db()
    said = connections.delete(web.resources(), actor, connection_id)
    return web.see_other("connections.index", f"Deleted. {said}")


def editor(connection: Connection | None, form: forms.ConnectionForm, conflict: list[Difference] | None = None) -> str:
    """The page of one connection, or of one to be made."""
    return render_template(
        "connections/editor.html",
        connection=connection,
        form=form,
        conflict=conflict,
        workspace_id=connection.workspace_id if connection else web.target_workspace().id,
        may_edit=web.current_role() is Role.ADMIN,
        redirect_url=redirect_url(),
        **FIELDS,
        **(_around(connection) if connection else {}),
    )


def _around(connection: Connection) -> dict[str, Any]:
    """What stands beside the form of a connection that exists."""
    token = tokens.current_token(web.db(), connection)
    return {
        "cards": connections.cards_of(web.db(), connection),
        "kept": replays.shown(web.db(), connection, token) if web.current_role() is Role.ADMIN else [],
        "refreshes": journal.history(web.db(), connection),
        "tally": journal.tally(web.db(), connection),
        **authorization_of(connection, url_for("connections.show", connection_id=connection.id)),
        **standing(connection),
    }


def authorization_of(connection: Connection, return_to: str) -> dict[str, Any]:
    """What the Authorize fragment needs."""
    return {
        "attempt": authorization.newest(web.db(), connection.id),
        "can_authorize": web.current_role() is Role.ADMIN,
        "return_to": return_to,
    }


def status_fragment(connection: Connection, words: str = "", seen: str = "") -> Response:
    """How a connection stands, with a word about what was done; what else is on the page asks anew after news."""
    around = standing(connection)
    fragment = make_response(render_template("connections/_status.html", connection=connection, words=words, **around))
    if seen != around["seen"]:
        fragment.headers["HX-Trigger"] = CHANGED
    return fragment


def standing(connection: Connection) -> dict[str, Any]:
    """What the status fragment needs."""
    around = view.of_connection(connection)
    stopped = bool(around["notices"]) or connection.state is ConnectionState.PAUSED
    return {**_facts(connection, stopped=stopped), **around}


def _facts(connection: Connection, *, stopped: bool) -> dict[str, Any]:
    """How a connection stands by itself; `stopped`: nothing is sent for it, as somebody paused it or its provider."""
    role, now = web.role_in(connection.workspace_id), utc_now()
    token = tokens.current_token(web.db(), connection)
    until_due = (token.next_refresh_at - now).total_seconds() if token.next_refresh_at else SELDOM
    renewable = states.renewable(connection, token)
    busy = token.is_leased(now) or (until_due <= 0 and not stopped)
    return {
        "token": token,
        "seen": journal.mark(web.db(), connection),
        "now": now,
        "busy": busy and renewable,
        "stopped": stopped,
        "next_refresh": token.next_refresh_at if renewable else None,
        "why_then": lives.why_then(connection, token) if renewable and not stopped else "",
        "lifetime_words": lives.lifetime_words(connection, token),
        "ask_again": OFTEN if busy else SELDOM if stopped else round(min(max(until_due + 1, OFTEN), SELDOM)),
        "habits": habits.words(token.rotation, token.reuse),
        "may_pause": role is not None and role.includes(Role.OPERATOR) and connection.state not in NOTHING_TO_PAUSE,
        "may_mend": role is Role.ADMIN,
        "may_refresh": role is not None and role.includes(Role.OPERATOR) and not eligibility.refusal(connection, token),
    }


def redirect_url() -> str:
    """Byte for byte what providers receive."""
    return web.resources().settings.redirect_url


def _save(connection: Connection | None) -> Page:
    form = forms.typed_form(request.form, web.db(), connection)
    workspace_id = connection.workspace_id if connection else web.target_workspace().id
    policy = web.resources().http.policy
    sound = form.validate()
    if not sound:
        if form.readable:
            form.show(InvalidInput(connections.check(web.db(), policy, workspace_id, form.configuration(), connection)))
        return editor(connection, form), 422
    try:
        saved = connections.save(
            web.db(),
            policy,
            web.actor(),
            workspace_id,
            form.configuration(),
            settings=web.resources().settings,
            existing=connection,
            version=form.read_version(),
        )
    except InvalidInput as problem:
        form.show(problem)
        return editor(connection, form), 422
    except Stale as problem:
        web.db().rollback()
        now: Connection = problem.current
        form.version.data = str(now.version)
        return editor(now, form, conflict=differences(form, forms.stored_form(web.db(), now))), 409
    for note in form.notes():
        flash(note, "info")
    return web.see_other("connections.show", "Configuration saved.", connection_id=saved.id)


def _confirm(template: str, connection: Connection) -> str:
    return render_template(template, connection=connection, cards=connections.cards_of(web.db(), connection))


def _named(text: str) -> Connection | None:
    """The connection a form belongs to; None for a new one."""
    row_id = parsed_uuid(text)
    return web.find(Connection, row_id, Role.ADMIN) if row_id else None


def _stopped(connection: Connection) -> str:
    """What keeps a refresh from being sent at once, though it was asked for; empty where nothing does."""
    around = view.of_connection(connection)
    if around["notices"]:
        return "Refresh asked for. It is sent when token requests are resumed."
    silent = around["silent"]
    if silent:
        return f"Refresh asked for. {silent.host} {silent.trouble} just now; it is sent as soon as that ends."
    return ""


def _asked_words(asked: refreshes.Asked, rung: bool) -> str:
    if asked.skipped:
        return next(iter(asked.skipped.values()))
    if asked.joined:
        seconds = web.resources().settings.manual_cooldown
        return f"It is being refreshed already, or was just now. By hand, that goes once in {seconds:g} seconds."
    if not rung:
        return "Refresh asked for. The queue is away, so the scheduler sends it within a few seconds."
    return "Refresh asked for."

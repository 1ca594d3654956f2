"""Pages of connections. Operators read them and refresh; only admins change anything."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Blueprint, flash, make_response, render_template, request, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from blueprints import gone, web
from blueprints.connections import forms, lives
from blueprints.forms import parsed_uuid
from blueprints.operations.forms import FilterForm
from blueprints.pauses import view
from blueprints.stale import Conflict, conflict
from models import Connection, ConnectionState, Role, Token
from models.types import utc_now
from oauth.vocabulary import UNDECRYPTABLE
from services.authorizing import authorization
from services.engine import advice, eligibility, habits, states, tokens
from services.errors import InvalidInput, NotFound, Stale
from services.operating import journal, overview, refreshes
from services.operating.overview import Filter
from services.operating.pauses import NOTHING_TO_PAUSE
from services.setup import connections, replays
from workers import queue

blueprint = Blueprint("connections", __name__, url_prefix="/connections")

FIELDS = {"fields_url": "connections.fields"}
"""Where a connection's form asks for the fields of another flow."""

CHANGED = "refreshes-changed"
"""What the status fragment calls out when the history, what is kept of a reply, or the state is news to it."""
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
    deleted = gone.deletion(Connection, connection_id)
    return _after_deletion(deleted) if deleted else _save(web.find(Connection, connection_id, Role.ADMIN))


@blueprint.post("/fields")
@web.role_required(Role.ADMIN)
def fields() -> Page:
    """The fields of another flow, with everything typed kept; the whole page without htmx."""
    row_id = parsed_uuid(request.form.get("connection_id"))
    deleted = gone.deletion(Connection, row_id)
    stored = web.find(Connection, row_id, Role.ADMIN) if row_id and not deleted else None
    form = forms.typed_form(request.form, web.db(), stored)
    if web.is_htmx():
        return render_template("connections/_fields.html", form=form, **FIELDS, redirect_url=redirect_url())
    return editor(stored, form, deleted=deleted)


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
    words = (_stopped(connection) if asked.marked else "") or _asked_words(connection, asked, rung)
    kind = "success" if asked.marked else "info"
    if web.is_htmx():
        return status_fragment(connection, words, kind=kind)
    flash(words, kind)
    return web.see_other("connections.show", connection_id=connection_id)


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


def editor(
    connection: Connection | None,
    form: forms.ConnectionForm,
    clash: Conflict | None = None,
    deleted: gone.Deleted | None = None,
) -> str:
    """The page of one connection, or of one to be made."""
    return render_template(
        "connections/editor.html",
        connection=connection,
        form=form,
        conflict=clash,
        deleted=deleted,
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


def status_fragment(connection: Connection, words: str = "", seen: str = "", kind: str = "success") -> Response:
    """How a connection stands, with a word about what was done; what else is on the page asks anew after news."""
    around = {**standing(connection), "words": words, "kind": kind}
    fragment = make_response(render_template("connections/_status.html", connection=connection, **around))
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
        "seen": f"{journal.mark(web.db(), connection)}.{connection.state.value}{'.stopped' if stopped else ''}",
        "now": now,
        "busy": busy and renewable,
        "stopped": stopped,
        "next_refresh": token.next_refresh_at if renewable else None,
        "next_step": advice.next_step(connection, token),
        "takes_admin": role is not Role.ADMIN and _takes_admin(connection, token),
        "settings_note": advice.settings_note(connection, token),
        "why_then": lives.why_then(connection, token) if renewable and not stopped else "",
        "lifetime_words": lives.lifetime_words(connection, token),
        "ask_again": OFTEN if busy else SELDOM if stopped else round(min(max(until_due + 1, OFTEN), SELDOM)),
        "habits": habits.words(token.rotation, token.reuse),
        "may_pause": role is not None and role.includes(Role.OPERATOR) and connection.state not in NOTHING_TO_PAUSE,
        "may_mend": role is Role.ADMIN,
        "may_refresh": role is not None and role.includes(Role.OPERATOR) and not eligibility.refusal(connection, token),
    }


def _takes_admin(connection: Connection, token: Token) -> bool:
    """Whether what has to be done about a failure is an admin's to do, and nobody else's."""
    kind = connection.failure_class
    waits = kind is None or kind.retried or connection.awaits_replay or advice.is_untried(connection, token)
    return not waits and connection.failure_code != UNDECRYPTABLE


def redirect_url() -> str:
    """Byte for byte what providers receive."""
    return web.resources().settings.redirect_url


def _save(connection: Connection | None) -> Page:
    form = forms.typed_form(request.form, web.db(), connection)
    row_id = connection.id if connection else None
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
    except NotFound:
        web.db().rollback()
        deleted = gone.deletion(Connection, row_id)
        if deleted is None:
            raise
        return _after_deletion(deleted)
    except Stale as problem:
        web.db().rollback()
        now: Connection = problem.current
        form.version.data = str(now.version)
        return editor(now, form, conflict(form, forms.stored_form(web.db(), now), now)), 409
    for note in form.notes():
        flash(note, "info")
    follows = connections.what_follows(web.db(), saved, form.configuration())
    words = f"Configuration saved. {follows}".rstrip()
    return web.see_other("connections.show", words, connection_id=saved.id)


def _after_deletion(deleted: gone.Deleted) -> Page:
    """What was typed for a connection that is gone: a new one, which is not saved yet."""
    return editor(None, forms.typed_form(request.form, web.db(), None), deleted=deleted), 410


def _confirm(template: str, connection: Connection) -> str:
    return render_template(template, connection=connection, cards=connections.cards_of(web.db(), connection))


def _stopped(connection: Connection) -> str:
    """What keeps a refresh from being sent at once, though it was asked for; empty where nothing does."""
    around = view.of_connection(connection)
    if around["notices"]:
        return "Refresh asked for. It is sent when token requests are resumed."
    silent = around["silent"]
    if silent:
        return f"Refresh asked for. {silent.host} {silent.trouble} just now; it is sent as soon as that ends."
    return ""


def _asked_words(connection: Connection, asked: refreshes.Asked, rung: bool) -> str:
    if asked.skipped:
        return next(iter(asked.skipped.values()))
    if asked.joined:
        return _joined_words(connection)
    if not rung:
        return "Refresh asked for. The queue is away, so the scheduler sends it within a few seconds."
    return "Refresh asked for."


def _joined_words(connection: Connection) -> str:
    """Why a press sent nothing of its own: a refresh waits or is under way, or was made a moment ago."""
    token, now = tokens.current_token(web.db(), connection), utc_now()
    if token.is_leased(now) or (token.next_refresh_at is not None and token.next_refresh_at <= now):
        return "It is being refreshed already; that refresh serves."
    seconds = web.resources().settings.manual_cooldown
    return f"Nothing was sent: by hand, that goes once in {seconds:g} seconds, and it was asked for just before."

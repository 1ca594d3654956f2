"""Pausing and resuming. Operators do it for connections, the owner of the installation for providers and everything."""

from __future__ import annotations

import uuid
from collections import Counter
from itertools import islice
from typing import Any

from flask import Blueprint, abort, flash, render_template, request
from flask_login import login_required
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.connections.routes import status_fragment
from blueprints.forms import parsed_uuid
from blueprints.operations.forms import FilterForm
from blueprints.pauses import view
from models import EVERYTHING, Connection, Role
from services.operating import overview, pauses, refreshes
from services.operating.pauses import Done

blueprint = Blueprint("pauses", __name__)

Page = str | Response | tuple[str, int]

WAY_BACK = ("all", "text", "state", "failing", "page")
"""What of the address of /operations says which connections are looked at."""
NONE_SELECTED = "Select at least one connection, then press Pause or Resume."
MOST = 2000
"""Connections paused by one press."""
TOO_MANY = (
    f"Pause and Resume work for up to {MOST:,} connections at once. Filter the list, or have the owner of the "
    "installation pause a provider or everything."
)
ALL_PROVIDERS = "all providers"


@blueprint.post("/connections/<uuid:connection_id>/pause")
@login_required
def pause_connection(connection_id: uuid.UUID) -> Page:
    """Send nothing for a connection until it is resumed."""
    connection = web.find(Connection, connection_id, Role.OPERATOR)
    done = pauses.pause(web.db(), web.actor(), [connection_id])
    return _stands(connection, _refused(done) or "Paused. Nothing is sent for it until somebody resumes it.")


@blueprint.post("/connections/<uuid:connection_id>/resume")
@login_required
def resume_connection(connection_id: uuid.UUID) -> Page:
    """Let a connection go on."""
    connection = web.find(Connection, connection_id, Role.OPERATOR)
    done = pauses.resume(web.db(), web.resources().settings, web.actor(), [connection_id])
    return _stands(connection, _refused(done) or "Resumed. It goes on as before.")


@blueprint.post("/operations/pause")
@web.role_required(Role.OPERATOR)
def pause() -> Page:
    """Pause the connections selected."""
    chosen = _selected()
    return _back(chosen, pauses.pause(web.db(), web.actor(), chosen), "paused")


@blueprint.post("/operations/resume")
@web.role_required(Role.OPERATOR)
def resume() -> Page:
    """Resume the connections selected."""
    chosen = _selected()
    return _back(chosen, pauses.resume(web.db(), web.resources().settings, web.actor(), chosen), "resumed")


@blueprint.get("/operations/providers")
@web.role_required(Role.OPERATOR)
def show() -> Page:
    """How the providers stand: a fragment that renews itself, or a page."""
    template = "pauses/_providers.html" if web.is_htmx() else "pauses/providers.html"
    here, few = view.of_operations(everywhere=_everywhere()), "few" in request.args
    return render_template(template, way_back=_way_back(), everywhere=_everywhere(), few=few, **here)


@blueprint.get("/operations/providers/pause")
@login_required
def confirm_provider() -> Page:
    """What pausing a provider, or without a host everything, stops."""
    _owner_only()
    host = request.args.get("host", EVERYTHING)
    found = {provider.host: provider for provider in view.of_operations(everywhere=True)["providers"]}
    if host != EVERYTHING and host not in found:
        abort(404)
    return render_template("pauses/confirm.html", provider=found.get(host), host=host, way_back=_way_back())


@blueprint.post("/operations/providers/pause")
@login_required
def pause_provider() -> Page:
    """Pause a provider, or everything."""
    _owner_only()
    host = request.form.get("host", "")
    done = pauses.pause_host(web.db(), web.actor(), host)
    words = f"Token requests to {_named(host)} are paused." if done else "That was paused already."
    return web.see_other("operations.index", words, **_way_back())


@blueprint.post("/operations/providers/resume")
@login_required
def resume_provider() -> Page:
    """Let requests to a provider, or to all, go on."""
    _owner_only()
    host = request.form.get("host", "")
    done = pauses.resume_host(web.db(), web.resources().settings, web.actor(), host)
    words = f"Token requests to {_named(host)} go on." if done else "That was not paused."
    return web.see_other("operations.index", words, **_way_back())


@blueprint.post("/operations/providers/try")
@login_required
def try_provider() -> Page:
    """Let a request go to a provider at once that was found down."""
    _owner_only()
    host = request.form.get("host", "")
    done = pauses.try_now(web.db(), web.actor(), host)
    words = f"{host} is tried with the next request that is due." if done else f"{host} is being asked already."
    return web.see_other("operations.index", words, **_way_back())


def _stands(connection: Connection, words: str) -> Page:
    """The connection's state, with what was done or why not."""
    if web.is_htmx():
        return status_fragment(connection, words)
    return web.see_other("connections.show", words, connection_id=connection.id)


def _refused(done: Done) -> str:
    return next(iter(done.refused.values()), "")


def _selected() -> list[uuid.UUID]:
    """What is selected and this person's to pause, the rows ticked or all that match, none where that is too many.

    What matches is looked for in the workspace whose list was on the screen; another tab may have chosen another.
    """
    if "matching" not in request.form:
        ids = [found for text in request.form.getlist("connection") if (found := parsed_uuid(text))]
        return [row.id for row in refreshes.named(web.db(), ids) if _may_pause(row.workspace_id)]
    shown = None if _everywhere() else parsed_uuid(request.form.get("workspace_id", ""))
    if not _everywhere() and (shown is None or not _may_pause(shown)):
        abort(404)
    rows = overview.every(web.db(), FilterForm.from_address().wanted(shown))
    ids = [row.connection.id for row in islice(rows, MOST + 1)]
    return [] if len(ids) > MOST else ids


def _may_pause(workspace_id: uuid.UUID) -> bool:
    role = web.role_in(workspace_id)
    return web.me().user.is_owner or (role is not None and role.includes(Role.OPERATOR))


def _back(chosen: list[uuid.UUID], done: Done, verb: str) -> Page:
    """To the list, with how many it was, and why not the others."""
    if not chosen:
        flash(TOO_MANY if "matching" in request.form else NONE_SELECTED, "error")
        return web.see_other("operations.index", **_way_back())
    count, others = len(done.changed), len(done.already)
    words = [f"{count} connection{'' if count == 1 else 's'} {verb}." if count else f"None was {verb}."]
    if others:
        words.append(f"{others} had been {verb} already." if verb == "paused" else f"{others} not paused.")
    for reason, number in Counter(done.refused.values()).items():
        words.append(f"{number} left out: {reason[0].lower()}{reason[1:]}")
    return web.see_other("operations.index", " ".join(words), **_way_back())


def _named(host: str) -> str:
    return ALL_PROVIDERS if host == EVERYTHING else host


def _way_back() -> dict[str, Any]:
    """What of the address comes along, so that a person is led back to what they looked at."""
    return {name: request.args[name] for name in WAY_BACK if name in request.args}


def _everywhere() -> bool:
    """Whether all workspaces are asked for, which is the owner's to ask."""
    if request.args.get("all") != "1":
        return False
    _owner_only()
    return True


def _owner_only() -> None:
    if not web.me().user.is_owner:
        abort(403, web.OWNERS)

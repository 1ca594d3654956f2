"""Operations: how every connection stands, the queue, and refreshes in bulk. For operators; the owner sees all."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from flask import Blueprint, abort, make_response, render_template, request, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.operations.forms import FilterForm
from models import BulkRefresh, Connection, Role
from services import bulk, heartbeats, overview, refreshes
from workers import queue

blueprint = Blueprint("operations", __name__)

Page = str | Response | tuple[str, int]

LAST_PAGE = 10_000
MOST_BULKS = 20
"""Bulks followed on one page."""
END_OF_POLLING = 286


@blueprint.get("/operations")
@web.role_required(Role.OPERATOR)
def index() -> Page:
    """Connections by filter, with whatever bulk refreshes the address names."""
    return _page()


@blueprint.post("/operations/refresh")
@web.role_required(Role.OPERATOR)
def refresh() -> Page:
    """Refresh the connections selected; those that are gone, or never were this person's, are alike left out."""
    may_refresh = _permission()
    named = refreshes.named(web.db(), _uuids(request.form.getlist("connection")))
    chosen = [connection for connection in named if may_refresh(connection.workspace_id)]
    if not chosen:
        words = "None of these connections exists any more." if "connection" in request.form else NONE_SELECTED
        return _page(words), 422
    resources = web.resources()
    asked_for = refreshes.refresh_in_bulk(web.db(), resources.settings, chosen, web.me().user.id, web.actor())
    view, followed = _view(FilterForm.from_address()), [str(one.id) for one in asked_for]
    web.release_db()
    queue.ring(resources)  # without Redis the scheduler does it, as the page says
    return web.see_other("operations.index", **view, bulk=followed)


@blueprint.get("/operations/refresh/<uuid:bulk_id>")
@login_required
def progress(bulk_id: uuid.UUID) -> Page:
    """How a bulk refresh stands: a fragment that renews itself until it is over, or a page."""
    found = _bulk(bulk_id)
    if web.is_htmx():
        if found is None:
            return render_template("operations/_progress.html", progress=None), END_OF_POLLING
        standing = bulk.progress(web.db(), found)
        fragment = make_response(render_template("operations/_progress.html", progress=standing))
        if standing.is_over:
            fragment.headers["HX-Trigger"] = "refreshes-over"  # the list below asks anew how each connection stands
        return fragment
    if found is None:
        abort(404)
    return render_template("operations/progress.html", progress=bulk.progress(web.db(), found))


@blueprint.get("/operations/history/<uuid:connection_id>")
@login_required
def history(connection_id: uuid.UUID) -> Page:
    """The last refreshes of a connection."""
    connection = web.db().get(Connection, connection_id) if web.me().user.is_owner else None
    connection = connection or web.find(Connection, connection_id, Role.OPERATOR)
    rows = refreshes.history(web.db(), connection)
    return render_template("operations/history.html", connection=connection, refreshes=rows)


NONE_SELECTED = "Select at least one connection, then press Refresh selected."


def _page(problem: str = "") -> str:
    """The page as its address asks for it."""
    everywhere = _everywhere()
    workspace_id = None if everywhere else web.current_workspace().id
    form = FilterForm.from_address()
    form.offer(overview.counts(web.db(), workspace_id))
    view = _view(form)
    number = min(max(request.args.get("page", 1, type=int), 1), LAST_PAGE)
    followed = [found for bulk_id in _uuids(request.args.getlist("bulk")[:MOST_BULKS]) if (found := _bulk(bulk_id))]
    return render_template(
        "operations/index.html",
        form=form,
        page=overview.page(web.db(), form.wanted(workspace_id), number),
        everywhere=everywhere,
        view=view,
        address=lambda **changes: url_for("operations.index", **{**view, **changes}),
        problem=problem,
        selected=set(request.form.getlist("connection")),
        select_all=request.args.get("select") == "shown",
        progresses=[bulk.progress(web.db(), found) for found in followed],
        may_open=_permission(owner=False),
        alive=heartbeats.alive(web.db()),
        waiting=queue.depth(web.resources()),
    )


def _view(form: FilterForm) -> dict[str, Any]:
    """What of the address says which connections are looked at: for links and forms that come back to it."""
    everywhere = {"all": "1"} if _everywhere() else {}
    page = {"page": request.args["page"]} if request.args.get("page", 1, type=int) > 1 else {}
    return {**form.address(), **everywhere, **page}


def _everywhere() -> bool:
    """Whether all workspaces are asked for, which is the owner's to ask."""
    if request.args.get("all") != "1":
        return False
    if not web.me().user.is_owner:
        abort(403)
    return True


def _permission(*, owner: bool = True) -> Callable[[uuid.UUID], bool]:
    """Whether the person is an operator of a workspace; `owner`: or of the installation."""

    @functools.cache
    def allowed(workspace_id: uuid.UUID) -> bool:
        role = web.role_in(workspace_id)
        return (owner and web.me().user.is_owner) or (role is not None and role.includes(Role.OPERATOR))

    return allowed


def _bulk(bulk_id: uuid.UUID) -> BulkRefresh | None:
    """A bulk refresh this person may follow; foreign, absent and forgotten ones look alike."""
    found = web.db().get(BulkRefresh, bulk_id)
    return found if found is not None and _permission()(found.workspace_id) else None


def _uuids(texts: Iterable[str]) -> list[uuid.UUID]:
    """Those of `texts` that are ids."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(uuid.UUID(text))
    return found

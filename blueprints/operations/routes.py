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
from blueprints.forms import parsed_uuid
from blueprints.operations.forms import FilterForm
from blueprints.pauses import view as pauses
from models import BulkRefresh, Connection, Role
from services.operating import bulk, heartbeats, journal, overview, refreshes
from services.operating import progress as progress_of
from services.operating.overview import Filter
from services.operating.progress import ItemState
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
    """Refresh what is selected; connections that are gone, or never were this person's, are alike left out."""
    wanted, problem = _selection()
    resources, person, actor = web.resources(), web.me().user.id, web.actor()
    view = _view(FilterForm.from_address())
    if not problem:
        web.release_db()
        started = bulk.ask(resources, wanted, person, actor)
        if started:
            queue.ring(resources)  # without Redis the scheduler does it, as the page says
            return web.see_other("operations.index", **view, bulk=[one.id for one in started[:MOST_BULKS]])
    return _page(problem or NONE_LEFT), 422


@blueprint.get("/operations/refresh/<uuid:bulk_id>")
@login_required
def show_bulk(bulk_id: uuid.UUID) -> Page:
    """A bulk refresh: how it stands, and what came of it for each connection."""
    found = _own_bulk(bulk_id)
    state = request.args.get("state", "")
    chosen = ItemState(state) if state in set(ItemState) else None
    return render_template(
        "operations/bulk.html",
        progress=progress_of.progress(web.db(), found),
        results=progress_of.results(web.db(), found, chosen, _page_number()),
        chosen=chosen,
        here=request.full_path,
        **pauses.of_lists(),
    )


@blueprint.get("/operations/refresh/<uuid:bulk_id>/progress")
@login_required
def progress(bulk_id: uuid.UUID) -> Page:
    """How far a bulk refresh has come: a fragment that renews itself until it is over."""
    found = _bulk(bulk_id)
    if found is None:
        if not web.is_htmx():
            abort(404)
        return render_template("operations/_progress.html", progress=None), END_OF_POLLING
    standing = progress_of.progress(web.db(), found)
    fragment = make_response(render_template("operations/_progress.html", progress=standing))
    if standing.is_over:
        fragment.headers["HX-Trigger"] = "refreshes-over"  # what is around it and below asks anew
    return fragment


@blueprint.post("/operations/refresh/<uuid:bulk_id>/cancel")
@login_required
def cancel(bulk_id: uuid.UUID) -> Page:
    """Take back what has not been sent yet."""
    _own_bulk(bulk_id)
    resources, person, actor = web.resources(), web.me().user.id, web.actor()
    web.release_db()
    said = bulk.cancel(resources, bulk_id, person, actor)
    return web.see_other("operations.show_bulk", said.words, bulk_id=bulk_id)


@blueprint.get("/operations/history/<uuid:connection_id>")
@login_required
def history(connection_id: uuid.UUID) -> Page:
    """The last refreshes of a connection: a page, or a fragment that renews itself."""
    connection = web.db().get(Connection, connection_id) if web.me().user.is_owner else None
    connection = connection or web.find(Connection, connection_id, Role.OPERATOR)
    return render_template(
        "operations/_history.html" if web.is_htmx() else "operations/history.html",
        connection=connection,
        refreshes=journal.history(web.db(), connection),
        tally=journal.tally(web.db(), connection),
        **pauses.of_connection(connection),
    )


NONE_SELECTED = "Select at least one connection, then press Refresh selected."
NONE_LEFT = "None of these connections exists any more."


def _page(problem: str = "") -> str:
    """The page as its address asks for it."""
    everywhere = _everywhere()
    workspace_id = None if everywhere else web.current_workspace().id
    form = FilterForm.from_address()
    known = overview.by_states(web.db(), Filter(workspace_id))
    form.offer(overview.by_words(known))
    view = _view(form)
    followed = [found for bulk_id in _uuids(request.args.getlist("bulk")[:MOST_BULKS]) if (found := _bulk(bulk_id))]
    return render_template(
        "operations/index.html",
        form=form,
        page=overview.page(web.db(), form.wanted(workspace_id), _page_number(), known=known),
        workspace_id=workspace_id,
        everywhere=everywhere,
        view=view,
        way_back=view,
        **pauses.of_overview(everywhere=everywhere),
        address=lambda **changes: url_for("operations.index", **{**view, **changes}),
        problem=problem,
        selected=set(request.form.getlist("connection")),
        select=request.args.get("select", ""),
        progresses=[progress_of.progress(web.db(), found) for found in followed],
        recent=bulk.recent(web.db(), workspace_id),
        here=request.full_path,
        may_open=_permission(owner=False),
        alive=heartbeats.alive(web.db()),
        waiting=queue.depth(web.resources()),
    )


def _selection() -> tuple[Filter, str]:
    """What a press of Refresh is about, or what is wrong with it in words: the rows ticked, or all that match.

    What matches is looked for in the workspace whose list was on the screen; another tab may have chosen another.
    """
    form, may_refresh = FilterForm.from_address(), _permission()
    if "matching" in request.form:
        if _everywhere():
            return form.wanted(None), ""
        shown = parsed_uuid(request.form.get("workspace_id", ""))
        if shown is None or not may_refresh(shown):
            abort(404)
        return form.wanted(shown), ""
    if "connection" not in request.form:
        return Filter(), NONE_SELECTED
    named = refreshes.named(web.db(), _uuids(request.form.getlist("connection")))
    chosen = frozenset(connection.id for connection in named if may_refresh(connection.workspace_id))
    return Filter(connection_ids=chosen), "" if chosen else NONE_LEFT


def _page_number() -> int:
    return min(max(request.args.get("page", 1, type=int), 1), LAST_PAGE)


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
        abort(403, web.OWNERS)
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


def _own_bulk(bulk_id: uuid.UUID) -> BulkRefresh:
    """A bulk refresh for a page about it: a member of its workspace who may not follow it gets 403, others 404."""
    found = web.db().get(BulkRefresh, bulk_id) if web.me().user.is_owner else None
    return found or web.find(BulkRefresh, bulk_id, Role.OPERATOR)


def _uuids(texts: Iterable[str]) -> list[uuid.UUID]:
    """Those of `texts` that are ids."""
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(uuid.UUID(text))
    return found

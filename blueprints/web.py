"""What every page needs: the request's database session, who is asking, what they may do, and the way back.

Holds no page of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar, cast
from urllib.parse import urlsplit

from flask import Flask, abort, current_app, flash, g, redirect, request, url_for
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import LoginManager, UserMixin, current_user, login_required
from sqlmodel import Session
from werkzeug.wrappers import Response

import logs
from models import Record, Role, User, UserSession, Workspace
from models.database import AWAY
from models.types import utc_now
from services import audit
from services.audit import Actor
from services.people import members, sign_in
from services.resources import Resources

log = logs.get(__name__)

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Record)

OWNERS = "Only the owner of this installation can do this."
"""What to say to anybody else, instead of sending them to an admin of their workspace."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

login_manager = LoginManager()
login_manager.login_view = "auth.login"
login_manager.login_message = ""
limiter = Limiter(key_func=get_remote_address, in_memory_fallback_enabled=True, headers_enabled=False)


@dataclass(eq=False)
class Person(UserMixin):
    """A signed-in person, as Flask-Login wants it; the id in the cookie is the session's random token."""

    user: User
    session_row: UserSession
    token: str

    def get_id(self) -> str:
        """What Flask-Login keeps in the signed cookie."""
        return self.token

    @property
    def email(self) -> str:
        """Sign-in name."""
        return self.user.email

    @property
    def time_zone(self) -> str:
        """IANA name, or empty for the browser's."""
        return self.user.time_zone


def resources() -> Resources:
    """The process's resources."""
    return cast(Resources, current_app.extensions["cardkey"])


def db() -> Session:
    """The request's session: opened on first use, closed with the request, never committed here."""
    if "db" not in g:
        g.db_context = resources().database.session(writing=request.method not in SAFE_METHODS)
        g.db = g.db_context.__enter__()
    return cast(Session, g.db)


def release_db() -> None:
    """Close the session: at the request's end, and before anything slow."""
    context = g.pop("db_context", None)
    g.pop("db", None)
    if context is not None:
        context.__exit__(None, None, None)


def me() -> Person:
    """Who is asking; only inside views that require sign-in."""
    return cast(Person, current_user)


def actor() -> Actor:
    """Who is asking, for the audit trail."""
    return Actor.person(me().user)


@login_manager.user_loader
def load_person(token: str) -> Person | None:
    """Read who a cookie belongs to; looked up anew on every request, so that an end acts at once."""
    found = sign_in.current(db(), resources().settings, token)
    if found is None:
        return None
    g.session_use = (found[1].id, found[1].seen_at)
    return Person(*found, token)


@login_manager.unauthorized_handler
def ask_to_sign_in() -> Response:
    """Send to the sign-in page and back; htmx is told to load the whole page, and back is to the page it is on."""
    if is_htmx():
        address = url_for("auth.login", next=safe_next(_page_behind()))
        return Response(status=401, headers={"HX-Redirect": address})
    here = request.full_path.rstrip("?") if request.method == "GET" else None
    return redirect(url_for("auth.login", next=here), 303)


def _page_behind() -> str:
    """Path and query of the page that htmx works on; empty when it says nothing usable."""
    try:
        page = urlsplit(request.headers.get("HX-Current-URL", ""))
    except ValueError:
        return ""
    return f"{page.path}?{page.query}" if page.query else page.path


def current_workspace() -> Workspace:
    """The workspace whose lists are shown; 404 for somebody who belongs to none."""
    found = workspace_and_role()
    if found is None:
        abort(404)
    return found[0]


def workspace_and_role() -> tuple[Workspace, Role] | None:
    """The session's workspace if the person still belongs to it, else their first one."""
    if "workspace" not in g:
        mine = members.workspaces_of(db(), me().user.id)
        chosen = [pair for pair in mine if pair[0].id == me().session_row.workspace_id]
        g.workspace = next(iter([*chosen, *mine]), None)
    return cast("tuple[Workspace, Role] | None", g.workspace)


def current_role() -> Role | None:
    """The person's role in the workspace this request is about."""
    found = workspace_and_role()
    return found[1] if found else None


def target_workspace() -> Workspace:
    """The workspace a new thing goes to: the one its form was opened in, if that is still the person's to change.

    Another tab may have switched the session's workspace meanwhile. 404 for one that is not, never another instead.
    """
    if not request.form.get("workspace_id"):
        return current_workspace()
    try:
        opened_in = db().get(Workspace, uuid.UUID(request.form["workspace_id"]))
    except ValueError:
        opened_in = None
    if opened_in is None or role_in(opened_in.id) is not Role.ADMIN:
        abort(404)
    g.workspace = (opened_in, Role.ADMIN)
    return opened_in


def role_in(workspace_id: uuid.UUID) -> Role | None:
    """The person's role there, at this moment."""
    return members.role_in(db(), me().user.id, workspace_id)


def find(model: type[M], row_id: uuid.UUID, role: Role) -> M:
    """A tenant's row for somebody with `role` in *its* workspace.

    Foreign and absent rows are the same 404; a member whose role does not reach gets 403.
    """
    row = db().get(model, row_id)
    if row is None:
        abort(404)
    held = role_in(cast(Any, row).workspace_id)
    if held is None or not held.includes(role):
        refuse(cast(Any, row).workspace_id, is_member=held is not None)
    g.workspace = (db().get_one(Workspace, cast(Any, row).workspace_id), held)
    return row


def refuse(workspace_id: uuid.UUID, *, is_member: bool) -> NoReturn:
    """Note who was denied what (LG-03), then answer 403, or to whoever is no member the 404 of what is absent."""
    user, what = me().user, f"{request.method} {request.endpoint}"
    release_db()
    try:
        with resources().database.session(writing=True) as session:
            audit.note_refusal(session, user, workspace_id, what, is_member=is_member)
    except AWAY as problem:
        log.warning("refusal not noted", endpoint=request.endpoint, problem=type(problem).__name__)
    abort(403 if is_member else 404)


def role_required(role: Role) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For pages about the current workspace as such: sign-in, membership and `role` in it."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        @login_required
        def checked(*args: P.args, **kwargs: P.kwargs) -> R:
            found = workspace_and_role()
            if found is None:
                abort(404)
            if not found[1].includes(role):
                refuse(found[0].id, is_member=True)
            return view(*args, **kwargs)

        return cast(Callable[P, R], checked)

    return decorate


def note_use() -> None:
    """Remember that the session is in use, after the request's own work, so that idling counts from the last click."""
    session_id, seen_at = g.pop("session_use", (None, None))
    if session_id is None:
        return
    every = min(sign_in.SEEN_EVERY, timedelta(seconds=resources().settings.session_idle / 4))
    if utc_now() - seen_at < every:
        return
    try:
        with resources().database.session(writing=True) as session:
            sign_in.seen(session, session_id)
    except AWAY as problem:
        log.warning("session use not noted", problem=type(problem).__name__)  # the next click tries again


def end_request(_error: BaseException | None) -> None:
    """Give the session back, then note the use; a second session on SQLite would wait for the first."""
    release_db()
    note_use()


def is_htmx() -> bool:
    """Whether htmx asks for a fragment."""
    return request.headers.get("HX-Request") == "true"


def see_other(endpoint: str, message: str = "", **values: Any) -> Response:
    """303 to a page of ours after a change, with a word about it."""
    if message:
        flash(message, "success")
    address = url_for(endpoint, **values)
    if is_htmx():
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address, 303)


def safe_next(target: str | None) -> str | None:
    """`target` if it is a path of ours, else None: no redirect ever leaves the site (AC-12)."""
    if not target or not target.startswith("/") or target.startswith(("//", "/\\")):
        return None
    if any(ord(char) < 33 or char == "\\" or ord(char) == 127 for char in target):
        return None
    return target


def init_app(app: Flask) -> None:
    """Attach sign-in, throttling and the request's session to the app."""
    login_manager.init_app(app, add_context_processor=False)
    # Asks who it is where a template names it, not before every template: error pages come without a database.
    app.jinja_env.globals["current_user"] = current_user
    limiter.init_app(app)
    app.teardown_request(end_request)

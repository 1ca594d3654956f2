"""Every refusal and failure as a page in plain words, or a fragment of it for htmx; never a trace."""

from __future__ import annotations

import uuid

from flask import Flask, Response, current_app, redirect, render_template, request
from flask_wtf.csrf import CSRFError
from gunicorn.http.errors import ParseException
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response as AnyResponse

import logs
from blueprints import carried
from blueprints.web import SAFE_METHODS, is_htmx
from models.database import AWAY
from services.errors import NotFound, Refused

log = logs.get(__name__)

STALE_FORM = "Your session may have ended. {}opy long texts, reload the page and send it again."

WORDS = {
    400: ("This request could not be understood", "Go back, reload the page and try once more."),
    401: ("Please sign in", "Your session has ended. Sign in and try once more."),
    403: ("This is not open to you", "Your role in this workspace does not include this. Ask an admin of it."),
    404: ("There is nothing here", "It may have been deleted, or it belongs to a workspace you are not a member of."),
    405: ("This page cannot be used that way", "Go back and use the buttons on the page."),
    409: ("That is not possible right now", "Reload the page to see how things stand."),
    413: ("That is too large", "A form here may hold 256 KB. Shorten what you entered; use Back to find it as it was."),
    429: ("Too many tries", "Wait a minute, then try again."),
    500: (
        "Something broke on our side",
        "It has been logged. Try again; if it stays, give the id below to whoever runs this installation.",
    ),
    503: ("The database cannot be used right now", "Nothing was lost. Try again in a minute."),
}
UNSAVED = "What you sent was not saved: {}try again in a minute."


def init_app(app: Flask) -> None:
    """Register the handlers."""
    app.register_error_handler(HTTPException, show)
    app.register_error_handler(CSRFError, show_csrf)
    app.register_error_handler(ParseException, lambda _error: page(400))  # a body in broken chunks
    app.register_error_handler(NotFound, lambda _error: page(404))
    app.register_error_handler(Refused, lambda error: page(409, str(error)))
    for away in AWAY:
        app.register_error_handler(away, show_database)


def show(error: HTTPException) -> AnyResponse | HTTPException:
    """Any HTTP error, the unexpected ones with an id that leads to the log; for a button's address, its page."""
    if error.response is not None:
        return error
    code = error.code or 500
    if code == 405 and request.method == "GET" and not is_htmx():
        return redirect(_page_above(), 303)
    if isinstance(error, InternalServerError):
        reference = uuid.uuid4().hex[:12]
        log.error("unexpected", reference=reference, endpoint=request.endpoint, exc_info=error.original_exception)
        return page(500, reference=reference)
    own_words = error.description if code in (400, 403) and error.description != type(error).description else None
    return page(code, own_words)


def _page_above() -> str:
    """The page that an address of a button belongs to, with its query: somebody opened, or reloaded, the address."""
    path, query = request.path.rstrip("/"), request.query_string.decode("latin-1")
    routes = current_app.create_url_adapter(request)
    while routes is not None and "/" in path.lstrip("/"):
        path = path.rpartition("/")[0]
        if routes.test(path, "GET"):
            return f"{path}?{query}" if query else path
    return "/"


def show_csrf(_error: CSRFError) -> Response:
    """A form without its token: an old tab, whose fields are not lost, or another site."""
    carried_on = carried.refused()
    if carried_on is not None:
        return Response(carried_on, status=400)
    return page(400, STALE_FORM.format("C" if is_htmx() else "Go back, c"), title="This form is out of date")


def show_database(error: SQLAlchemyError) -> Response:
    """The database is away, locked, full or not to be written to; the log has its own words."""
    said = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0][:200]
    log.error("database unavailable", endpoint=request.endpoint, problem=type(error).__name__, said=said)
    unsent = (
        None if request.method in SAFE_METHODS else UNSAVED.format("" if is_htmx() else "use Back to find it, and ")
    )
    response = page(503, unsent)
    response.headers["Retry-After"] = "30"
    return response


def page(code: int, advice: str | None = None, reference: str = "", title: str = "") -> Response:
    """The error page. Needs neither database nor session, since either may be what failed."""
    usual, general = WORDS.get(code, WORDS[400] if code < 500 else WORDS[500])
    template = "errors/_error.html" if is_htmx() else "errors/error.html"
    body = render_template(template, code=code, title=title or usual, advice=advice or general, reference=reference)
    response = Response(body, status=code)
    if is_htmx():
        response.headers["HX-Retarget"] = "#flashes"
        response.headers["HX-Reswap"] = "innerHTML"
    return response

"""What was typed into a form whose session had ended: carried through signing in, and back into the form.

For browsers without a script; with one, a page sees by itself that its session has ended, and keeps what it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from flask import g, render_template, request, url_for
from flask_login import current_user

from blueprints import web
from blueprints.auth.forms import SignInForm
from services.setup import headers

PREFIX, TO, LEFT_OUT = "carried:", "carried_to", "carried_left_out"
SHOWN_AGAIN = {
    "connections.create": "connections.fields",
    "connections.save": "connections.fields",
    "cards.create": "cards.fields",
    "cards.save": "cards.fields",
}
"""Where a form comes back unsaved, with everything typed; any other is sent again as it was."""
SECRET = re.compile(r"(^|-)(client_secret|authorization_header|present|password|token)$")
HEADER = re.compile(r"headers-([0-9]+)-value")
NOT_CARRIED = frozenset({"csrf_token", "next", TO})


@dataclass(frozen=True)
class Carried:
    """A form on its way back."""

    to: str
    """Path of ours it is sent to."""
    fields: tuple[tuple[str, str], ...]
    """Names and values; secrets are not among them."""
    left_out: bool
    """Whether something secret has to be typed again."""
    again: bool
    """Whether it is sent as it was, instead of being shown."""


def refused() -> str | None:
    """The page for a form whose token no longer fits: to sign in, or to go on at once; None where nothing is carried.

    Only for browsers that say that one of our own pages sent it: nobody else's form is offered to anybody.
    """
    if web.is_htmx() or request.blueprint in (None, "auth") or not _is_ours():
        return None
    typed = [(name, value) for name, value in request.form.items(multi=True) if name not in NOT_CARRIED]
    kept = tuple((name, value) for name, value in typed if not _is_secret(name))
    shown = SHOWN_AGAIN.get(request.endpoint or "")
    to = url_for(shown) if shown else request.full_path.rstrip("?")
    left_out = any(value and _is_secret(name) for name, value in typed)
    carried = Carried(to, kept, left_out, again=shown is None)
    if current_user.is_authenticated:
        return page(carried)
    return render_template("auth/login.html", form=SignInForm(formdata=None), next="", carried=carried)


def with_sign_in() -> Carried | None:
    """What a sign-in form carries along; None when it is only a sign-in."""
    to = web.safe_next(request.form.get(TO))
    if to is None:
        return None
    pairs = request.form.items(multi=True)
    fields = tuple((name.removeprefix(PREFIX), value) for name, value in pairs if name.startswith(PREFIX))
    shown = {url_for(endpoint) for endpoint in SHOWN_AGAIN.values()}
    return Carried(to, fields, LEFT_OUT in request.form, again=to not in shown)


def page(carried: Carried) -> str:
    """The way back for somebody signed in: a press of a button that carries a fresh form token."""
    g.pop("csrf_token", None)  # made before signing in, which began a new session
    return render_template("auth/carried.html", carried=carried)


def _is_ours() -> bool:
    public = urlsplit(web.resources().settings.public_url)
    own = request.headers.get("Origin") == f"{public.scheme}://{public.netloc}"
    return own or request.headers.get("Sec-Fetch-Site") == "same-origin"


def _is_secret(name: str) -> bool:
    """Whether what was typed there is a secret. Sealed ones (`…-kept`) travel, since only their person opens them."""
    if SECRET.search(name):
        return True
    row = HEADER.fullmatch(name)
    if row is None:
        return False
    called, ticked = (request.form.get(f"headers-{row[1]}-{part}", "") for part in ("name", "secret"))
    return headers.is_secret(called, bool(ticked))

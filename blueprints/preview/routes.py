"""Preview of a card: run it, and show the rendered card in a frame of its own."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from flask import Blueprint, Response, abort, render_template, request
from flask_login import login_required

from blueprints import web
from blueprints.forms import Form
from blueprints.preview import advice
from blueprints.preview.forms import values_form
from models import Card, CardPreview, Role, User
from rendering.frame import FRAME_CSP
from services.calling import call_plans, preview
from services.calling.preview import Preview

blueprint = Blueprint("preview", __name__, url_prefix="/cards")


@dataclass(frozen=True)
class Panel:
    """What the panel's template shows."""

    card: Card
    form: Form
    used: tuple[str, ...]
    """Names of the form's fields for sample values."""
    is_admin: bool
    """Whether a template that is not saved may be tried, and the request and reply are shown."""
    preview: Preview | None = None
    advice: str = ""
    """What to do about its failure, for whoever pressed."""


def panel(card: Card) -> Panel:
    """The panel for a page about `card`, before anything was previewed."""
    used = call_plans.placeholders_of(web.db(), card)
    form = values_form(used)(formdata=None)
    return Panel(card, form, tuple(known.name for known in used), web.current_role() is Role.ADMIN)


@blueprint.post("/<uuid:card_id>/preview")
@login_required
def run(card_id: uuid.UUID) -> str | tuple[str, int]:
    """Call the API and render the card: a fragment for htmx, a page for everybody else."""
    card = web.find(Card, card_id, Role.AGENT)
    used = call_plans.placeholders_of(web.db(), card)
    role = web.current_role()
    form, is_admin = values_form(used)(), role is Role.ADMIN
    names = tuple(known.name for known in used)
    if not form.validate():
        return _answer(Panel(card, form, names, is_admin)), 422
    values = {name: form[name].data or "" for name in names}
    template = request.form.get("template_content") if is_admin else None
    user = web.me().user
    web.release_db()
    result = preview.run(web.resources(), card.id, user, values, template)
    words = _advice(result, role, user, has_values=bool(names))
    return _answer(Panel(card, form, names, is_admin, result if is_admin else result.without_details(), words))


@blueprint.get("/<uuid:card_id>/frame/<uuid:preview_id>")
@login_required
def frame(card_id: uuid.UUID, preview_id: uuid.UUID) -> Response:
    """A rendered card, for the person who asked for it and nobody else."""
    row = web.find(CardPreview, preview_id, Role.AGENT)
    if row.card_id != card_id or row.user_id != web.me().user.id:
        abort(404)
    document = preview.document(web.db(), row)
    if document is None:
        abort(404)
    response = Response(document)
    response.headers["Content-Security-Policy"] = FRAME_CSP
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-DNS-Prefetch-Control"] = "off"
    return response


def _answer(shown: Panel) -> str:
    template = "preview/_preview.html" if web.is_htmx() else "preview/preview.html"
    return render_template(template, panel=shown)


def _advice(result: Preview, role: Role | None, user: User, *, has_values: bool) -> str:
    if result.failure is None or role is None:
        return ""
    return advice.advice(result.failure, role, is_owner=user.is_owner, status=result.status, has_values=has_values)

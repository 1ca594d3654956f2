"""Pages of cards. Agents look at them; only admins change them."""

from __future__ import annotations

import uuid
from typing import Any

from flask import Blueprint, flash, render_template, request, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from blueprints import gone, web
from blueprints.cards import examples, forms
from blueprints.connections import forms as connection_forms
from blueprints.connections.routes import authorization_of, redirect_url, standing
from blueprints.forms import parsed_uuid
from blueprints.pauses import view
from blueprints.preview.routes import panel
from blueprints.stale import Conflict, conflict
from models import Card, Connection, Role
from services.errors import InvalidInput, NotFound, Stale
from services.setup import cards, connections, headers

blueprint = Blueprint("cards", __name__, url_prefix="/cards")

Page = str | Response | tuple[str, int]


@blueprint.get("")
@web.role_required(Role.AGENT)
def index() -> Page:
    """Every card of the workspace, its connection's state at a glance."""
    rows = cards.of_workspace(web.db(), web.current_workspace().id)
    pauses = view.of_lists()
    return render_template(
        "cards/index.html",
        rows=rows,
        stopped=view.stopped([connection for _card, connection in rows if connection], pauses["notices"]),
        may_edit=web.current_role() is Role.ADMIN,
        examples=_examples(),
        **pauses,
    )


@blueprint.get("/new")
@web.role_required(Role.ADMIN)
def new() -> Page:
    """A card to be made, empty or from an example."""
    example = _examples().get(request.args.get("example", ""))
    form = forms.CardForm(formdata=None, data=example.card if example else None)
    form.connection = connection_forms.empty_form(_unused(example.connection) if example else None)
    return editor(None, form)


@blueprint.post("/new")
@web.role_required(Role.ADMIN)
def create() -> Page:
    """Save configuration, for the first time."""
    return _save(None)


@blueprint.get("/<uuid:card_id>")
@login_required
def show(card_id: uuid.UUID) -> Page:
    """The editor for admins, the card as such for everybody else."""
    card = web.find(Card, card_id, Role.AGENT)
    if web.current_role() is not Role.ADMIN:
        connection = cards.connection_of(web.db(), card)
        return render_template(
            "cards/card.html",
            card=card,
            connection=connection,
            may_open=web.current_role() is Role.OPERATOR,
            panel=panel(card),
            **(view.of_connection(connection) if connection else {"notices": []}),
        )
    form = forms.stored_card(card, headers.of_card(web.db(), card), web.resources().database.keyring)
    connection = cards.connection_of(web.db(), card)
    form.connection = connection_forms.stored_form(web.db(), connection) if connection else None
    return editor(card, form)


@blueprint.post("/<uuid:card_id>")
@login_required
def save(card_id: uuid.UUID) -> Page:
    """Save configuration."""
    deleted = gone.deletion(Card, card_id)
    return _after_deletion(deleted) if deleted else _save(web.find(Card, card_id, Role.ADMIN))


@blueprint.post("/fields")
@web.role_required(Role.ADMIN)
def fields() -> Page:
    """Other fields after another choice, with everything typed kept; the whole page without htmx."""
    row_id = parsed_uuid(request.form.get("card_id"))
    deleted = gone.deletion(Card, row_id)
    card = web.find(Card, row_id, Role.ADMIN) if row_id and not deleted else None
    form = typed_form(card)
    if web.is_htmx():
        return render_template("cards/_fields.html", **_context(card, form))
    return editor(card, form, deleted=deleted or _lost_connection(form))


@blueprint.get("/<uuid:card_id>/delete")
@login_required
def confirm_delete(card_id: uuid.UUID) -> Page:
    """What deleting breaks."""
    card = web.find(Card, card_id, Role.ADMIN)
    connection = cards.connection_of(web.db(), card)
    return render_template("cards/delete.html", card=card, connection=connection, others=_others(card, connection))


@blueprint.post("/<uuid:card_id>/delete")
@login_required
def delete(card_id: uuid.UUID) -> Page:
    """Delete the card and its secrets."""
    card = web.find(Card, card_id, Role.ADMIN)
    title = card.title
    cards.delete(web.db(), web.actor(), card)
    return web.see_other("cards.index", f"{title} is deleted.")


def editor(
    card: Card | None, form: forms.CardForm, clash: Conflict | None = None, deleted: gone.Deleted | None = None
) -> str:
    """The editor of one card, or of one to be made."""
    return render_template("cards/editor.html", conflict=clash, deleted=deleted, **_context(card, form))


def typed_form(card: Card | None) -> forms.CardForm:
    """The card's form as posted; a newly chosen connection brings its own stored values.

    What was typed for one that was deleted meanwhile stays, as a new one's.
    """
    form = forms.typed_card(request.form)
    _offer(form, _workspace_id(card))
    stored = _chosen(form)
    shown = request.form.get("shown_connection", forms.NEW)
    if shown == form.connection_id.data or (shown == request.form.get("connection_id") and _is_typed()):
        form.connection = connection_forms.typed_form(request.form, web.db(), stored)
    elif stored is not None:
        form.connection = connection_forms.stored_form(web.db(), stored)
    else:
        form.connection = connection_forms.empty_form()
    return form


def _context(card: Card | None, form: forms.CardForm) -> dict[str, Any]:
    """What the editor and its fragment need."""
    _offer(form, _workspace_id(card))
    form.date_secrets(card, headers.of_card(web.db(), card) if card else [])
    if form.connection is None:
        form.connection = connection_forms.empty_form()
    connection = cards.connection_of(web.db(), card) if card else None
    return {
        "card": card,
        "form": form,
        "fields_url": "cards.fields",
        "redirect_url": redirect_url(),
        "workspace_id": _workspace_id(card),
        "connection": connection,
        "shared_with": _others(card, _chosen(form)),
        "examples": _examples() if card is None else {},
        "panel": panel(card) if card else None,
        **(standing(connection) if connection else {}),
        **(authorization_of(connection, url_for("cards.show", card_id=card.id)) if card and connection else {}),
    }


def _save(card: Card | None) -> Page:
    form = typed_form(card)
    if _is_search():
        return editor(card, form)
    lost = _lost_connection(form)
    if lost is not None:
        return _without_connection(card, form, lost)
    row_id, workspace_id = card.id if card else None, _workspace_id(card)
    sound = form.validate()
    if not sound:
        if form.readable:
            form.show(InvalidInput(cards.check(web.db(), web.resources(), workspace_id, form.typed(), card)))
        return editor(card, form), 422
    try:
        saved = cards.save(
            web.db(),
            web.resources(),
            web.actor(),
            workspace_id,
            form.typed(),
            existing=card,
            version=form.read_version(),
        )
    except InvalidInput as problem:
        form.show(problem)
        return editor(card, form), 422
    except NotFound:
        web.db().rollback()
        deleted = gone.deletion(Card, row_id)
        if deleted is not None:
            return _after_deletion(deleted)
        form = typed_form(card)
        lost = _lost_connection(form)
        if lost is None:
            raise
        return _without_connection(card, form, lost)
    except Stale as problem:
        return _conflict(card, form, problem)
    for note in form.notes():
        flash(note, "info")
    return web.see_other("cards.show", f"Configuration saved. {_what_follows(saved, form)}".rstrip(), card_id=saved.id)


def _what_follows(saved: Card, form: forms.CardForm) -> str:
    connection = cards.connection_of(web.db(), saved)
    if connection is None or form.connection is None:
        return ""
    return connections.what_follows(web.db(), connection, form.connection.configuration())


def _conflict(card: Card | None, form: forms.CardForm, problem: Stale) -> Page:
    """Both people's values side by side; saving again takes what stands in the form."""
    web.db().rollback()
    now = problem.current
    if isinstance(now, Connection):
        assert form.connection is not None
        form.connection.version.data = str(now.version)
        found = conflict(form.connection, connection_forms.stored_form(web.db(), now), now)
        return editor(card, form, found), 409
    form.version.data = str(now.version)
    stored = forms.stored_card(now, headers.of_card(web.db(), now), web.resources().database.keyring)
    _offer(stored, now.workspace_id)
    return editor(now, form, conflict(form, stored, now)), 409


def _after_deletion(deleted: gone.Deleted) -> Page:
    """What was typed for a card that is gone: a new one, which is not saved yet."""
    return editor(None, typed_form(None), deleted=deleted), 410


def _lost_connection(form: forms.CardForm) -> gone.Deleted | None:
    """The connection that was chosen in the form, if somebody has deleted it since."""
    return gone.deletion(Connection, parsed_uuid(request.form.get("connection_id"))) if form.wants_oauth else None


def _without_connection(card: Card | None, form: forms.CardForm, lost: gone.Deleted) -> Page:
    """The form, whose connection is one to be made now; if somebody has edited the card as well, both values."""
    clash = None
    if card is not None and form.read_version() != card.version:
        form.version.data = str(card.version)
        stored = forms.stored_card(card, headers.of_card(web.db(), card), web.resources().database.keyring)
        _offer(stored, card.workspace_id)
        clash = conflict(form, stored, card)
    return editor(card, form, clash if clash and clash.differences else None, lost), 410


def _is_typed() -> bool:
    """Whether a connection's fields were in the form."""
    return f"{connection_forms.PREFIX}grant_type" in request.form


def _offer(form: forms.CardForm, workspace_id: uuid.UUID) -> None:
    """Offer connections to choose from, those that were looked for and the chosen one."""
    chosen = parsed_uuid(form.connection_id.data)
    form.choose_among(connections.offered(web.db(), workspace_id, chosen, form.looked_for))


def _is_search() -> bool:
    """Whether Enter was pressed in the field that looks for connections: that saves nothing yet."""
    typed, found_for = (request.form.get(name, "") for name in ("find_connection", "found_for"))
    return "entered" in request.form and typed != found_for


def _chosen(form: forms.CardForm) -> Connection | None:
    """The existing connection that is chosen in the form."""
    row_id = parsed_uuid(form.connection_id.data)
    return web.find(Connection, row_id, Role.ADMIN) if row_id else None


def _others(card: Card | None, connection: Connection | None) -> list[Card]:
    """Other cards that use the same connection."""
    users = connections.cards_of(web.db(), connection) if connection else []
    return [other for other in users if card is None or other.id != card.id]


def _workspace_id(card: Card | None) -> uuid.UUID:
    return card.workspace_id if card else web.target_workspace().id


def _unused(values: dict[str, Any]) -> dict[str, Any]:
    """An example's connection under a name that this workspace does not use yet: a second try is no mistake."""
    return {**values, "name": connections.unused_name(web.db(), web.current_workspace().id, values["name"])}


def _examples() -> dict[str, examples.Example]:
    return examples.offered(web.resources().settings.rehearsal_url)

"""What an admin decides on a connection's page: using a reply that was kept, and removing one of two client secrets."""

from __future__ import annotations

import uuid

from flask import Blueprint, flash, render_template
from flask_login import login_required

from blueprints import web
from blueprints.connections.routes import Page
from models import Connection, Role
from services.engine import client_secrets, tokens
from services.errors import Refused
from services.setup import connections, replays

blueprint = Blueprint("kept", __name__, url_prefix="/connections")


@blueprint.get("/<uuid:connection_id>/replies")
@login_required
def show(connection_id: uuid.UUID) -> Page:
    """The replies that are kept, as a fragment that renews itself."""
    connection = web.find(Connection, connection_id, Role.ADMIN)
    kept = replays.shown(web.db(), connection, tokens.current_token(web.db(), connection))
    return render_template("connections/_kept.html", connection=connection, kept=kept)


@blueprint.post("/<uuid:connection_id>/replies/<uuid:refresh_id>/use")
@login_required
def use_reply(connection_id: uuid.UUID, refresh_id: uuid.UUID) -> Page:
    """Store the token of a reply that could not be read when it came."""
    web.find(Connection, connection_id, Role.ADMIN)
    actor = web.actor()
    web.release_db()
    try:
        words = replays.use(web.resources(), actor, connection_id, refresh_id)
    except Refused as problem:
        flash(str(problem), "error")
        return web.see_other("connections.show", connection_id=connection_id)
    return web.see_other("connections.show", words, connection_id=connection_id)


@blueprint.get("/<uuid:connection_id>/replies/give-up")
@login_required
def confirm_give_up_replies(connection_id: uuid.UUID) -> Page:
    """What giving up a kept reply may cost."""
    connection = web.find(Connection, connection_id, Role.ADMIN)
    return render_template("connections/give_up_replies.html", connection=connection)


@blueprint.post("/<uuid:connection_id>/replies/give-up")
@login_required
def give_up_replies(connection_id: uuid.UUID) -> Page:
    """Erase what is kept, and go on with the old refresh token."""
    web.find(Connection, connection_id, Role.ADMIN)
    actor = web.actor()
    web.release_db()
    return web.see_other(
        "connections.show", replays.give_up(web.resources(), actor, connection_id), connection_id=connection_id
    )


@blueprint.get("/<uuid:connection_id>/secrets/<uuid:secret_id>/remove")
@login_required
def confirm_remove_secret(connection_id: uuid.UUID, secret_id: uuid.UUID) -> Page:
    """Which client secret goes, and what stays."""
    connection = web.find(Connection, connection_id, Role.ADMIN)
    found = client_secrets.shown(web.db(), connection, tokens.current_token(web.db(), connection))
    secret = next((secret for secret in found if secret.id == secret_id), None)
    if secret is None:
        return web.see_other("connections.show", "That client secret is gone already.", connection_id=connection_id)
    return render_template("connections/remove_secret.html", connection=connection, secret=secret)


@blueprint.post("/<uuid:connection_id>/secrets/<uuid:secret_id>/remove")
@login_required
def remove_secret(connection_id: uuid.UUID, secret_id: uuid.UUID) -> Page:
    """Remove one of two client secrets."""
    web.find(Connection, connection_id, Role.ADMIN)
    actor = web.actor()
    web.release_db()
    try:
        connections.remove_secret(web.resources(), actor, connection_id, secret_id)
    except Refused as problem:
        flash(str(problem), "error")
        return web.see_other("connections.show", connection_id=connection_id)
    return web.see_other("connections.show", "The client secret was removed.", connection_id=connection_id)

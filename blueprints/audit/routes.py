"""The audit page, for admins of the current workspace."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from blueprints import web
from blueprints.audit import words
from models import Role
from services import audit

blueprint = Blueprint("audit", __name__)

PAGE = 50
LAST_PAGE = 10_000


@blueprint.get("/audit")
@web.role_required(Role.ADMIN)
def index() -> str:
    """One page of entries, newest first."""
    page = min(max(request.args.get("page", 1, type=int), 1), LAST_PAGE)
    found = audit.entries(web.db(), web.current_workspace().id, page=page, size=PAGE)
    return render_template(
        "audit/index.html",
        rows=[(entry, words.icon(entry), words.sentence(entry)) for entry in found[:PAGE]],
        page=page,
        more=len(found) > PAGE,
    )

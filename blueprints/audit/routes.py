"""The audit page, for admins of the current workspace."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from flask import Blueprint, render_template, request

from blueprints import web
from blueprints.audit import words
from blueprints.audit.forms import FilterForm
from models import AuditEntry, Role
from services import audit
from services.operating.pauses import OWNER

blueprint = Blueprint("audit", __name__)

PAGE = 50
LAST_PAGE = 10_000


@blueprint.get("/audit")
@web.role_required(Role.ADMIN)
def index() -> str:
    """One page of entries, newest first."""
    page = min(max(request.args.get("page", 1, type=int), 1), LAST_PAGE)
    form = FilterForm.from_address()
    found = audit.entries(
        web.db(),
        web.current_workspace().id,
        page=page,
        size=PAGE,
        subjects=form.subjects,
        text=form.text.data or "",
    )
    names = audit.emails(web.db(), found) if web.me().user.is_owner else {}
    return render_template(
        "audit/index.html",
        form=form,
        rows=[(entry, _who(entry, names)) for entry in found[:PAGE]],
        words=words,
        page=page,
        more=len(found) > PAGE,
    )


def _who(entry: AuditEntry, names: Mapping[uuid.UUID, str]) -> str:
    """Who acted; the owner of the installation by name, where whoever looks may know it (they are one themselves)."""
    name = names.get(entry.user_id) if entry.user_id and entry.actor == OWNER else None
    return f"{entry.actor} ({name})" if name else entry.actor

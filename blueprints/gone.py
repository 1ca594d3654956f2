"""A form about something that was deleted since it was opened: who did that, and when, for whoever may know."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from flask import g

from blueprints import web
from models import Card, Connection, Role, Workspace
from services import audit
from services.people import members


@dataclass(frozen=True)
class Deleted:
    """What is no longer there."""

    kind: str
    """`card` or `connection`."""
    name: str
    by: str
    """Who did it, as far as whoever looks may know; else empty."""
    is_own: bool
    """Whether it was the same person, in another tab or window."""
    at: datetime


def deletion(model: type[Card] | type[Connection], row_id: uuid.UUID | None) -> Deleted | None:
    """Who deleted a row, told to admins of its workspace, which the request is about from then on.

    None where it is still there or never was, and for everybody else: to them all of that looks alike.
    """
    if row_id is None or web.db().get(model, row_id) is not None:
        return None
    kind = model.__name__.lower()
    entry = audit.deletion(web.db(), kind, row_id)
    if entry is None or entry.workspace_id is None or web.role_in(entry.workspace_id) is not Role.ADMIN:
        return None
    g.workspace = (web.db().get_one(Workspace, entry.workspace_id), Role.ADMIN)
    is_own = entry.user_id is not None and entry.user_id == web.me().user.id
    who = members.known_name(web.db(), entry)
    return Deleted(kind, entry.subject_name, who, is_own, entry.at)

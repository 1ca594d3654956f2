"""A form that met a newer save: who made that, and what each of the two has, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wtforms import BooleanField, Form, SelectField

from blueprints import web
from models import Card, Connection
from services import audit
from services.people import members

SKIPPED = frozenset({"version", "csrf_token", "keep_old_secret"})


@dataclass(frozen=True)
class Difference:
    """One field that was filled in differently."""

    label: str
    typed: str
    stored: str


@dataclass(frozen=True)
class Conflict:
    """What was saved since the form was opened, beside what stands in it."""

    differences: Sequence[Difference]
    by: str
    """Who saved, as far as whoever looks may know; empty where that is not known."""
    is_own: bool
    """Whether it was the same person, in another tab or window."""
    at: datetime | None


def conflict(form: Form, stored_form: Form, row: Card | Connection) -> Conflict:
    """What there is to say when `row` was saved since `form` was opened."""
    entry = audit.last(web.db(), row, f"{'card' if isinstance(row, Card) else 'connection'}.configured")
    found = differences(form, stored_form)
    if entry is None or entry.user_id is None:
        return Conflict(found, "", False, None)
    is_member = members.role_in(web.db(), entry.user_id, row.workspace_id) is not None
    return Conflict(found, entry.actor if is_member else "", entry.user_id == web.me().user.id, entry.at)


def differences(form: Form, stored_form: Form) -> list[Difference]:
    """Fields in which what was typed differs from what is stored now; secrets are left out."""
    found = []
    for name, field in form._fields.items():
        other = stored_form._fields.get(name)
        if other is None or name in SKIPPED or not isinstance(field.data, str | bool | None):
            continue
        mine, theirs = _words(field), _words(other)
        if mine != theirs:
            found.append(Difference(field.label.text, mine, theirs))
    return found


def _words(field: Any) -> str:
    if isinstance(field, BooleanField):
        return "yes" if field.data else "no"
    if isinstance(field, SelectField):
        return str(dict(field.choices or ()).get(field.data, field.data or "")).strip()
    return str(field.data or "").strip()

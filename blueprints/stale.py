"""Two people saved at once: what each of them has, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wtforms import BooleanField, Form, SelectField

SKIPPED = frozenset({"version", "csrf_token", "keep_old_secret"})


@dataclass(frozen=True)
class Difference:
    """One field that two people filled in differently."""

    label: str
    typed: str
    stored: str


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

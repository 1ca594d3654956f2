"""The request headers of a card: what may be sent, and which values are secrets."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from sqlmodel import Session, col, select

import outbound
from models import Card, CardHeader, keyring_of
from models.types import utc_now
from rendering import placeholders

MOST = 20
LONGEST_VALUE = 4096
MOVED = (
    "The Hook URL now points to another host, so enter this again: a stored secret goes only to the host it was given "
    "for."
)
SECRET_NAME = re.compile(r"(?i)key|token|secret|auth|passw|credential|session")


@dataclass(frozen=True)
class TypedHeader:
    """One header as typed. `value` is None where nothing was typed; `row_id` names the stored row it came from."""

    name: str
    value: SecretStr | None
    secret: bool
    row_id: uuid.UUID | None = None


def of_card(session: Session, card: Card) -> Sequence[CardHeader]:
    """A card's headers in their order."""
    query = select(CardHeader).where(CardHeader.workspace_id == card.workspace_id, CardHeader.card_id == card.id)
    return session.exec(query.order_by(col(CardHeader.position), col(CardHeader.id))).all()


def is_secret(name: str, ticked: bool) -> bool:
    """Whether a value is kept from sight: as ticked, or because its name says so."""
    return ticked or SECRET_NAME.search(name) is not None


def problems(session: Session, typed: Sequence[TypedHeader], card: Card | None, moved: bool) -> dict[str, str]:
    """What is wrong with the headers: `headers-<place>-<field>` → words."""
    stored = _stored(session, card)
    errors: dict[str, str] = {}
    if len(typed) > MOST:
        errors["headers"] = f"A card may have {MOST} headers at most."
    seen: set[str] = set()
    for place, header in enumerate(typed):
        at = f"headers-{place}-"
        before = stored.get(header.row_id) if header.row_id else None
        errors |= _name_problem(f"{at}name", header.name, seen)
        if header.value is not None:
            errors |= value_problem(f"{at}value", header.value.get_secret_value())
        elif before is not None and before.secret and (moved or before.name.lower() != header.name.lower()):
            errors[f"{at}value"] = MOVED if moved else "The name changed, so enter the value again."
        seen.add(header.name.lower())
    return errors


def value_problem(field: str, value: str) -> dict[str, str]:
    """What is wrong with one header value, its placeholders included: field → words."""
    if len(value) > LONGEST_VALUE:
        return {field: f"A header value holds {LONGEST_VALUE} characters at most."}
    try:
        placeholders.check(value)
        outbound.check_header("X-Value", value)
    except ValueError as problem:
        return {field: str(problem)}
    return {}


def write(session: Session, card: Card, typed: Sequence[TypedHeader]) -> None:
    """Make a card's headers those that were typed. Does not commit."""
    stored = _stored(session, card)
    for place, header in enumerate(typed):
        row = stored.pop(header.row_id, None) if header.row_id else None
        row = row or CardHeader(workspace_id=card.workspace_id, card_id=card.id, name=header.name)
        row.position, row.name = place, header.name
        row.secret = is_secret(header.name, header.secret) or (row.secret and header.value is None)
        if header.value is not None:
            row.seal("value", header.value, keyring_of(session))
            row.set_at = utc_now()
        elif not row.secret:
            row.value_sealed = None
        session.add(row)
    for row in stored.values():
        session.delete(row)
    session.flush()


def _stored(session: Session, card: Card | None) -> dict[uuid.UUID | None, CardHeader]:
    return {row.id: row for row in of_card(session, card)} if card is not None else {}


def _name_problem(field: str, name: str, seen: set[str]) -> dict[str, str]:
    if not name:
        return {field: "Give the header a name, or remove the row."}
    if name.lower() in seen:
        return {field: "This header is there twice."}
    try:
        outbound.check_header(name, "")
    except ValueError as problem:
        return {field: str(problem)}
    return {}

"""The keys of stored secrets: moving every secret to the current key while everything runs, and counting them.

Knows secrets only as columns named `<field>_sealed`, so a new table with secrets is included by itself.
"""

from __future__ import annotations

import base64
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, CursorResult, Row, Table, func, or_, select, update
from sqlmodel import Session

from models import Record, keyring_of
from models.types import FORMAT, Keyring, Place, Undecryptable, key_id_of
from services import audit
from services.audit import COMMAND_LINE
from services.resources import Resources

ROWS_AT_ONCE = 100
"""Rows in one commit: small, so that no refresh waits noticeably for its turn to write."""
PASSES = 20
PAUSE_SECONDS = 0.5
"""Between passes, for rows that were being written at the moment."""


@dataclass(frozen=True)
class Damage:
    """A secret that cannot be decrypted: where it is, and why."""

    table: str
    row_id: uuid.UUID
    field: str
    reason: str


@dataclass
class Rotation:
    """What a rotation did."""

    key_id: str
    moved: int = 0
    """Secrets now under the current key that were not before."""
    left: int = 0
    """Rows that still need another key although nothing is wrong with them: they were being written all the time."""
    damaged: list[Damage] = field(default_factory=list)


@dataclass
class Inventory:
    """Every stored secret, by the key it needs."""

    current_id: str
    by_key: Counter[str] = field(default_factory=Counter)
    damaged: list[Damage] = field(default_factory=list)
    spare: tuple[str, ...] = ()
    """Keys of the ring that no secret needs any more."""


def new_key() -> str:
    """A fresh key in the form `CARDKEY_ENCRYPTION_KEYS` has, with an id of its own."""
    return f"k{secrets.token_hex(4)}:{base64.b64encode(secrets.token_bytes(32)).decode()}"


def rotate(resources: Resources) -> Rotation:
    """Encrypt every secret with the current key.

    Commits in small batches and looks for what is not done yet, so it may be stopped at any moment and
    run again, beside running processes and beside itself. What somebody writes meanwhile is never overwritten.
    """
    done = Rotation(resources.database.keyring.current_id)
    for number in range(PASSES):
        if number:
            time.sleep(PAUSE_SECONDS)
        done.left, done.damaged = 0, []
        for table, columns in sealed_columns():
            _rotate_table(resources, table, columns, done)
        if not done.left:
            break
    with resources.database.session(writing=True) as session:
        audit.record_for(session, COMMAND_LINE, "keys.rotated", None, key=done.key_id, secrets=done.moved)
        session.commit()
    return done


def check(resources: Resources) -> Inventory:
    """Decrypt every secret once, keep none, and count them by key. Changes nothing."""
    keyring = resources.database.keyring
    found = Inventory(keyring.current_id)
    for table, columns in sealed_columns():
        for row in _rows(resources, table, columns):
            for column in columns:
                _count(found, keyring, table, row, column)
    found.spare = tuple(key_id for key_id in keyring.ids[1:] if not found.by_key[key_id])
    return found


def sealed_columns() -> Iterator[tuple[Table, list[Column[Any]]]]:
    """Every table that holds secrets, with the columns that do."""
    for table in Record.metadata.sorted_tables:
        columns = [column for column in table.columns if column.name.endswith("_sealed")]
        if columns:
            yield table, columns


def _rotate_table(resources: Resources, table: Table, columns: Sequence[Column[Any]], done: Rotation) -> None:
    """One pass over a table, from the lowest id to the highest."""
    last: uuid.UUID | None = None
    while True:
        with resources.database.session(writing=True) as session:
            rows = _next_rows(session, table, columns, last)
            if not rows:
                break
            for row in rows:
                for column in columns:
                    _rotate_one(session, table, row, column, done)
            session.commit()
        last = rows[-1].id
    with resources.database.session() as session:
        remaining = session.execute(select(func.count()).where(_not_current(session, columns))).scalar_one()
    hopeless = {damage.row_id for damage in done.damaged if damage.table == table.name}
    done.left += max(0, remaining - len(hopeless))


def _next_rows(
    session: Session, table: Table, columns: Sequence[Column[Any]], last: uuid.UUID | None
) -> Sequence[Row[Any]]:
    """Rows with something to do. Those somebody is writing to are left for the next pass: we wait for nobody."""
    query = select(table.c.id, table.c.workspace_id, *columns).where(_not_current(session, columns))
    if last is not None:
        query = query.where(table.c.id > last)
    query = query.order_by(table.c.id).limit(ROWS_AT_ONCE).with_for_update(skip_locked=True)
    return session.execute(query).all()


def _not_current(session: Session, columns: Sequence[Column[Any]]) -> Any:
    """Rows in which some secret needs another key than the current one; the stored form starts with the key's id."""
    key_id = keyring_of(session).current_id.encode()
    start = bytes((FORMAT, len(key_id))) + key_id
    return or_(*(func.substr(column, 1, len(start)) != start for column in columns))


def _rotate_one(session: Session, table: Table, row: Row[Any], column: Column[Any], done: Rotation) -> None:
    """Compare and swap on the old ciphertext."""
    keyring, old = keyring_of(session), row._mapping[column.name]
    place = _place(table, row, column)
    if old is None:
        return
    try:
        if key_id_of(old) == keyring.current_id:
            return
        new = keyring.encrypt(keyring.decrypt(old, place), place)
    except Undecryptable as problem:
        done.damaged.append(Damage(table.name, row.id, place.field, str(problem)))
        return
    result = session.execute(update(table).where(table.c.id == row.id, column == old).values({column.name: new}))
    assert isinstance(result, CursorResult)
    done.moved += result.rowcount


def _rows(resources: Resources, table: Table, columns: Sequence[Column[Any]]) -> Iterator[Row[Any]]:
    """Every row with a secret, in short reads so that no transaction stays open."""
    last: uuid.UUID | None = None
    while True:
        query = select(table.c.id, table.c.workspace_id, *columns).where(or_(*(c.is_not(None) for c in columns)))
        if last is not None:
            query = query.where(table.c.id > last)
        with resources.database.session() as session:
            rows = session.execute(query.order_by(table.c.id).limit(ROWS_AT_ONCE)).all()
        yield from rows
        if not rows:
            return
        last = rows[-1].id


def _count(found: Inventory, keyring: Keyring, table: Table, row: Row[Any], column: Column[Any]) -> None:
    sealed = row._mapping[column.name]
    if sealed is None:
        return
    place = _place(table, row, column)
    try:
        found.by_key[key_id_of(sealed)] += 1
        keyring.decrypt(sealed, place)
    except Undecryptable as problem:
        found.damaged.append(Damage(table.name, row.id, place.field, str(problem)))


def _place(table: Table, row: Row[Any], column: Column[Any]) -> Place:
    return Place(row.workspace_id, table.name, row.id, column.name.removesuffix("_sealed"))

"""Many rows in one statement are stored just as the ORM stores them."""

import uuid
from datetime import timedelta

import pytest

from models import Outcome, Priority, Refresh, Slot, Token, Trigger, batches
from models.types import utc_now
from oauth.vocabulary import LifetimeRung, Rotation

STRANGE = [
    "plain",
    'a "quoted" one',
    "back\\slash",
    "{braces}, commas",
    "NULL",
    "",
    " blanks ",
    "ünï\ncode 🙂",
    "%s %(x)s ?",
]


def refresh(world, connection, text):
    return Refresh(
        workspace_id=world.acme.id,
        connection_id=connection.id,
        trigger=Trigger.SCHEDULED,
        lease_owner="me",
        refresh_token_fingerprint="f" * 32,
        failure_reason=text,
        lifetime=0.1 + 0.2,
        lifetime_rung=LifetimeRung.JWT,
        rotated=len(text) % 2 == 0 or None,
        raw_reply_sealed=bytes(range(256)) if text else None,
    )


def test_what_is_inserted_reads_as_if_the_orm_had_done_it(session, world):
    rows = [refresh(world, world.connection(), text) for text in STRANGE]
    batches.insert_many(session, Refresh, [row.model_dump() for row in rows])
    session.commit()
    for row in rows:
        assert world.reread(row).model_dump() == row.model_dump()


def test_what_is_updated_reads_as_if_the_orm_had_done_it(session, world):
    connections = [world.connection() for _ in STRANGE]
    now = utc_now()
    values = {
        world.token(connection).id: {
            "access_token_sealed": text.encode() + bytes(range(256)),
            "scope": text or None,
            "received_at": now + timedelta(microseconds=place),
            "next_refresh_at": None if place % 2 else now,
            "lifetime_rung": LifetimeRung.LEARNED,
            "rotation": Rotation.SOMETIMES,
            "priority": Priority.KEEP_ALIVE,
            "held": bool(place % 2),
            "lease_owner": text,
        }
        for place, (connection, text) in enumerate(zip(connections, STRANGE, strict=True))
    }
    found = batches.update_many(session, Token, [{"id": row_id, **row} for row_id, row in values.items()])
    session.commit()
    assert found == len(STRANGE)
    for connection in connections:
        token = world.token(connection)
        assert {name: getattr(token, name) for name in values[token.id]} == values[token.id]
        assert token.slot is Slot.CURRENT


def test_only_rows_that_are_as_expected_are_updated(session, world):
    first, second = world.token(world.connection()), world.token(world.connection())
    rows = [
        {"id": first.id, "generation": 0, "token_type": "Bearer"},
        {"id": second.id, "generation": 1, "token_type": "Bearer"},
        {"id": uuid.uuid4(), "generation": 0, "token_type": "Bearer"},
    ]
    assert batches.update_many(session, Token, rows, where=["generation"]) == 1
    session.commit()
    assert [world.reread(token).token_type for token in (first, second)] == ["Bearer", ""]


def test_what_is_to_be_kept_is_not_erased(session, world):
    kept, replaced = world.connection(), world.connection()
    for connection in (kept, replaced):
        world.set_token(connection, refresh_token_sealed=b"old", scope="old")
    rows = [
        {"id": world.token(kept).id, "refresh_token_sealed": None, "scope": None},
        {"id": world.token(replaced).id, "refresh_token_sealed": b"new", "scope": None},
    ]
    assert batches.update_many(session, Token, rows, keep=["refresh_token_sealed"]) == 2
    session.commit()
    assert [world.token(row).refresh_token_sealed for row in (kept, replaced)] == [b"old", b"new"]
    assert [world.token(row).scope for row in (kept, replaced)] == [None, None]


def test_no_rows_are_no_statement(session):
    batches.insert_many(session, Refresh, [])
    assert batches.update_many(session, Token, []) == 0


@pytest.mark.parametrize("outcome", list(Outcome))
def test_words_are_stored_by_their_value(session, world, outcome):
    row = refresh(world, world.connection(), "x")
    batches.insert_many(session, Refresh, [row.model_dump()])
    batches.update_many(session, Refresh, [{"id": row.id, "outcome": outcome}])
    session.commit()
    assert world.all(Refresh, outcome=outcome)[0].id == row.id

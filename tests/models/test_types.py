"""UTC times and sealed secrets, as the database gives them back."""

import base64
import os
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from models import ClientSecret, Connection, Workspace
from models.types import Keyring, KeyringProblem, Place, Undecryptable, key_id_of

KOLKATA = timezone(timedelta(hours=5, minutes=30))
PLACE = Place(uuid.UUID(int=1), "client_secrets", uuid.UUID(int=2), "value")
ELSEWHERE = {
    "another workspace": Place(uuid.UUID(int=9), PLACE.table, PLACE.row_id, PLACE.field),
    "another table": Place(PLACE.workspace_id, "tokens", PLACE.row_id, PLACE.field),
    "another row": Place(PLACE.workspace_id, PLACE.table, uuid.UUID(int=9), PLACE.field),
    "another field": Place(PLACE.workspace_id, PLACE.table, PLACE.row_id, "access_token"),
}
ONE, TWO = os.urandom(32), os.urandom(32)


def keyring(*keys):
    return Keyring([(f"k{place}", key) for place, key in enumerate(keys or (ONE,))])


def ring(text):
    return Keyring.parse(SecretStr(text))


def encoded(key):
    return base64.b64encode(key).decode()


def test_a_naive_moment_cannot_be_stored(session):
    session.add(Workspace(name="Naive", created_at=datetime(2026, 3, 1, 12)))  # noqa: DTZ001
    with pytest.raises(sa.exc.StatementError, match="naive datetime"):
        session.flush()


def test_a_moment_comes_back_as_the_same_moment_in_utc(session):
    there = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=KOLKATA)
    row = Workspace(name="Kolkata", created_at=there)
    session.add(row)
    session.commit()
    session.expire_all()
    back = session.get_one(Workspace, row.id).created_at
    assert back == there
    assert back.tzinfo is UTC


def test_moments_compare_as_moments_inside_the_database(session):
    early, late = datetime(2026, 1, 1, 12, tzinfo=KOLKATA), datetime(2026, 1, 1, 12, tzinfo=UTC)
    session.add_all([Workspace(name="early", created_at=early), Workspace(name="late", created_at=late)])
    session.commit()
    before_noon = sa.select(Workspace.name).where(Workspace.created_at < late)
    assert session.execute(before_noon).scalars().all() == ["early"]


def test_a_word_outside_the_enumeration_cannot_be_stored(session, world):
    connection = session.get_one(Connection, world.connection().id)
    connection.state = "on fire"
    with pytest.raises(sa.exc.StatementError, match="on fire"):
        session.flush()


@given(st.text(min_size=1, max_size=400))
def test_a_secret_opens_where_it_was_sealed(text):
    sealed = keyring().encrypt(SecretStr(text), PLACE)
    assert keyring().decrypt(sealed, PLACE).get_secret_value() == text
    assert len(text) < 8 or text.encode() not in sealed


@pytest.mark.parametrize("place", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_secret_opens_nowhere_else(place):
    sealed = keyring().encrypt(SecretStr("a secret"), PLACE)
    with pytest.raises(Undecryptable):
        keyring().decrypt(sealed, place)


def test_no_single_flipped_bit_goes_unnoticed():
    sealed = keyring().encrypt(SecretStr("a secret"), PLACE)
    for place in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[place // 8] ^= 1 << place % 8
        with pytest.raises(Undecryptable):
            keyring().decrypt(bytes(altered), PLACE)


@given(st.binary(max_size=80))
def test_bytes_that_were_never_sealed_are_refused(junk):
    with pytest.raises(Undecryptable):
        keyring().decrypt(junk, PLACE)


def test_swapped_ciphertexts_of_two_rows_are_refused(resources, world):
    """SS-01: a row of one tenant written over another's opens for neither."""
    mine, theirs = world.connection(), world.connection(workspace=world.globex)
    with resources.database.session(writing=True) as session:
        one = session.exec(sa.select(ClientSecret).filter_by(connection_id=mine.id)).scalar_one()
        other = session.exec(sa.select(ClientSecret).filter_by(connection_id=theirs.id)).scalar_one()
        one.value_sealed, other.value_sealed = other.value_sealed, one.value_sealed
        session.commit()
        for row in (one, other):
            with pytest.raises(Undecryptable):
                row.unseal("value", resources.database.keyring)


def test_the_same_secret_never_looks_the_same():
    assert len({keyring().encrypt(SecretStr("a secret"), PLACE) for _ in range(50)}) == 50


def test_the_first_key_encrypts_and_every_key_decrypts():
    old = keyring(ONE).encrypt(SecretStr("a secret"), PLACE)
    both = Keyring([("k9", TWO), ("k0", ONE)])
    assert both.decrypt(old, PLACE).get_secret_value() == "a secret"
    assert key_id_of(both.encrypt(SecretStr("a secret"), PLACE)) == "k9"


def test_a_key_that_is_gone_is_named():
    sealed = keyring(ONE).encrypt(SecretStr("a secret"), PLACE)
    with pytest.raises(Undecryptable, match="'k0'"):
        Keyring([("k9", TWO)]).decrypt(sealed, PLACE)


def test_a_key_under_another_id_does_not_open_what_the_id_was_bound_to():
    sealed = keyring(ONE).encrypt(SecretStr("a secret"), PLACE)
    renamed = sealed[:2] + b"k9" + sealed[4:]
    with pytest.raises(Undecryptable):
        Keyring([("k9", ONE)]).decrypt(renamed, PLACE)


BAD_RINGS = {
    "missing": "",
    "blank": " , ",
    "without an id": encoded(ONE),
    "not base64": "k1:not base64 at all!",
    "empty": "k1:",
    "too short": f"k1:{encoded(ONE[:16])}",
    "too long": f"k1:{encoded(ONE + TWO)}",
    "one byte repeated": f"k1:{encoded(bytes(32))}",
    "a pattern repeated": f"k1:{encoded(ONE[:8] * 4)}",
    "halves repeated": f"k1:{encoded(ONE[:16] * 2)}",
    "typed by a person": f"k1:{encoded(b'correct-horse-battery-staple-12!')}",
    "counted up": f"k1:{encoded(bytes(range(32)))}",
    "the same id twice": f"k1:{encoded(ONE)},k1:{encoded(TWO)}",
    "the same key twice": f"k1:{encoded(ONE)},k2:{encoded(ONE)}",
    "an id with blanks": f"k 1:{encoded(ONE)}",
    "a weak second key": f"k1:{encoded(ONE)},k2:{encoded(bytes(32))}",
}


@pytest.mark.parametrize("text", BAD_RINGS.values(), ids=BAD_RINGS)
def test_a_weak_missing_or_repeated_key_is_refused_in_plain_words(text):
    """SS-02: and the words give no key away."""
    with pytest.raises(KeyringProblem) as problem:
        ring(text)
    words = str(problem.value)
    assert re.search(r"[A-Z].*\.$", words)
    assert not any(part and part in words for part in re.findall(r"[A-Za-z0-9+/]{20,}=*", text))


def test_random_keys_are_never_taken_for_weak_ones():
    for _ in range(500):
        ring(f"k1:{encoded(os.urandom(32))}")


def test_a_key_that_signs_cookies_as_well_is_found():
    assert keyring().holds(encoded(ONE))
    assert keyring().holds(ONE.hex())
    assert not keyring().holds(encoded(TWO))


def test_a_fingerprint_tells_secrets_apart_and_needs_the_key():
    one, other = SecretStr("rt-1"), SecretStr("rt-2")
    assert keyring().fingerprint(one) == keyring().fingerprint(one)
    assert keyring().fingerprint(one) != keyring().fingerprint(other)
    assert keyring(ONE).fingerprint(one) != keyring(TWO).fingerprint(one)


def test_nothing_of_a_key_ring_is_shown_by_repr():
    assert encoded(ONE) not in repr(vars(keyring()).keys()) + repr(keyring()) + str(keyring())


def test_an_empty_secret_is_no_secret(world, resources):
    row = ClientSecret(workspace_id=world.acme.id, connection_id=uuid.uuid4())
    row.seal("value", SecretStr(""), resources.database.keyring)
    assert row.value_sealed is None
    assert row.unseal("value", resources.database.keyring) is None

"""Signing in: one answer for every refusal, and sessions that end when they should."""

from datetime import timedelta

import pytest
import time_machine
from argon2 import PasswordHasher

from models import AuditEntry, User, UserSession
from models.types import utc_now
from services.people import passwords, sign_in
from tests.support.world import PASSWORD


def enter(session, email, password=PASSWORD):
    return sign_in.sign_in(session, email, password, "a browser")


def test_the_right_password_opens_a_session(session, settings, world):
    person, token = enter(session, "alice@acme.example")
    found, row = sign_in.current(session, settings, token)
    assert person.id == found.id == row.user_id == world.alice.id
    assert row.workspace_id == world.acme.id
    assert token not in repr(row.model_dump())


def test_the_e_mail_address_may_be_typed_in_any_case(session, world):
    assert enter(session, "  ALICE@Acme.example ")[0].id == world.alice.id


def test_an_unknown_person_and_a_wrong_password_get_the_same_answer(session, world):
    with pytest.raises(sign_in.WrongPassword) as unknown:
        enter(session, "nobody@acme.example")
    with pytest.raises(sign_in.WrongPassword) as wrong:
        enter(session, "alice@acme.example", "another password")
    assert str(unknown.value) == str(wrong.value)


def test_refusing_an_unknown_person_is_as_much_work_as_refusing_a_known_one(session, world, monkeypatch):
    checked = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "verify", lambda *given: checked.append(given[1]) or verify(*given))
    for email in ("nobody@acme.example", "alice@acme.example"):
        with pytest.raises(sign_in.WrongPassword):
            enter(session, email, "another password")
    unknown, known = checked
    assert unknown.split("$")[:4] == known.split("$")[:4]


def test_a_refusal_is_on_record_without_what_was_typed_as_password(session, world):
    with pytest.raises(sign_in.WrongPassword):
        enter(session, "alice@acme.example", "a mistyped password")
    (entry,) = world.all(AuditEntry, action="sign_in.refused")
    assert entry.actor == "alice@acme.example"
    assert "mistyped" not in repr(entry.model_dump())


def test_a_hash_with_older_parameters_is_renewed_on_the_way_in(session, world):
    old = PasswordHasher(time_cost=1, memory_cost=1024).hash(PASSWORD)
    session.get_one(User, world.alice.id).password_hash = old
    session.commit()
    enter(session, "alice@acme.example")
    renewed = world.reread(world.alice).password_hash
    assert renewed != old
    assert passwords.matches(renewed, PASSWORD)


def test_signing_out_ends_this_session_alone(session, settings, world):
    first, second = enter(session, "alice@acme.example")[1], enter(session, "alice@acme.example")[1]
    sign_in.sign_out(session, first)
    assert sign_in.current(session, settings, first) is None
    assert sign_in.current(session, settings, second) is not None


def test_a_person_s_sessions_can_all_be_ended_and_nobody_else_s(session, settings, world):
    mine, theirs = enter(session, "alice@acme.example")[1], enter(session, "gus@globex.example")[1]
    sign_in.end_all(session, world.alice.id)
    session.commit()
    assert sign_in.current(session, settings, mine) is None
    assert sign_in.current(session, settings, theirs) is not None


def test_an_unused_session_ends(session, settings, world):
    _person, token = enter(session, "alice@acme.example")
    later = utc_now() + timedelta(seconds=settings.session_idle)
    with time_machine.travel(later - timedelta(minutes=1), tick=False):
        assert sign_in.current(session, settings, token) is not None
    with time_machine.travel(later + timedelta(minutes=1), tick=False):
        assert sign_in.current(session, settings, token) is None


def test_a_session_in_use_ends_as_well_in_the_end(session, settings, world):
    _person, token = enter(session, "alice@acme.example")
    begun = utc_now()
    with time_machine.travel(begun, tick=False) as clock:
        while utc_now() - begun < timedelta(seconds=settings.session_longest):
            found = sign_in.current(session, settings, token)
            assert found is not None
            sign_in.seen(session, found[1].id)
            session.expire_all()
            clock.shift(timedelta(seconds=settings.session_idle * 0.9))
        assert sign_in.current(session, settings, token) is None


def test_a_made_up_token_opens_nothing(session, settings, world):
    _person, token = enter(session, "alice@acme.example")
    (row,) = world.all(UserSession)
    for guess in ("", "x", token[:-1], token.swapcase(), row.token_hash):
        assert sign_in.current(session, settings, guess) is None


@pytest.mark.parametrize("password", ["short", "x" * 201, "ababababababab", "alice-and-her-lamp"])
def test_a_weak_password_is_refused_in_words(password):
    assert passwords.weakness(password, "alice-and@acme.example").endswith((".", "well."))


def test_a_passphrase_is_fine():
    assert passwords.weakness(PASSWORD, "alice@acme.example") == ""


def test_a_damaged_hash_lets_nobody_in():
    assert not passwords.matches("not a hash", PASSWORD)
    assert not passwords.matches(None, "nobody has this password")

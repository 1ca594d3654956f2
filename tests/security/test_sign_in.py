"""WB-06: guesses are throttled, and the answer never tells whether a person exists."""

import time

import pytest

from models import AuditEntry, User
from services.people import passwords, sign_in

pytestmark = pytest.mark.sqlite_only

WRONG = "E-mail or password is wrong."


def attempt(client, email, password="not the password", **options):
    return client.post_form("/login", {"email": email, "password": password}, **options)


def test_unknown_people_and_wrong_passwords_get_one_answer(app, world):
    known = attempt(app.test_client(), "alice@acme.example")
    unknown = attempt(app.test_client(), "elsie@acme.example")
    assert known.status_code == unknown.status_code == 422
    assert WRONG in known.text
    without_tokens = [
        "\n".join(line for line in answer.text.splitlines() if "csrf_token" not in line) for answer in (known, unknown)
    ]
    assert without_tokens[0] == without_tokens[1].replace("elsie@", "alice@")


def test_refusing_takes_as_long_whether_or_not_the_person_exists(world, session):
    def seconds_of_work(email):
        taken = []
        for _ in range(5):
            start = time.process_time()
            with pytest.raises(sign_in.WrongPassword):
                sign_in.sign_in(session, email, "not the password", "test")
            taken.append(time.process_time() - start)
        return min(taken)

    known, unknown = seconds_of_work("alice@acme.example"), seconds_of_work("elsie@acme.example")
    assert 0.5 < known / unknown < 2


def test_passwords_are_kept_as_argon2id(world):
    assert world.reread(world.alice).password_hash.startswith("$argon2id$")
    assert not passwords.needs_new_hash(world.reread(world.alice).password_hash)


def test_a_thousand_guesses_are_throttled(app, world):
    client = app.test_client()
    statuses = [attempt(client, "alice@acme.example", f"guess number {number}").status_code for number in range(1000)]
    assert statuses[:10] == [422] * 10
    assert set(statuses[10:]) == {429}
    assert attempt(client, "alice@acme.example", world.password).status_code == 429
    assert "Too many tries" in attempt(client, "alice@acme.example").text


def test_guessing_at_many_people_is_throttled_as_well(app, world):
    client = app.test_client()
    people = [f"person{number}@acme.example" for number in range(106)]
    statuses = [attempt(client, person, "").status_code for person in people[:96]]  # counts too, and hashes nothing
    statuses += [attempt(client, person).status_code for person in people[96:]]
    assert statuses[:100] == [422] * 100
    assert set(statuses[100:]) == {429}


def test_signing_in_does_not_count_as_a_guess(app, world):
    for _ in range(15):
        assert attempt(app.test_client(), "alice@acme.example", world.password).status_code == 303


def test_nobody_exists_before_setup(resources, app):
    client = app.test_client()
    for email, password in (("admin", "admin"), ("admin@example.com", "password"), ("root@localhost", "")):
        assert attempt(client, email, password).status_code == 422
    with resources.database.session() as session:
        from sqlmodel import select

        assert session.exec(select(User)).all() == []


def test_throttling_goes_on_in_memory_while_redis_is_away(settings_for, resources, world):
    from app import build
    from tests.support.browserless import Client

    portal = build(settings_for(redis_url="unix:///nowhere/at/all.sock"), resources)
    portal.test_client_class = Client
    client = portal.test_client()
    statuses = [attempt(client, "alice@acme.example").status_code for _ in range(14)]
    assert statuses[:10] == [422] * 10
    assert set(statuses[10:]) == {429}
    assert attempt(portal.test_client(), "ann@acme.example", world.password).status_code == 303


def test_throttling_is_kept_in_redis(redis, settings_for, redis_url, resources, world, monkeypatch):
    from app import build
    from blueprints import web
    from tests.support.browserless import Client

    monkeypatch.setattr(web.limiter, "_storage_dead", False)  # it outlives portals, as only tests have several of
    for _process in range(2):
        portal = build(settings_for(redis_url=redis_url), resources)
        portal.test_client_class = Client
        last = [attempt(portal.test_client(), "alice@acme.example").status_code for _ in range(7)][-1]
    assert last == 429


def test_a_refusal_is_written_down_without_the_password(app, world):
    attempt(app.test_client(), "alice@acme.example", "correct horse battery staple")
    entry = world.all(AuditEntry, action="sign_in.refused")[0]
    assert entry.actor == "alice@acme.example"
    assert "staple" not in repr(entry)

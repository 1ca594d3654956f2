"""The pages of failures: they come even when what they are about is what a page needs."""

import pytest

from models.database import Database

PLACES = ("/", "/cards", "/connections", "/settings", "/auth/provider/callback?state=x&code=y")


@pytest.fixture
def lose_database(resources, monkeypatch):
    """Let nobody reach the database from now on."""

    def lose():
        nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:9/nowhere", resources.database.keyring)
        for name in ("engine", "_writing"):
            monkeypatch.setattr(resources.database, name, getattr(nowhere, name))

    return lose


@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_somebody_signed_in_is_told_that_the_database_is_away(app, world, lose_database, headers):
    alice = world.client(world.alice)
    token = alice.csrf()
    lose_database()
    answers = [alice.get(place, headers=headers) for place in PLACES]
    answers.append(alice.post("/cards/new", data={"title": "Orders", "csrf_token": token}, headers=headers))
    for answer in answers:
        assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "30")
        assert "The database cannot be used right now" in answer.text
    assert alice.get("/nowhere", headers=headers).status_code == 404


def test_what_was_sent_is_not_called_safe_when_it_was_not_saved(app, world, lose_database):
    alice = world.client(world.alice)
    token = alice.csrf()
    lose_database()
    assert "Nothing was lost." in alice.get("/cards").text
    page = alice.post("/cards/new", data={"title": "Orders", "csrf_token": token}).text
    assert "Nothing was lost." not in page
    assert "was not saved" in page


def test_somebody_signed_out_is_told_as_well(client, lose_database):
    token = client.csrf()
    lose_database()
    answer = client.post("/login", data={"email": "a@b.example", "password": "a password", "csrf_token": token})
    assert answer.status_code == 503

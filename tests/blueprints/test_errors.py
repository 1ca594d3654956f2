"""The pages of failures: they come even when what they are about is what a page needs."""

import re

import pytest

from models.database import Database
from tests.support.browserless import path_of

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


@pytest.mark.sqlite_only
def test_the_address_of_a_button_leads_to_its_page(app, world):
    alice, connection = world.client(world.alice), world.connection()
    card = world.card(connection=connection)
    above = {
        "/operations/refresh?state=Connected&text=a%20b": "/operations?state=Connected&text=a%20b",
        f"/cards/{card.id}/preview": f"/cards/{card.id}",
        f"/connections/{connection.id}/pause": f"/connections/{connection.id}",
        "/connections/fields": "/connections",
        "/settings/password": "/settings",
        "/operations/providers/try": "/operations/providers",
    }
    for address, page in above.items():
        answer = alice.get(address)
        assert (answer.status_code, path_of(answer.location)) == (303, page)
        assert alice.get(page).status_code == 200
    assert alice.get("/operations/refresh", headers={"HX-Request": "true"}).status_code == 405
    assert alice.put("/operations").status_code == 405


@pytest.mark.sqlite_only
def test_a_question_opened_by_itself_is_asked_once(app, world):
    connection = world.connection()
    card = world.card(connection=connection)
    alice = world.client(world.alice)
    for address in (
        "/operations/providers/pause",
        f"/connections/{connection.id}/delete",
        f"/connections/{connection.id}/disconnect",
        f"/connections/{connection.id}/replies/give-up",
        f"/cards/{card.id}/delete",
        f"/members/{world.ann.id}/remove",
    ):
        headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", alice.get(address).text, re.DOTALL)
        assert len(headings) == 1, address
        assert headings[0].endswith("?")


@pytest.mark.sqlite_only
def test_a_refusal_names_whose_the_page_is(app, world):
    oscar = world.client(world.oscar)
    for address in ("/operations?all=1", "/operations/providers/pause", "/settings/workspaces"):
        answer = oscar.get(address)
        assert answer.status_code == 403
        assert "Only the owner of this installation can do this." in answer.text
    assert "Ask an admin of it." in oscar.get("/members").text

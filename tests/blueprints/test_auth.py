"""Setting up and signing in, as people meet it."""

import pytest

from models import Membership, Role, User, Workspace
from services.people import links

pytestmark = pytest.mark.sqlite_only

FORM = {
    "workspace_name": "Initech",
    "email": "Milton@Initech.example",
    "password": "a stapler of red steel",
    "time_zone": "America/Chicago",
}


@pytest.fixture
def token(resources, settings):
    with resources.database.session(writing=True) as session:
        return links.setup_token(session, settings)


def test_the_setup_link_makes_workspace_and_owner_and_signs_in(app, client, resources, token):
    assert "Create workspace" in client.get(f"/setup?token={token}").text
    assert client.post_form("/setup", {"token": token, **FORM}).status_code == 303
    assert client.get("/members").status_code == 200
    with resources.database.session() as session:
        from sqlmodel import select

        user = session.exec(select(User)).one()
        assert (user.email, user.is_owner, user.time_zone) == ("milton@initech.example", True, "America/Chicago")
        assert session.exec(select(Workspace)).one().name == "Initech"
        assert session.exec(select(Membership)).one().role is Role.ADMIN


def test_the_setup_link_works_once(app, client, token):
    client.post_form("/setup", {"token": token, **FORM})
    again = app.test_client()
    assert again.get(f"/setup?token={token}").status_code == 410
    assert again.post_form("/setup", {"token": token, **FORM}).status_code == 410


def test_every_field_of_setup_is_checked_at_once_and_nothing_typed_is_lost(client, token):
    form = {"token": token, "workspace_name": "Initech", "email": "milton", "password": "short"}
    answer = client.post_form("/setup", form)
    assert answer.status_code == 422
    assert "Enter an e-mail address such as" in answer.text
    assert "Use at least 12 characters" in answer.text
    assert 'value="Initech"' in answer.text
    assert 'value="milton"' in answer.text
    assert client.post_form("/setup", {"token": token, **FORM}).status_code == 303


def test_the_list_of_problems_follows_the_page(client, token):
    form = {"token": token, "workspace_name": "Initech", "email": "milton", "password": "short"}
    answer = client.post_form("/setup", form).text
    assert answer.index(">Email</a>: ") < answer.index(">Password</a>: ")


def test_a_blank_name_is_no_name(client, token):
    answer = client.post_form("/setup", {"token": token, **FORM, "workspace_name": "  "})
    assert answer.status_code == 422
    assert "Give the workspace a name." in answer.text


@pytest.mark.parametrize("value", ["", "wrong", "x" * 3000])
def test_no_setup_without_the_link(client, token, value):
    assert client.get("/setup", query_string={"token": value}).status_code == 410
    assert client.post_form("/setup", {"token": value, **FORM}).status_code == 410


def test_signing_out_ends_the_session(app, world):
    alice = world.client(world.alice)
    assert alice.post_form("/logout").headers["Location"] == "/login"
    assert "You are signed out." in alice.get("/login").text
    assert alice.get("/settings").status_code == 303


def test_a_form_of_an_ended_session_is_called_old(app, world):
    alice = world.client(world.alice)
    page, part = (
        alice.post("/settings/password", data={"csrf_token": "old"}, headers=headers)
        for headers in ({}, {"HX-Request": "true"})
    )
    assert "<h1>This form is out of date" in page.text
    assert ("Go back, copy" in page.text, "Go back" in part.text, "Copy long texts" in part.text) == (True, False, True)


def test_htmx_is_sent_to_the_sign_in_page_as_a_whole(client):
    answer = client.get("/settings", headers={"HX-Request": "true"})
    assert answer.status_code == 401
    assert answer.headers["HX-Redirect"].startswith("/login")


def test_somebody_signed_in_needs_no_sign_in_page(app, world):
    assert world.client(world.alice).get("/login").status_code == 303

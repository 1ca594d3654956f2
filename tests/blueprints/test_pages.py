"""The frame of every page: navigation by role, the way in, times, macros."""

import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from flask import render_template_string

from blueprints import pages
from models import ConnectionState, Membership, Role
from oauth.vocabulary import FailureClass

pytestmark = pytest.mark.sqlite_only

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def places(client):
    nav = re.search(r'<nav class="places".*?</nav>', client.get("/settings").text, re.DOTALL)[0]
    return re.findall(r'href="(/[a-z]*)"', nav)


def test_navigation_shows_what_the_role_opens(app, world):
    everything = ["/cards", "/connections", "/operations", "/audit", "/members", "/settings"]
    assert places(world.client(world.alice)) == everything
    assert places(world.client(world.oscar)) == ["/cards", "/connections", "/operations", "/settings"]
    assert places(world.client(world.ann)) == ["/cards", "/settings"]


def test_every_place_that_is_shown_opens(app, world):
    for person in (world.alice, world.oscar, world.ann):
        client = world.client(person)
        for path in places(client):
            assert client.get(path).status_code == 200, (person.email, path)


def test_the_way_in_leads_to_the_cards(app, world):
    assert world.client(world.ann).get("/").headers["Location"] == "/cards"
    assert app.test_client().get("/").headers["Location"].startswith("/login")


def test_the_switcher_is_there_only_for_people_of_several_workspaces(app, world):
    alice = world.client(world.alice)
    assert "Switch workspace" not in alice.get("/settings").text
    world._add(Membership(workspace_id=world.globex.id, user_id=world.alice.id, role=Role.AGENT))
    assert "Switch workspace" in alice.get("/settings").text
    assert alice.post_form("/workspace", {"workspace_id": str(world.globex.id)}).status_code == 303
    assert places(alice) == ["/cards", "/settings"]


def test_nobody_switches_to_a_workspace_of_others(app, world):
    alice = world.client(world.alice)
    for value in (str(world.globex.id), str(world.alice.id), "no-id", ""):
        assert alice.post_form("/workspace", {"workspace_id": value}).status_code == 404
    assert places(alice)[-2] == "/members"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (-4, "just now"),
        (4, "in a moment"),
        (40, "in 40 s"),
        (-59, "59 s ago"),
        (60, "in 1 min"),
        (-200, "3 min ago"),
        (12 * 60 + 30, "in 12 min"),
        (-7200, "2 h ago"),
        (86400, "in 1 day"),
        (-3 * 86400, "3 days ago"),
        (-20 * 86400, "4 Nov"),
        (400 * 86400, "29 Dec 2027"),
    ],
)
def test_distances_are_told_as_people_tell_them(app, monkeypatch, seconds, words):
    monkeypatch.setattr(pages, "utc_now", lambda: NOW)
    with app.test_request_context():
        assert pages.distance(NOW + timedelta(seconds=seconds), NOW) == words


def render(app, source, **values):
    with app.test_request_context():
        return render_template_string(source, **values)


@pytest.mark.parametrize("state", list(ConnectionState))
def test_every_state_has_a_badge_with_word_and_icon(app, state):
    badge = render(
        app,
        '{% from "macros/ui.html" import state %}{{ state(row) }}',
        row=SimpleNamespace(state=state),
    )
    assert state.shown in badge
    assert "<svg" in badge


@pytest.mark.parametrize("kind", list(FailureClass))
def test_a_failure_says_what_happened_and_what_to_do(app, kind):
    row = SimpleNamespace(
        failure_step="refresh",
        failure_class=kind,
        failure_code="invalid_grant",
        failure_said="<b>no</b>",
        failure_reason="The provider said no.",
        failed_at=None,
    )
    panel = render(app, '{% from "macros/ui.html" import failure %}{{ failure(row) }}', row=row)
    for words in ("refresh", kind.title.replace("'", "&#39;"), "invalid_grant", "&lt;b&gt;no", "What to do:"):
        assert words in panel


def test_no_failure_no_panel(app):
    row = SimpleNamespace(failure_class=None, failure_reason="")
    assert render(app, '{% from "macros/ui.html" import failure %}{{ failure(row) }}', row=row).strip() == ""


def test_a_field_and_its_error_belong_together(app, client):
    page = client.post_form("/login", {"email": "", "password": ""}).text
    field = re.search(r'<input[^>]*id="email"[^>]*>', page)[0]
    assert 'aria-invalid="true"' in field
    assert 'aria-describedby="email-error"' in field
    assert '<p class="field-error" id="email-error" role="alert">Enter your e-mail address.</p>' in page
    assert '<a href="#email">Email</a>' in page


def test_a_password_is_never_sent_back(app, client):
    page = client.post_form("/login", {"email": "a@b.example", "password": "planted password"}).text
    assert "planted password" not in page
    assert 'value="a@b.example"' in page


def test_htmx_gets_errors_as_a_message(app, world):
    answer = world.client(world.alice).get("/no-such-page", headers={"HX-Request": "true"})
    assert answer.status_code == 404
    assert answer.headers["HX-Retarget"] == "#flashes"
    assert "<html" not in answer.text
    assert "There is nothing here" in answer.text


def test_an_error_page_leads_back(client):
    answer = client.get("/no-such-page")
    assert answer.status_code == 404
    assert 'href="/"' in answer.text


def test_a_database_that_is_away_is_said_plainly(app, client, resources):
    from sqlalchemy.exc import OperationalError

    @app.get("/away")
    def away():
        raise OperationalError("select", {}, Exception("gone"))

    answer = client.get("/away")
    assert answer.status_code == 503
    assert "The database cannot be used right now" in answer.text
    assert answer.headers["Retry-After"] == "30"

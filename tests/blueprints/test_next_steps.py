"""What a page tells somebody to do is theirs to do, or it says whose: failures, pauses, and which button is filled."""

import re

import pytest

from models import EVERYTHING, ConnectionState, ProviderHost
from models.types import utc_now
from oauth.vocabulary import FailureClass, OAuthFailure
from services.engine import states
from services.engine import tokens as token_rows

FRAGMENT = {"HX-Request": "true"}
BY_ADMIN = "Ask an admin of this workspace to do this:"
CHANGED = "refreshes-changed"


@pytest.fixture
def connection(world):
    made = world.connection()
    world.authorize(made)
    return made


@pytest.fixture
def alice(world, app):
    return world.client(world.alice)


@pytest.fixture
def oscar(world, app):
    return world.client(world.oscar)


def fail(world, connection, kind, code=""):
    """Let a refresh have failed."""
    with world.resources.database.session(writing=True) as session:
        row = session.get_one(type(connection), connection.id)
        token = token_rows.current_token(session, row)
        states.fail(
            session, world.resources.settings, row, token, OAuthFailure("refresh", kind, "A reason.", code=code)
        )
        session.commit()


def change(world, row, **columns):
    with world.resources.database.session(writing=True) as session:
        stored = session.get_one(type(row), row.id)
        for name, value in columns.items():
            setattr(stored, name, value)
        session.commit()


def pause_everything(world):
    world._add(ProviderHost(host=EVERYTHING, paused_at=utc_now(), paused_by=world.alice.id))


def authorize_button(page):
    """The classes of the Authorize button, None where there is none."""
    found = re.search(r'<button id="authorize" class="([^"]*)"', page)
    return found and found[1].split()


@pytest.mark.sqlite_only
@pytest.mark.parametrize("kind", [FailureClass.GRANT_DEAD, FailureClass.CLIENT_BAD, FailureClass.REQUEST_BAD])
def test_what_takes_an_admin_is_said_to_take_one(world, alice, oscar, connection, kind):
    fail(world, connection, kind)
    page = f"/connections/{connection.id}"
    step = re.search(r"<strong>What to do:</strong> (\w+)", alice.get(page).text)[1]
    for address in (page, f"{page}/status"):
        shown = oscar.get(address).text
        assert f"<strong>What to do:</strong> {BY_ADMIN} {step}" in shown
        assert 'id="authorize"' not in shown
        assert BY_ADMIN not in alice.get(address).text


@pytest.mark.sqlite_only
def test_what_passes_by_itself_takes_nobody(world, oscar, connection):
    fail(world, connection, FailureClass.PROVIDER_DOWN)
    shown = oscar.get(f"/connections/{connection.id}").text
    assert "<strong>What to do:</strong> Nothing to do for now" in shown
    assert BY_ADMIN not in shown


@pytest.mark.sqlite_only
def test_an_operator_with_changed_settings_or_no_refresh_token_is_told_who_helps(world, alice, oscar, connection):
    change(world, connection, scope="orders.read more")
    world.set_token(connection, refresh_token_sealed=None)
    shown = oscar.get(f"/connections/{connection.id}").text
    assert "An admin of this workspace can press Authorize." in shown
    assert "ask an admin of this workspace to add it to Scope" in shown
    assert "An admin of this workspace" not in alice.get(f"/connections/{connection.id}").text


@pytest.mark.sqlite_only
def test_authorize_is_the_filled_button_only_where_it_is_what_helps(world, alice, connection):
    page = f"/connections/{connection.id}"
    secondary = ["authorize", "secondary"]
    assert authorize_button(alice.get(page).text) == secondary
    fail(world, connection, FailureClass.PROVIDER_DOWN)
    assert authorize_button(alice.get(page).text) == secondary
    fail(world, connection, FailureClass.CLIENT_BAD)
    assert authorize_button(alice.get(page).text) == secondary, "first the settings"
    fail(world, connection, FailureClass.GRANT_DEAD)
    assert authorize_button(alice.get(page).text) == ["authorize"]
    assert authorize_button(alice.get(f"/connections/{world.connection().id}").text) == ["authorize"]
    world.authorize(connection)
    change(world, connection, scope="orders.read more")
    assert authorize_button(alice.get(page).text) == ["authorize"], "settings were changed"


def test_nobody_is_offered_to_authorize_what_is_paused(world, alice, connection):
    page = f"/connections/{connection.id}"
    seen = re.search(rf'"({page}/status\?seen=[^"]+)"', alice.get(page).text)[1]
    assert CHANGED not in alice.get(seen).headers.get("HX-Trigger", "")
    alice.post_form(f"{page}/pause")
    assert CHANGED in alice.get(seen).headers["HX-Trigger"], "the button is looked at again, whoever paused it"
    for address in (page, f"{page}/authorization"):
        shown = alice.get(address).text
        assert authorize_button(shown) is None
        assert "Nobody can authorize it while it is paused." in shown
    assert "press Resume for that" in alice.get(page).text
    alice.post_form(f"{page}/resume")
    assert authorize_button(alice.get(f"{page}/authorization").text) is not None
    pause_everything(world)
    shown = alice.get(f"{page}/authorization").text
    assert authorize_button(shown) is None
    assert "Nobody can authorize it while token requests are paused." in shown


def test_a_pause_is_seen_from_the_list_of_cards(world, alice, oscar, connection):
    elsewhere = world.connection(token_endpoint="https://another.example/token")
    world.authorize(elsewhere)
    world.card(connection=connection, title="One")
    world.card(connection=elsewhere, title="Two")
    clients = (alice, oscar, world.client(world.ann))
    for client in clients:
        assert "Not renewed" not in client.get("/cards").text
    world._add(ProviderHost(host="provider.example", paused_at=utc_now(), paused_by=world.alice.id))
    for client in clients:
        shown = client.get("/cards").text
        assert "Token requests to provider.example are paused" in shown
        assert shown.count("Not renewed") == 1
    pause_everything(world)
    for client in clients:
        shown = client.get("/cards").text
        assert "All token requests are paused" in shown
        assert shown.count("Not renewed") == 2
    card = world.card(connection=connection)
    assert "All token requests are paused" in world.client(world.ann).get(f"/cards/{card.id}").text


@pytest.mark.sqlite_only
def test_a_paused_connection_has_resume_as_next_step_in_the_list_of_cards(world, alice, connection):
    world.card(connection=connection)
    change(world, connection, state=ConnectionState.PAUSED, paused_from=ConnectionState.ACTIVE)
    assert re.search(r'class="next todo"><span>Resume ', alice.get("/cards").text)


@pytest.mark.sqlite_only
def test_no_provider_is_called_answering_while_everything_is_paused(world, alice, connection):
    assert "Answering" in alice.get("/operations/providers", headers=FRAGMENT).text
    pause_everything(world)
    shown = alice.get("/operations/providers", headers=FRAGMENT).text
    assert "Answering" not in shown
    assert "Paused, like all" in shown
    assert "Try now" not in shown


@pytest.mark.sqlite_only
def test_an_operator_gets_from_a_card_to_its_connection(world, oscar, connection):
    card = world.card(connection=connection)
    assert f'href="/connections/{connection.id}"' in oscar.get(f"/cards/{card.id}").text
    assert "/connections/" not in world.client(world.ann).get(f"/cards/{card.id}").text

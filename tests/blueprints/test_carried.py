"""A form sent after the session had ended: what was typed comes back after signing in, without a script."""

import html
import re

import pytest

from models import Card, Connection
from tests.blueprints.test_cards import FORM as CARD_FORM
from tests.blueprints.test_cards import inputs
from tests.blueprints.test_connections import FORM

pytestmark = pytest.mark.sqlite_only


@pytest.fixture
def ours(settings):
    return {"Origin": settings.public_url}


def hidden(page):
    """The hidden fields of the page's own form, as a browser sends them."""
    found = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return {html.unescape(name): html.unescape(value) for name, value in found}


def sign_in(browser, world, page, headers, password=None):
    typed = {**hidden(page), "email": world.alice.email, "password": password or world.password}
    return browser.post("/login", data=typed, headers=headers)


@pytest.fixture
def signed_out(app, ours):
    """A browser whose session has ended, and its old form token."""
    return app.test_client()


def test_a_connection_typed_meanwhile_comes_back_unsaved_and_without_its_secret(world, signed_out, ours):
    old = {**FORM, "csrf_token": "of a session that ended"}
    refused = signed_out.post("/connections/new", data=old, headers=ours)
    assert refused.status_code == 400
    assert "what you typed comes back" in refused.text
    assert "typed-canary-secret" not in refused.text
    wrong = sign_in(signed_out, world, refused.text, ours, password="not the password")
    assert wrong.status_code == 422
    back = sign_in(signed_out, world, wrong.text, ours)
    assert back.status_code == 200
    assert "type them again" in back.text
    form = signed_out.post("/connections/fields", data=hidden(back.text), headers=ours)
    assert form.status_code == 200
    shown = inputs(form.text)
    for name in ("connection-name", "connection-client_id", "connection-token_endpoint"):
        assert shown[name] == FORM[name]
    assert not shown["connection-client_secret"]
    assert "typed-canary-secret" not in back.text + form.text
    assert world.all(Connection) == []


def test_a_card_comes_back_too(world, signed_out, ours):
    refused = signed_out.post("/cards/new", data={**CARD_FORM, "csrf_token": ""}, headers=ours)
    back = sign_in(signed_out, world, refused.text, ours)
    assert 'action="/cards/fields"' in back.text
    form = signed_out.post("/cards/fields", data=hidden(back.text), headers=ours)
    assert inputs(form.text)["title"] == CARD_FORM["title"]
    assert world.all(Card) == []


def test_any_other_form_is_offered_to_be_sent_again(world, signed_out, ours):
    refused = signed_out.post("/settings", data={"csrf_token": "x", "time_zone": "Europe/Berlin"}, headers=ours)
    back = sign_in(signed_out, world, refused.text, ours)
    assert "Send it now" in back.text
    assert signed_out.post("/settings", data=hidden(back.text), headers=ours).status_code == 303
    assert world.reread(world.alice).time_zone == "Europe/Berlin"


def test_somebody_signed_in_again_elsewhere_goes_on_at_once(world, app, ours):
    alice = world.client(world.alice)
    back = alice.post("/settings", data={"csrf_token": "old", "time_zone": "Europe/Berlin"}, headers=ours)
    assert back.status_code == 400
    assert alice.post("/settings", data=hidden(back.text), headers=ours).status_code == 303


def test_secrets_of_cards_and_settings_do_not_travel(world, signed_out, ours):
    typed = {
        "csrf_token": "x",
        "authorization_header": "canary-1",
        "headers-0-name": "X-Api-Key",
        "headers-0-value": "canary-2",
        "headers-1-name": "X-Plain",
        "headers-1-value": "canary-3",
        "headers-1-secret": "y",
        "headers-2-name": "X-Open",
        "headers-2-value": "kept",
    }
    page = signed_out.post("/cards/new", data=typed, headers=ours).text
    assert "canary" not in page
    assert 'value="kept"' in page
    password = {"csrf_token": "x", "present": "canary-4", "password": "canary-5"}
    assert "canary" not in signed_out.post("/settings/password", data=password, headers=ours).text


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "none"}])
def test_a_form_that_may_be_another_sites_is_not_carried(signed_out, headers):
    page = signed_out.post("/connections/new", data={**FORM, "csrf_token": "x"}, headers=headers)
    assert page.status_code == 400
    assert FORM["connection-client_id"] not in page.text
    assert "out of date" in page.text


def test_a_carried_form_leads_nowhere_else(world, signed_out, ours):
    typed = {"csrf_token": signed_out.csrf(), "carried_to": "https://evil.example/", "carried:a": "b"}
    answer = signed_out.post(
        "/login", data={**typed, "email": world.alice.email, "password": world.password}, headers=ours
    )
    assert (answer.status_code, answer.location) == (303, "/")

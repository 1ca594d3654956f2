"""The flow that needs no person, and what the pages of an attempt show: PU-05."""

import json

import pytest

from models import (
    AttemptOutcome,
    AuditEntry,
    Connection,
    ConnectionState,
)
from oauth.vocabulary import GrantType
from tests.blueprints.authorization.conftest import change, page_of
from tests.support import flow

# Client credentials


@pytest.fixture
def machine(world):
    return world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)


def test_client_credentials_fetch_the_first_token_on_the_spot(world, alice, machine, provider):
    page = flow.press(alice, machine)
    assert "Connected" in page_of(alice, page)[1]
    assert provider.alive(world.access_token(machine))
    attempt = flow.attempt_of(world, page)
    assert (attempt.outcome, attempt.state_hash) == (AttemptOutcome.SUCCEEDED, None)
    stored = world.reread(machine)
    assert (stored.state, stored.authorized_by) == (ConnectionState.ACTIVE, world.alice.id)
    actions = [entry.action for entry in world.all(AuditEntry, subject_id=machine.id)]
    assert {"connection.authorize_started", "connection.authorized"} <= set(actions)


def test_client_credentials_that_fail_are_told_the_same_way(world, alice, provider):
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS, secret="not the secret")
    page = flow.press(alice, machine)
    body = page_of(alice, page)[1]
    assert "Nothing was authorized" in body
    assert "invalid_client" in body
    assert world.reread(machine).state is ConnectionState.MISCONFIGURED
    assert len(world.all(AuditEntry, action="connection.authorization_failed")) == 1


def test_client_credentials_report_in_place_with_htmx(alice, machine):
    reply = alice.post_form(f"/connections/{machine.id}/authorize", headers={"HX-Request": "true"})
    assert reply.status_code == 200
    assert 'id="authorization"' in reply.get_data(as_text=True)
    assert "authorization-settled" in json.loads(reply.headers["HX-Trigger"])


# The fragment, and the pages' headers


def test_the_fragment_polls_while_an_attempt_waits_and_ends_when_it_is_settled(alice, connection):
    latest = f"/connections/{connection.id}/authorization?return_to=/cards"
    body = alice.get(latest).get_data(as_text=True)
    assert "every 2s" not in body
    assert ">Authorize</button>" in body
    page, callback = flow.answer(alice, connection)
    waiting = alice.get(latest, headers={"HX-Request": "true"})
    assert "every 2s" in waiting.get_data(as_text=True)
    assert "Waiting for localhost" in waiting.get_data(as_text=True)
    assert "HX-Trigger" not in waiting.headers
    alice.get(callback)
    settled = alice.get(latest, headers={"HX-Request": "true"})
    assert "every 2s" not in settled.get_data(as_text=True)
    assert page.rpartition("/")[2] in settled.headers["HX-Trigger"]


def test_a_failure_is_shown_until_the_settings_it_met_are_changed(world, alice, provider):
    connection = world.connection(secret="not the secret")
    latest = f"/connections/{connection.id}/authorization"
    flow.walk(world, alice, connection)
    assert "invalid_client" in alice.get(latest).get_data(as_text=True)
    change(world, connection, version=2)
    assert "invalid_client" not in alice.get(latest).get_data(as_text=True)


def test_the_pages_of_an_attempt_tell_nobody_their_address(alice, connection):
    """PU-05."""
    page, callback = flow.answer(alice, connection)
    for reply in (alice.get(page), alice.get(callback), alice.get(page), alice.get(callback)):
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
        assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin-allow-popups"


def test_a_paused_connection_says_so(world, alice):
    connection = world.connection(state=ConnectionState.PAUSED)
    page = flow.press(alice, connection)
    assert "paused" in page_of(alice, page)[1]
    assert isinstance(world.reread(connection), Connection)


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("page", "leads_to"),
    [
        ("http://127.0.0.1:8000/cards/1?a=b", "/login?next=/cards/1?a%3Db"),
        ("http://evil.example//evil.example/x", "/login"),
        ("http://[", "/login"),
        ("", "/login"),
    ],
)
def test_a_fragment_asked_for_by_somebody_signed_out_leads_back_to_its_page(client, connection, page, leads_to):
    reply = client.get(
        f"/connections/{connection.id}/authorization", headers={"HX-Request": "true", "HX-Current-URL": page}
    )
    assert (reply.status_code, reply.headers["HX-Redirect"]) == (401, leads_to)

"""Authorize and the callback, the whole way, and what of it is left over: AC-13, AC-15."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine

from models import (
    AttemptOutcome,
    AuditEntry,
    ConnectionState,
    Outcome,
    Refresh,
    Trigger,
)
from models.types import utc_now
from tests.blueprints.authorization.conftest import change, page_of
from tests.support import flow
from tests.support.browserless import path_of

# The whole way


def test_authorizing_stores_a_token_that_the_api_takes(world, alice, connection, provider):
    attempt = flow.walk(world, alice, connection)
    assert attempt.outcome is AttemptOutcome.SUCCEEDED
    assert provider.alive(world.access_token(connection))
    assert world.refresh_token(connection).startswith("rt_")
    stored = world.reread(connection)
    assert stored.state is ConnectionState.ACTIVE
    assert stored.authorized_by == world.alice.id
    assert not stored.authorization_out_of_date


def test_the_callback_leads_to_a_page_without_code_or_state(alice, connection):
    page, callback = flow.answer(alice, connection)
    reply = alice.get(callback)
    assert reply.status_code == 303
    assert path_of(reply.location) == page
    status, body = page_of(alice, page)
    assert status == 200
    assert "Connected" in body
    assert flow.query(callback)["code"] not in body


def test_the_page_leads_back_to_where_authorize_was_pressed(alice, connection):
    page, callback = flow.answer(alice, connection, return_to="/cards/new?x=1")
    alice.get(callback)
    assert 'href="/cards/new?x=1"' in page_of(alice, page)[1]


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
@pytest.mark.sqlite_only
def test_the_way_back_never_leads_to_another_site(alice, connection, target):
    page, callback = flow.answer(alice, connection, return_to=target)
    alice.get(callback)
    body = page_of(alice, page)[1]
    assert "evil.example" not in body
    assert f'href="/connections/{connection.id}"' in body


def test_every_step_is_in_the_audit_trail_with_the_granted_scope(world, alice, connection):
    flow.walk(world, alice, connection)
    entries = {entry.action: entry for entry in world.all(AuditEntry, subject_id=connection.id)}
    assert entries["connection.authorize_started"].actor == world.alice.email
    assert entries["connection.authorized"].actor == world.alice.email
    assert entries["connection.authorized"].detail == {"scope": "orders.read"}


def test_an_authorization_is_a_row_of_the_refresh_history(world, alice, connection):
    flow.walk(world, alice, connection)
    [row] = world.all(Refresh, connection_id=connection.id)
    assert (row.trigger, row.outcome, row.requested_by) == (Trigger.AUTHORIZE, Outcome.STORED, world.alice.id)


def test_a_new_authorization_replaces_the_old_grant_even_without_a_refresh_token(world, alice, connection, provider):
    flow.walk(world, alice, connection)
    before = world.token(connection)
    provider.control(behaviours={"token": "without:refresh_token"})
    attempt = flow.walk(world, alice, connection)
    after = world.token(connection)
    assert after.generation == before.generation + 1
    assert after.refresh_token_sealed is None
    assert "gave no refresh token" in attempt.finding


def test_a_missing_refresh_token_is_told_at_once(alice, connection, provider):
    provider.control(behaviours={"token": "without:refresh_token"})
    page, callback = flow.answer(alice, connection)
    alice.get(callback)
    assert "The provider gave no refresh token" in page_of(alice, page)[1]


def test_a_refresh_in_flight_loses_to_a_new_authorization(world, alice, connection, provider):
    from services.engine import tokens

    flow.walk(world, alice, connection)
    _page, callback = flow.answer(alice, connection)
    before = provider.hits("refresh_token")
    provider.control(behaviours={"token": "delay:1.2"})
    with ThreadPoolExecutor(1) as pool:
        refresh = pool.submit(tokens.refresh, world.resources, connection.id, Trigger.MANUAL)
        while provider.hits("refresh_token") == before:
            pass
        provider.control(behaviours={})
        alice.get(callback)
        granted = world.access_token(connection)
        refresh.result()
    assert world.access_token(connection) == granted
    assert provider.alive(granted)
    outcomes = {row.trigger: row.outcome for row in world.all(Refresh, connection_id=connection.id)}
    assert outcomes[Trigger.MANUAL] is Outcome.SUPERSEDED
    assert world.token(connection).lease_until is None


# The scope (AC-13): as typed, and as granted


@pytest.mark.parametrize(
    "scope",
    [
        "orders.read  customers.read",
        "https://www.googleapis.com/auth/calendar.readonly",
        "oauth crm.objects.contacts.read",
        "a+b&c=d%20e;f,ü",
    ],
)
@pytest.mark.sqlite_only
def test_the_scope_is_handed_on_exactly_as_typed(world, alice, scope):
    """AC-13."""
    _page, address = flow.start(alice, world.connection(scope=scope))
    assert flow.query(address)["scope"] == scope


@pytest.mark.parametrize(
    ("oddity", "stored", "found"),
    [
        ("", "orders.read customers.read", ""),
        ("without:scope", None, ""),
        ("scope:orders.read", "orders.read", "without customers.read"),
        ("scope:orders.read customers.read admin", "orders.read customers.read admin", "with admin on top"),
    ],
)
def test_the_granted_scope_is_stored_and_shown(world, alice, provider, oddity, stored, found):
    """AC-13."""
    connection = world.connection(scope="orders.read customers.read")
    provider.control(behaviours={"token": oddity} if oddity else {})
    page, callback = flow.answer(alice, connection)
    alice.get(callback)
    assert world.token(connection).scope == stored
    body = page_of(alice, page)[1]
    assert found in body
    assert ("granted another scope" in body) is bool(found)


@pytest.mark.sqlite_only
def test_extra_parameters_and_audience_are_sent_and_ours_cannot_be_replaced(world, alice):
    extra = {
        "prompt": "consent",
        "url": "x",
        "client": "y",
        "self": "z",
        "state": "mine",
        "redirect_uri": "https://e.example",
    }
    connection = world.connection(authorization_params=extra, audience="https://api.example")
    change(world, connection, authorization_endpoint=f"{connection.authorization_endpoint}?tenant=a|b%")
    _page, address = flow.start(alice, connection)
    asked = flow.query(address)
    assert {name: asked[name] for name in ("prompt", "url", "client", "self")} == {
        "prompt": "consent",
        "url": "x",
        "client": "y",
        "self": "z",
    }
    assert asked["audience"] == "https://api.example"
    assert asked["tenant"] == "a|b%"
    assert asked["state"] != "mine"
    assert address.count("redirect_uri=") == address.count("state=") == 1


# Abandoned flows (AC-15)


def test_after_sixty_abandoned_starts_the_next_one_works(world, alice, connection):
    """AC-15."""
    for _ in range(60):
        flow.start(alice, connection)
    assert sum(len(str(cookie.value)) for cookie in alice._cookies.values()) < 4096
    assert flow.walk(world, alice, connection).outcome is AttemptOutcome.SUCCEEDED


def test_two_connections_in_parallel_tabs_both_finish(world, alice, provider):
    """AC-15."""
    first, second = world.connection(), world.connection()
    page_one, callback_one = flow.answer(alice, first)
    page_two, callback_two = flow.answer(alice, second)
    alice.get(callback_two)
    alice.get(callback_one)
    assert {flow.attempt_of(world, page).outcome for page in (page_one, page_two)} == {AttemptOutcome.SUCCEEDED}
    assert provider.alive(world.access_token(first))
    assert provider.alive(world.access_token(second))


def test_what_an_abandoned_attempt_kept_is_erased(world, alice, connection):
    page, _address = flow.start(alice, connection)
    with time_machine.travel(utc_now() + timedelta(minutes=11), tick=True):
        flow.start(alice, connection)
    assert flow.attempt_of(world, page).state_data_sealed is None

"""Errors, odd callbacks and strange issuers, and what an edit on the way does: AC-06 to AC-08, AC-10, AC-11."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from models import (
    AttemptOutcome,
    AuditEntry,
    ConnectionState,
    Outcome,
    Refresh,
)
from oauth.vocabulary import FailureClass
from tests.blueprints.authorization.conftest import CODE, change, page_of, untouched
from tests.support import flow
from tests.support.browserless import path_of

# Errors (AC-06)


def test_an_error_with_a_wrong_state_shows_nothing_of_it(world, alice, connection):
    """AC-06."""
    page, _address = flow.start(alice, connection)
    payload = "<svg/onload=alert(1)>"
    bad = flow.callback(error="access_denied", error_description=payload, state="bogus")
    status, body = page_of(alice, bad)
    assert status == 400
    assert "svg/onload" not in body
    assert flow.attempt_of(world, page).waiting


def test_a_denial_is_told_with_the_providers_words_escaped_and_cut(world, alice, connection, provider):
    """AC-06."""
    words = "<svg/onload=alert(1)> " + "no " * 200
    provider.control(behaviours={"authorize": f"error:access_denied={words}"})
    page, callback = flow.answer(alice, connection)
    alice.get(callback)
    attempt = flow.attempt_of(world, page)
    assert attempt.outcome is AttemptOutcome.DENIED
    assert len(attempt.failure_said) <= 200
    body = page_of(alice, page)[1]
    assert "Access was refused at localhost" in body
    assert "<dt>Step</dt><dd>authorization</dd>" in body
    assert "<dt>Code</dt><dd><code>access_denied</code></dd>" in body
    assert "<dt>When</dt><dd><time" in body
    assert f"How {connection.name} stands:" in body
    assert "<h1>Nothing was authorized</h1>" in body
    assert "<svg/onload" not in body
    assert "&lt;svg/onload" in body
    assert provider.counts.get(CODE, 0) == 0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_scope", FailureClass.REQUEST_BAD),
        ("unauthorized_client", FailureClass.CLIENT_BAD),
        ("temporarily_unavailable", FailureClass.PROVIDER_DOWN),
        ("made_up", FailureClass.REQUEST_BAD),
    ],
)
@pytest.mark.sqlite_only
def test_an_error_code_is_told_in_fixed_words(world, alice, connection, provider, code, kind):
    """AC-06."""
    provider.control(behaviours={"authorize": f"error:{code}=because"})
    page, callback = flow.answer(alice, connection)
    alice.get(callback)
    attempt = flow.attempt_of(world, page)
    assert (attempt.failure_class, attempt.failure_code, attempt.failure_said) == (kind, code, "because")
    assert attempt.failure_reason in page_of(alice, page)[1].replace("&#39;", "'")


def test_a_client_secret_echoed_by_the_provider_is_starred(world, alice, connection, provider):
    provider.control(behaviours={"authorize": "error:server_error=wrong practice-secret-code given"})
    attempt = flow.walk(world, alice, connection)
    assert attempt.failure_said == "wrong ••• given"


def test_a_failed_attempt_leaves_a_working_grant_alone(world, alice, connection, provider):
    flow.walk(world, alice, connection)
    token = world.access_token(connection)
    provider.control(behaviours={"authorize": "deny"})
    flow.walk(world, alice, connection)
    provider.control(behaviours={"token": "status:500"})
    flow.walk(world, alice, connection)
    assert world.access_token(connection) == token
    assert world.reread(connection).state is ConnectionState.ACTIVE


def test_a_token_request_that_fails_is_told_with_its_step(world, alice, provider):
    connection = world.connection(secret="not the secret")
    page, callback = flow.answer(alice, connection)
    alice.get(callback)
    attempt = flow.attempt_of(world, page)
    assert (attempt.failure_step, attempt.failure_class) == ("token request", FailureClass.CLIENT_BAD)
    body = page_of(alice, page)[1]
    assert "invalid_client" in body
    assert "Compare Client ID, Client secret" in body
    assert world.reread(connection).state is ConnectionState.MISCONFIGURED
    failed = world.all(AuditEntry, action="connection.authorization_failed")
    assert [entry.detail["code"] for entry in failed] == ["invalid_client"]
    [row] = world.all(Refresh, connection_id=connection.id)
    assert row.outcome is Outcome.FAILED


# Odd callbacks (AC-07)


def odd_callbacks(state, code):
    """Address and headers, method GET; each belongs to a live attempt as far as it can."""
    good = {"state": state, "code": code}
    pairs = [
        f"?state={state}",
        f"?code={code}",
        "?",
        f"?state={state}&code=",
        f"?state={state}&error=",
        f"?state=&code={code}",
        f"?state={state}&state={state}&code={code}",
        f"?state={state}&code={code}&code={code}",
        f"?state={state}&code={code}&code=other",
        f"?state={state}&error=access_denied&error=server_error",
        f"?state={state}&code={code}&error=access_denied",
        f"?state={state}&code={code}&iss=a&iss=b",
        f"?state={state}&code={'x' * 8192}",
        f"?state={state}&code=a%00b",
        f"?state={state}&code=a%0d%0aX-Evil:1",
        f"?state={state}&code=%F0%9F%98%80",
        f"?state={state}&error=%0d%0aSet-Cookie:x",
        f"?state={state}&error={'e' * 500}",
        f"?state=bogus&code={code}",
        f"?state={state}x&code={code}",
        f"?state={state[:-1]}&code={code}",
        f"?state={state.swapcase()}&code={code}",
        f"?state={'s' * 5000}&code={code}",
        f"?state=%00&code={code}",
        f"?state=%ff%fe&code={code}",
        f"?state[]={state}&code={code}",
        f"?STATE={state}&CODE={code}",
        f"?state={state}&auth_code={code}",
        f"?attempt={uuid.uuid4()}",
        f"?attempt={uuid.uuid4()}&code={code}",
        "?attempt=1' or '1'='1",
        f"?access_token=abc&state={state}",
    ]
    found = [(f"{flow.CALLBACK}{pair}", {}) for pair in pairs]
    found.append((flow.callback(**good), {"Sec-Purpose": "prefetch;prerender"}))
    found.append((flow.callback(**good), {"Purpose": "prefetch"}))
    return found


def test_odd_callbacks_use_nothing_up_and_a_good_one_still_succeeds(world, alice, connection, provider):
    """AC-07."""
    page, callback = flow.answer(alice, connection)
    asked = flow.query(callback)
    for address, headers in odd_callbacks(asked["state"], asked["code"]):
        reply = alice.get(address, headers=headers)
        assert reply.status_code in (204, 400), (address[:100], reply.status_code)
        posted = alice.post(
            flow.CALLBACK, data=address.partition("?")[2], content_type="application/x-www-form-urlencoded"
        )
        assert posted.status_code in (303, 400), address[:100]
        assert posted.status_code == 400 or headers  # by POST a prefetch is an ordinary good answer
    assert alice.head(callback).status_code == 204
    for method in ("put", "delete", "patch"):
        assert getattr(alice, method)(callback).status_code in (400, 405)
    assert provider.counts.get(CODE, 0) == 0
    assert flow.attempt_of(world, page).used_at is None
    assert path_of(alice.get(callback).location) == page
    assert flow.attempt_of(world, page).outcome is AttemptOutcome.SUCCEEDED


def test_fields_nobody_asked_for_do_no_harm(world, alice, connection, provider):
    provider.control(behaviours={"authorize": "extra_fields"})
    assert flow.walk(world, alice, connection).outcome is AttemptOutcome.SUCCEEDED


# The issuer (AC-08)


@pytest.mark.parametrize("oddity", ["iss:https://evil.example", "missing_iss", "iss:{url}/"])
def test_a_wrong_or_missing_issuer_stops_before_the_token_request(world, alice, connection, provider, oddity):
    """AC-08."""
    provider.control(behaviours={"authorize": oddity.format(url=provider.url)})
    page, callback = flow.answer(alice, connection)
    alice.get(callback)
    attempt = flow.attempt_of(world, page)
    assert attempt.outcome is AttemptOutcome.FAILED
    assert "authorization server" in attempt.failure_reason
    assert provider.counts.get(CODE, 0) == 0
    assert untouched(world, connection)


def test_the_right_issuer_makes_one_token_request(world, alice, connection, provider):
    """AC-08."""
    assert connection.issuer == provider.url
    flow.walk(world, alice, connection)
    assert provider.counts[CODE] == 1


# Frozen settings (AC-10)


def test_a_token_endpoint_changed_on_the_way_stops_the_flow(world, alice, connection, provider, stub):
    """AC-10."""
    page, callback = flow.answer(alice, connection)
    change(world, connection, token_endpoint=stub.url_for("/token"), version=connection.version + 1)
    assert path_of(alice.get(callback).location) == page
    assert "settings changed" in page_of(alice, page)[1]
    assert provider.counts.get(CODE, 0) == 0
    assert stub.log == []


def test_an_edit_during_the_token_request_wins(world, alice, connection, provider):
    """AC-10."""
    page, callback = flow.answer(alice, connection)
    provider.control(behaviours={"token": "delay:0.5"})
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(alice.get, callback)
        while flow.attempt_of(world, page).used_at is None:
            pass
        change(world, connection, version=connection.version + 1)
        coming.result()
    assert flow.attempt_of(world, page).outcome is AttemptOutcome.FAILED
    assert world.access_token(connection) is None
    [row] = world.all(Refresh, connection_id=connection.id)
    assert row.outcome is Outcome.SUPERSEDED


def test_a_disconnect_during_the_token_request_wins(world, alice, connection, provider):
    from services.audit import Actor
    from services.setup import connections

    page, callback = flow.answer(alice, connection)
    provider.control(behaviours={"token": "delay:0.5"})
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(alice.get, callback)
        while flow.attempt_of(world, page).used_at is None:
            pass
        connections.disconnect(world.resources, Actor.person(world.alice), connection.id)
        coming.result()
    assert world.access_token(connection) is None
    assert world.reread(connection).state is ConnectionState.DISCONNECTED


def test_a_connection_deleted_during_the_token_request_stays_deleted(world, alice, connection, provider):
    from services.audit import Actor
    from services.setup import connections

    page, callback = flow.answer(alice, connection)
    provider.control(behaviours={"token": "delay:0.5"})
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(alice.get, callback)
        while flow.attempt_of(world, page).used_at is None:
            pass
        connections.delete(world.resources, Actor.person(world.alice), connection.id)
        reply = coming.result()
    assert reply.status_code == 410
    assert "The connection was deleted meanwhile" in reply.text
    assert world.reread(connection) is None


# Addresses at use (AC-11)

BAD_ADDRESSES = (
    "javascript:alert(1)",
    "data:text/html,x",
    "ftp://provider.example/authorize",
    "http://provider.example/authorize",
    "//provider.example/authorize",
    "provider.example/authorize",
    "https://user@provider.example/authorize",
    "https://user:word@provider.example/authorize",
    "https://provider.example\\@evil.example/",
    "https://provider.example/authorize#fragment",
    "https://provider.example/a b",
    "https://provider.example/a\nb",
    "https://127.0.0.1/authorize",
    "https://[::1]/authorize",
    "https://2130706433/authorize",
    "https://provider.example:99999/authorize",
    "https:///authorize",
    "https://",
)


@pytest.mark.parametrize("field", ["authorization_endpoint", "token_endpoint"])
@pytest.mark.parametrize("address", BAD_ADDRESSES)
@pytest.mark.sqlite_only
def test_an_address_edited_in_the_database_is_refused_at_use(world, alice, connection, field, address):
    """AC-11."""
    change(world, connection, **{field: address})
    page = flow.press(alice, connection)
    attempt = flow.attempt_of(world, page)
    assert (attempt.outcome, attempt.failure_step) == (AttemptOutcome.FAILED, "settings")
    assert attempt.state_hash is None
    status, body = page_of(alice, page)
    assert status == 200
    assert "data-onward" not in body


@pytest.mark.sqlite_only
def test_an_incomplete_connection_is_told_what_is_missing(world, alice, provider):
    connection = world.connection(client_id="", token_endpoint="", state=ConnectionState.DRAFT)
    page = flow.press(alice, connection)
    assert "Client ID and Token Endpoint must be filled in and saved first." in page_of(alice, page)[1]
    assert provider.counts.get("authorize", 0) == 0

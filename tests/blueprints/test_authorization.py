"""Authorize and the callback, against the rehearsal provider over real HTTP. Rows of the security floor are named."""

import base64
import hashlib
import json
import logging
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine

from models import (
    AttemptOutcome,
    AuditEntry,
    AuthorizationAttempt,
    Connection,
    ConnectionState,
    Membership,
    Outcome,
    Refresh,
    Role,
    Trigger,
)
from models.types import utc_now
from oauth.vocabulary import FailureClass, GrantType
from services.authorizing import attempts
from services.people import sign_in
from tests.support import flow
from tests.support.browserless import path_of

CODE = "token_authorization_code"


@pytest.fixture(autouse=True)
def agreeing(provider):
    provider.control(auto_consent=True)


@pytest.fixture
def connection(world):
    return world.connection()


@pytest.fixture
def alice(world, app):
    return world.client(world.alice)


def change(world, row, **columns):
    with world.resources.database.session(writing=True) as session:
        kept = session.get_one(type(row), row.id)
        kept.sqlmodel_update(columns)
        session.add(kept)
        session.commit()


def page_of(browser, address):
    reply = browser.get(address)
    return reply.status_code, reply.get_data(as_text=True)


def untouched(world, connection):
    return world.access_token(connection) is None and world.reread(connection).state is ConnectionState.CONFIGURED


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


# State, browser, person, right (AC-01, AC-02)


@pytest.mark.sqlite_only
def test_a_thousand_starts_share_neither_state_nor_verifier(world, alice, connection, caplog):
    """AC-01, AC-04."""
    caplog.set_level(logging.DEBUG)
    pages = [flow.press(alice, connection) for _ in range(1000)]
    keyring = world.resources.database.keyring
    states, verifiers = set(), set()
    for attempt in world.all(AuthorizationAttempt):
        kept = attempts.read_state(attempt, keyring)
        asked = flow.query(kept["url"])
        assert 22 <= len(asked["state"]) <= 43
        assert attempts.has_state(attempt, asked["state"])
        assert asked["code_challenge_method"] == "S256"
        assert 43 <= len(kept["code_verifier"]) <= 128
        digest = hashlib.sha256(kept["code_verifier"].encode()).digest()
        assert asked["code_challenge"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        states.add(asked["state"])
        verifiers.add(kept["code_verifier"])
    assert len(pages) == len(states) == len(verifiers) == 1000
    assert not any(verifier in caplog.text for verifier in verifiers)
    assert not any(state in caplog.text for state in states)


def test_a_callback_in_another_browser_is_refused(world, alice, connection, provider):
    """AC-01."""
    page, callback = flow.answer(alice, connection)
    status, body = page_of(world.client(world.alice), callback)
    assert status == 403
    assert connection.name not in body
    assert provider.counts.get(CODE, 0) == 0
    assert untouched(world, connection)
    assert "another browser" in page_of(alice, page)[1]


@pytest.mark.parametrize("who", ["colleague", "stranger", "nobody"])
def test_somebody_else_cannot_finish_what_another_began(world, app, alice, connection, provider, who):
    """AC-02."""
    with world.resources.database.session(writing=True) as session:
        session.get_one(Membership, (world.acme.id, world.oscar.id)).role = Role.ADMIN
        session.commit()
    _page, address = flow.start(alice, connection)
    visitors = {
        "colleague": lambda: world.client(world.oscar),
        "stranger": lambda: world.client(world.gus),
        "nobody": app.test_client,
    }
    status, body = page_of(visitors[who](), flow.agree(address))
    assert status == 403
    assert connection.name not in body
    assert provider.counts.get(CODE, 0) == 0
    assert untouched(world, connection)


def test_another_person_in_the_same_browser_is_refused(world, alice, connection, provider):
    """AC-02."""
    with world.resources.database.session(writing=True) as session:
        session.get_one(Membership, (world.acme.id, world.oscar.id)).role = Role.ADMIN
        token = sign_in.open_session(session, world.oscar, "")
        session.commit()
    _page, callback = flow.answer(alice, connection)
    assert page_of(alice.sign_in(token), callback)[0] == 403
    assert provider.counts.get(CODE, 0) == 0


def test_an_admin_who_lost_the_role_on_the_way_is_refused(world, alice, connection, provider):
    """AC-02."""
    _page, callback = flow.answer(alice, connection)
    with world.resources.database.session(writing=True) as session:
        session.get_one(Membership, (world.acme.id, world.alice.id)).role = Role.OPERATOR
        session.commit()
    status, body = page_of(alice, callback)
    assert status == 403
    assert "no longer an admin" in body
    assert provider.counts.get(CODE, 0) == 0
    assert untouched(world, connection)


def test_only_admins_may_press_authorize(world, app, connection):
    address = f"/connections/{connection.id}/authorize"
    assert world.client(world.oscar).post_form(address).status_code == 403
    assert world.client(world.ann).post_form(address).status_code == 403
    assert world.client(world.gus).post_form(address).status_code == 404
    assert world.all(AuthorizationAttempt) == []


def test_an_attempt_is_shown_to_admins_of_its_workspace_only(world, alice, connection):
    page, _address = flow.start(alice, connection)
    assert world.client(world.gus).get(page).status_code == 404
    assert world.client(world.oscar).get(page).status_code == 403


def test_another_browser_of_the_same_admin_is_not_led_to_the_provider(world, alice, connection):
    page, _address = flow.start(alice, connection)
    assert "data-onward" not in page_of(world.client(world.alice), page)[1]


def test_somebody_whose_session_ended_signs_in_and_goes_on(world, alice, connection, provider):
    page, callback = flow.answer(alice, connection)
    with alice.session_transaction() as cookie:
        del cookie["_user_id"]
    reply = alice.get(callback)
    assert reply.status_code == 303
    code = flow.query(callback)["code"]
    assert path_of(reply.location).startswith("/login?next=")
    assert code not in reply.location
    assert code not in str(world.all(AuthorizationAttempt))
    form = {"email": world.alice.email, "password": world.password, "next": flow.query(reply.location)["next"]}
    back = alice.post_form("/login", form)
    assert back.status_code == 303
    assert path_of(alice.get(path_of(back.location)).location) == page
    assert provider.alive(world.access_token(connection))


# Once, and in time (AC-03)


def test_a_callback_works_once_in_series(world, alice, connection, provider):
    """AC-03."""
    _page, callback = flow.answer(alice, connection)
    assert alice.get(callback).status_code == 303
    token = world.access_token(connection)
    status, body = page_of(alice, callback)
    assert status == 410
    assert connection.name not in body
    assert provider.counts[CODE] == 1
    assert world.access_token(connection) == token
    assert provider.alive(token)


def test_twenty_callbacks_at_once_make_one_token_request(world, alice, connection, provider):
    """AC-03."""
    _page, callback = flow.answer(alice, connection)
    twins = [flow.same_browser(alice) for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        statuses = sorted(pool.map(lambda twin: twin.get(callback).status_code, twins))
    assert statuses == [303] + [410] * 19
    assert provider.counts[CODE] == 1
    assert provider.alive(world.access_token(connection))


def test_a_callback_after_eleven_minutes_is_refused(world, alice, connection, provider):
    """AC-03."""
    page, callback = flow.answer(alice, connection)
    with time_machine.travel(utc_now() + timedelta(minutes=11), tick=True):
        assert page_of(alice, callback)[0] == 410
        assert "No answer came in time" in page_of(alice, page)[1]
    assert provider.counts.get(CODE, 0) == 0
    assert untouched(world, connection)


# PKCE and the redirect URL (AC-04, AC-05)


def test_pkce_can_be_switched_off_for_a_connection(world, alice, provider):
    """AC-04."""
    connection = world.connection(pkce=False)
    page, address = flow.start(alice, connection)
    assert not {"code_challenge", "code_challenge_method"} & set(flow.query(address))
    alice.get(flow.agree(address))
    assert flow.attempt_of(world, page).outcome is AttemptOutcome.SUCCEEDED


@pytest.mark.parametrize(
    "headers",
    [{"X-Forwarded-Host": "evil.example"}, {"X-Forwarded-Proto": "https"}, {"Forwarded": "host=evil.example"}],
)
def test_forged_headers_change_no_redirect_url(world, alice, connection, settings, headers):
    """AC-05: the provider itself compares both legs byte for byte."""
    reply = alice.post_form(f"/connections/{connection.id}/authorize", headers=headers)
    page = path_of(reply.location)
    address = flow.onward(alice, page)
    assert flow.query(address)["redirect_uri"] == settings.redirect_url
    alice.get(flow.agree(address), headers=headers)
    assert flow.attempt_of(world, page).outcome is AttemptOutcome.SUCCEEDED


@pytest.mark.sqlite_only
def test_a_forged_host_is_refused(alice, connection):
    """AC-05."""
    reply = alice.post_form(f"/connections/{connection.id}/authorize", headers={"Host": "evil.example"})
    assert reply.status_code == 400


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
        assert coming.result().status_code == 404
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


# Answers by POST


def test_an_answer_by_post_is_kept_until_a_get_with_cookies_goes_on(world, app, alice, connection, provider):
    page, callback = flow.answer(alice, connection)
    from_another_site = app.test_client()
    reply = from_another_site.post(flow.CALLBACK, data=flow.query(callback))
    assert reply.status_code == 303
    code = flow.query(callback)["code"]
    assert code not in reply.location
    assert code not in str(world.all(AuthorizationAttempt))
    assert provider.counts.get(CODE, 0) == 0
    assert from_another_site.get(path_of(reply.location)).status_code == 400
    assert path_of(alice.get(path_of(reply.location)).location) == page
    assert flow.attempt_of(world, page).outcome is AttemptOutcome.SUCCEEDED
    assert flow.attempt_of(world, page).callback_sealed is None
    assert alice.get(path_of(reply.location)).status_code == 410


def test_a_second_answer_by_post_changes_nothing(world, app, alice, connection):
    page, callback = flow.answer(alice, connection)
    good = flow.query(callback)
    reply = app.test_client().post(flow.CALLBACK, data=good)
    app.test_client().post(flow.CALLBACK, data={**good, "code": "another"})
    alice.get(path_of(reply.location))
    assert flow.attempt_of(world, page).outcome is AttemptOutcome.SUCCEEDED


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
    assert "Not authorized" in body
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

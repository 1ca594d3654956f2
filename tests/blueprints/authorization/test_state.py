"""State, browser, person and right, once and in time; PKCE and the redirect URL: AC-01 to AC-05."""

import base64
import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import time_machine

from models import (
    AttemptOutcome,
    AuthorizationAttempt,
    Membership,
    Role,
)
from models.types import utc_now
from services.authorizing import attempts
from services.people import sign_in
from tests.blueprints.authorization.conftest import CODE, page_of, untouched
from tests.support import flow
from tests.support.browserless import path_of

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

"""What happens between Authorize and its end is told, in the window and on the connection's page."""

import subprocess
import sys
from datetime import timedelta

from models import AttemptOutcome, AuditEntry, ConnectionState, Outcome, Refresh, Role
from models.types import utc_now
from services.audit import Actor
from services.operating import housekeeping, pauses
from services.setup import connections
from tests.blueprints.authorization.conftest import CODE, change, page_of
from tests.support import flow
from tests.workers.parts import ROOT, environment, until


def visiting(settings, browser, address):
    """A portal process that gets `address` with the browser's cookies."""
    cookies = "; ".join(f"{cookie.key}={cookie.value}" for cookie in browser._cookies.values())
    command = [sys.executable, "-m", "tests.support.visitor", address, cookies]
    return subprocess.Popen(command, cwd=ROOT, env=environment(settings), stdout=subprocess.DEVNULL)


def swept(world):
    with world.resources.database.session(writing=True) as session:
        return housekeeping.unanswered(session, world.resources.settings)


def test_a_portal_killed_while_it_exchanges_the_code_is_told_everywhere(
    world, alice, connection, provider, settings, time_machine
):
    page, callback = flow.answer(alice, connection)
    provider.control(behaviours={"token": "delay:2"})
    process = visiting(settings, alice, callback)
    try:
        until(lambda: world.all(Refresh, outcome=Outcome.SENT))
        until(lambda: provider.counts.get(CODE))
    finally:
        process.kill()
        process.wait(10)
    places = (page, f"/connections/{connection.id}", f"/connections/{connection.id}/authorization")
    assert "One moment" in page_of(alice, page)[1]
    assert all("has answered, and Cardkey fetches the token" in page_of(alice, place)[1] for place in places[1:])
    assert "its token is being fetched" in page_of(alice, callback)[1]
    assert swept(world) == 0

    time_machine.move_to(utc_now() + timedelta(seconds=settings.lease + 1))
    tells_of_the_interruption(alice, places, callback)  # as soon as somebody looks
    assert swept(world) == 1
    tells_of_the_interruption(alice, places, callback)  # and for good
    assert [row.outcome for row in world.all(Refresh)] == [Outcome.UNKNOWN]
    assert flow.attempt_of(world, page).outcome is AttemptOutcome.FAILED
    assert len(world.all(AuditEntry, action="connection.authorization_failed")) == 1

    provider.control(behaviours={})
    assert flow.walk(world, alice, connection).outcome is AttemptOutcome.SUCCEEDED
    assert world.reread(connection).state is ConnectionState.ACTIVE


def tells_of_the_interruption(alice, places, callback):
    for place in places:
        body = page_of(alice, place)[1]
        assert "The authorization was interrupted" in body
        assert "The code is spent" in body
        assert "Press Authorize to try again." in body
        assert "Waiting for" not in body
    status, body = page_of(alice, callback)
    assert status == 410
    assert "This was interrupted. The process stopped" in body


def test_a_pause_between_authorize_and_the_answer_is_told(world, alice, connection, provider):
    world.authorize(connection)
    _page, callback = flow.answer(alice, connection)
    with world.resources.database.session(writing=True) as session:
        pauses.pause(session, Actor.person(world.alice), [connection.id])
    status, body = page_of(alice, callback)
    assert status == 410
    assert "paused before the provider&#39;s answer came" in body
    assert "Resume the connection, then press Authorize again." in body
    shown = page_of(alice, f"/connections/{connection.id}")[1]
    assert "paused before the provider&#39;s answer came" in shown
    assert "This authorization was not finished" in shown
    assert provider.counts.get(CODE, 0) == 0
    assert world.access_token(connection) == "at"


def test_a_disconnect_between_authorize_and_the_answer_is_told(world, alice, connection, provider):
    world.authorize(connection)
    _page, callback = flow.answer(alice, connection)
    connections.disconnect(world.resources, Actor.person(world.alice), connection.id)
    for status, body in (page_of(alice, callback), page_of(alice, f"/connections/{connection.id}")):
        assert status in (410, 200)
        assert "disconnected before the provider&#39;s answer was used" in body
        assert "Press Authorize to try again." in body
        assert "used already" not in body
    assert provider.counts.get(CODE, 0) == 0


def test_a_deletion_between_authorize_and_the_answer_is_told_to_who_was_authorizing(world, app, alice, connection):
    _page, callback = flow.answer(alice, connection)
    world.join(world.acme, world.gus, Role.ADMIN)
    connections.delete(world.resources, Actor.person(world.gus), connection.id)
    status, body = page_of(alice, callback)
    assert status == 410
    assert f"{world.gus.email} deleted the connection “{connection.name}” while you were authorizing it" in body
    for stranger in (world.client(world.oscar), app.test_client()):
        status, body = page_of(stranger, callback)
        assert status == 400
        assert connection.name not in body
        assert "or its connection was deleted" in body


def test_an_edit_between_authorize_and_the_answer_is_told_on_both_pages(world, alice, connection):
    page, callback = flow.answer(alice, connection)
    change(world, connection, client_id="another", version=connection.version + 1)
    assert alice.get(callback).status_code == 303
    for place in (page, f"/connections/{connection.id}"):
        assert "settings changed while you were at the provider" in page_of(alice, place)[1]


def test_an_older_press_that_works_while_a_newer_one_waits_is_told(world, alice, connection):
    _page, callback = flow.answer(alice, connection)
    newer, _address = flow.start(alice, connection)
    alice.get(callback)
    body = page_of(alice, f"/connections/{connection.id}")[1]
    assert "Another press of Authorize has worked meanwhile" in body
    assert flow.attempt_of(world, newer).waiting
    assert world.reread(connection).state is ConnectionState.ACTIVE

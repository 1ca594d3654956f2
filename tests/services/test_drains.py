"""Drains: many requests at once on one loop, nothing that was sent is lost, and nothing is sent for nothing."""

import threading
import time

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from werkzeug.wrappers import Response

from models import Outcome, Refresh, Token
from models.types import utc_now
from services.engine import drains, leases, settle


@pytest.fixture
def due(world, stub):
    """A maker of due connections at the stub."""

    def make(count):
        made = [world.connection(token_endpoint=stub.url_for("/token")) for _ in range(count)]
        for connection in made:
            world.authorize(connection, refresh_token="rt-1")
        world.make_due(*made, next_refresh_at=utc_now())
        return made

    return make


@pytest.fixture
def provider_of(stub):
    """Let the stub take a moment for each request, and do `first` at the first one; returns what was in flight."""

    def answering(seconds=0.0, first=lambda: None, each=lambda: None):
        lock, inside, most, calls = threading.Lock(), [0], [0], [0]

        def answer(_request):
            with lock:
                calls[0] += 1
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                is_first = calls[0] == 1
                each()
            if is_first:
                first()
            time.sleep(seconds)
            with lock:
                inside[0] -= 1
            return Response('{"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 3600}')

        stub.expect_request("/token").respond_with_handler(answer)
        return most

    return answering


def test_a_drain_sends_what_is_due_once_and_ends_when_nothing_is(resources, world, due, provider_of):
    provider_of()
    made = due(12)
    assert drains.drain(resources, 20.0) == 12
    assert {world.access_token(connection) for connection in made} == {"at-2"}
    assert {row.outcome for row in world.all(Refresh)} == {Outcome.STORED}
    assert drains.drain(resources, 20.0) == 0


def test_no_more_are_in_flight_than_the_drain_may_have(resources, world, due, provider_of):
    most = provider_of(0.05)
    made = due(9)
    assert drains.drain(resources, 20.0, limit=3) == 9
    assert 1 <= most[0] <= 3
    assert {world.access_token(connection) for connection in made} == {"at-2"}


def test_a_drain_that_is_told_to_stop_stores_what_it_has_sent_and_sends_no_more(resources, world, due, provider_of):
    stop = threading.Event()
    provider_of(0.1, first=stop.set)
    due(6)
    sent = drains.drain(resources, 20.0, limit=2, stopping=stop.is_set)
    assert sent == 2
    assert [row.outcome for row in world.all(Refresh)] == [Outcome.STORED] * 2
    assert drains.drain(resources, 20.0, stopping=lambda: True) == 0


def test_a_claim_that_fails_ends_the_claiming_and_loses_nothing_that_was_sent(resources, world, due, provider_of):
    """Their refresh tokens may be spent: they are waited for and stored before anybody hears of the trouble."""
    provider_of(0.2)
    made, looks = due(6), []

    def refuse(_connection, _cursor, statement, *_rest):
        if statement.startswith("INSERT INTO refreshes"):
            looks.append(statement)
        if len(looks) > 1 and looks[-1] is statement:
            raise OperationalError("INSERT", {}, Exception("the database went away"))

    sa.event.listen(resources.database.engine, "before_cursor_execute", refuse)
    with pytest.raises(OperationalError):
        drains.drain(resources, 20.0, limit=3)
    sent = world.all(Refresh)
    assert [row.outcome for row in sent] == [Outcome.STORED] * 3
    stored = {row.connection_id for row in sent}
    assert {world.access_token(connection) for connection in made if connection.id in stored} == {"at-2"}
    assert {world.token(connection).lease_owner for connection in made} == {None}, "the others are free for the next"


def test_what_was_leased_ahead_is_free_again_when_the_process_is_to_stop(resources, world, due, provider_of):
    """Nothing was sent under those leases: no journal row, no wait for a lease's end, no suspicion."""
    stop, made, in_flight = threading.Event(), due(40), 4

    def look():
        if sum(row.lease_owner is not None for row in world.all(Token)) > in_flight:
            stop.set()

    most = provider_of(0.02, each=look)
    sent = drains.drain(resources, 20.0, limit=in_flight, stopping=stop.is_set)
    assert stop.is_set(), "nothing was leased ahead"
    assert most[0] <= in_flight
    assert [row.outcome for row in world.all(Refresh)] == [Outcome.STORED] * sent
    rows = [world.token(connection) for connection in made]
    assert {(row.lease_owner, row.lease_until, row.interruptions) for row in rows} == {(None, None, 0)}
    assert sum(row.next_refresh_at <= utc_now() for row in rows) == 40 - sent, "they are due as before"
    assert drains.drain(resources, 20.0) == 40 - sent


def test_a_lease_that_somebody_else_took_over_is_not_given_back(resources, world, due):
    """This process may have slept past its lease before it gives back what it did not send."""
    (connection,) = due(1)
    with resources.database.session(writing=True) as session:
        (claim,) = leases.claim_due(session, resources.settings, 1)
    world.set_token(connection, lease_owner="another:1:abc")
    settle.give_back(resources, [claim])
    assert world.token(connection).lease_owner == "another:1:abc"

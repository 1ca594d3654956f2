"""A provider is asked when a token ends where its reply did not say: after it is stored, and nothing rests on it."""

import json
import threading
import time
from datetime import timedelta

import pytest
from werkzeug.wrappers import Response

from models import ConnectionState, Refresh, Trigger
from models.types import utc_now
from oauth.vocabulary import LifetimeRung
from services.audit import Actor
from services.engine import introspection, lifetimes, states, tokens
from services.operating import pauses
from tests.support.world import token_reply
from workers.asking import Asking


@pytest.fixture
def connection(world, stub):
    made = world.connection(token_endpoint=stub.url_for("/token"), introspection_endpoint=stub.url_for("/introspect"))
    world.authorize(made, None, "rt-1", "at-1")
    return made


@pytest.fixture
def answers(stub):
    """Let the introspection endpoint answer so; returns what it was asked."""
    asked = []

    def answers(body, status=200, before=lambda: None):
        def answer(request):
            before()
            asked.append(request.form["token"])
            return Response(json.dumps(body), status, content_type="application/json")

        stub.clear_all_handlers()
        stub.expect_request("/introspect", method="POST").respond_with_handler(answer)
        return asked

    return answers


def ends_in(seconds):
    return {"active": True, "exp": int((utc_now() + timedelta(seconds=seconds)).timestamp())}


def run(resources):
    return introspection.run(resources, 5.0)


def test_the_token_is_used_at_once_and_its_end_is_known_a_moment_later(resources, world, connection, answers):
    asked = answers(ends_in(1000))
    before = world.token(connection)
    assert (before.lifetime_rung, before.introspection_due) == (LifetimeRung.DEFAULT, True)
    assert tokens.access(resources, connection.workspace_id, connection.id).token.get_secret_value() == "at-1"
    assert run(resources) == 1
    token = world.token(connection)
    assert asked == ["at-1"]
    assert (token.lifetime_rung, token.lifetime) == (LifetimeRung.INTROSPECTION, pytest.approx(1000, abs=2))
    assert 640 < (token.next_refresh_at - token.received_at).total_seconds() < 755
    assert (token.introspection_due, token.introspection_problem, token.generation) == (False, "", 1)
    assert run(resources) == 0


def test_a_refresh_stores_first_and_asks_afterwards(resources, world, connection, stub, answers):
    answers(ends_in(1000))
    run(resources)
    stub.expect_request("/token").respond_with_json({"access_token": "at-2", "refresh_token": "rt-2"})
    tokens.refresh(resources, connection.id, Trigger.SCHEDULED)
    assert [request.path for request, _ in stub.log] == ["/introspect", "/token"]
    assert (world.refresh_token(connection), world.token(connection).introspection_due) == ("rt-2", True)
    assert run(resources) == 1
    (row,) = world.all(Refresh)
    assert (row.lifetime_rung, row.lifetime) == (LifetimeRung.INTROSPECTION, world.token(connection).lifetime)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"active": False}, 200, "not active"),
        ({"active": True}, 200, "does not say"),
        ({"error": "invalid_client"}, 401, "does not accept this client"),
        ({}, 500, "does not work just now"),
        ({"said": "at-1"}, 200, "RFC 7662"),
    ],
)
def test_an_answer_that_does_not_help_leaves_the_next_rung_and_says_why(
    resources, world, connection, answers, body, status, words
):
    answers(body, status)
    before = world.token(connection)
    assert run(resources) == 1
    token = world.token(connection)
    assert (token.expires_at, token.lifetime_rung) == (before.expires_at, LifetimeRung.DEFAULT)
    assert token.next_refresh_at == before.next_refresh_at
    assert words in token.introspection_problem
    assert "at-1" not in token.introspection_problem
    assert world.reread(connection).state is ConnectionState.ACTIVE
    assert run(resources) == 0


def test_an_answer_about_a_token_that_was_replaced_meanwhile_changes_nothing(resources, world, connection, answers):
    def replaced():
        world.authorize(connection, 600, "rt-2", "at-2")

    answers(ends_in(1000), before=replaced)
    run(resources)
    token = world.token(connection)
    assert (token.generation, token.lifetime, token.lifetime_rung) == (2, 600, LifetimeRung.REPLY)


@pytest.mark.parametrize(
    "reply", [token_reply("at-2", "rt-2", 600), token_reply("at-2", "rt-2", 600, lifetime_rung=LifetimeRung.JWT)]
)
def test_nobody_is_asked_where_the_reply_or_the_token_says(resources, session, world, connection, answers, reply):
    asked = answers(ends_in(1000))
    row, token = session.get(type(connection), connection.id), session.merge(world.token(connection))
    states.store(session, resources.settings, row, token, reply)
    session.commit()
    assert (run(resources), asked) == (0, [])


def test_nobody_is_asked_without_an_endpoint_or_for_a_connection_that_is_stopped(resources, world, stub):
    silent = world.connection(token_endpoint=stub.url_for("/token"))
    stopped = world.connection(
        introspection_endpoint=stub.url_for("/introspect"), state=ConnectionState.REAUTH_REQUIRED
    )
    for made in (silent, stopped):
        world.authorize(made, None, "rt-1", "at-1")
    assert not world.token(silent).introspection_due
    world.set_token(silent, introspection_due=True)
    with resources.database.session(writing=True) as session:
        session.get(type(stopped), stopped.id).state = ConnectionState.REAUTH_REQUIRED
        session.commit()
    assert run(resources) == 0
    assert stub.log == []


def test_the_question_about_a_paused_connection_is_asked_when_it_goes_on(resources, world, connection, answers):
    asked, actor = answers(ends_in(1000)), Actor.person(world.alice)
    with resources.database.session(writing=True) as session:
        pauses.pause(session, actor, [connection.id])
        assert not introspection.waiting(session)
    assert (run(resources), world.token(connection).introspection_due) == (0, True)
    with resources.database.session(writing=True) as session:
        pauses.resume(session, resources.settings, actor, [connection.id])
        assert introspection.waiting(session)
    assert (run(resources), asked) == (1, ["at-1"])
    assert world.token(connection).lifetime_rung is LifetimeRung.INTROSPECTION


def test_of_two_workers_one_asks(resources, world, connection, answers):
    asked = answers(ends_in(1000), before=lambda: time.sleep(0.2))
    threads = [threading.Thread(target=run, args=(resources,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["at-1"]


def test_a_secret_that_cannot_be_read_asks_nobody_and_says_so(resources, world, connection, answers):
    asked = answers(ends_in(1000))
    sealed = bytearray(world.token(connection).access_token_sealed)
    sealed[-1] ^= 1
    world.set_token(connection, access_token_sealed=bytes(sealed))
    run(resources)
    assert asked == []
    assert "altered" in world.token(connection).introspection_problem


def test_a_token_without_a_refresh_token_learns_its_end_as_well(resources, world, stub, answers):
    asked = answers(ends_in(1000))
    made = world.connection(introspection_endpoint=stub.url_for("/introspect"))
    world.authorize(made, None, None, "at-1")
    assert world.token(made).expires_at is None
    run(resources)
    token = world.token(made)
    assert (asked, token.next_refresh_at) == (["at-1"], token.expires_at)


def test_the_worker_asks_by_itself_beside_its_loop(resources, world, connection, answers):
    answers(ends_in(1000))
    stop = threading.Event()
    with Asking(resources, stop):
        until = time.monotonic() + 5
        while world.token(connection).lifetime_rung is not LifetimeRung.INTROSPECTION:
            assert time.monotonic() < until
            time.sleep(0.05)
    assert stop.is_set()


# --- Planning anew what is stored


def test_changed_times_count_for_the_token_that_is_stored(resources, session, world, connection):
    row, token = session.get(type(connection), connection.id), session.merge(world.token(connection))
    row.assumed_lifetime = 600
    lifetimes.replan(resources.settings, row, token)
    assert (token.lifetime, token.lifetime_rung) == (600, LifetimeRung.PRESET)
    assert (token.next_refresh_at - token.received_at).total_seconds() < 460
    asked_for = utc_now()
    token.next_refresh_at, token.priority, row.assumed_lifetime = asked_for, 1, 900
    lifetimes.replan(resources.settings, row, token)
    assert (token.lifetime, token.next_refresh_at) == (900, asked_for)

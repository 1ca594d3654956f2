"""A token its API turns down costs one refresh and one more try, however the API says so (P9, P5, F27)."""

import itertools
import json
from datetime import timedelta

import pytest
import time_machine
from werkzeug.wrappers import Response

from models import ConnectionState, Outcome, Refresh, Trigger
from models.types import utc_now
from oauth.vocabulary import LifetimeRung
from services.calling import calls, dead_tokens, preview
from services.calling.call_failures import Problem
from services.engine import tokens
from tests.support.together import at_once

DEAD_IN_WORDS = {"error": {"code": "INVALID_TOKEN"}}


@pytest.fixture
def connection(world, provider, stub_address):
    made = world.connection(api_hosts=[stub_address])
    world.consent(made)
    return made


@pytest.fixture
def run(resources, world, connection, stub_address):
    card = world.card(connection=connection, hook_url=f"http://{stub_address}/data", template_content="fine")
    return lambda: preview.run(resources, card.id, world.alice, {})


@pytest.fixture
def api(stub, world, connection):
    """An API that knows the token that is stored now as dead, and answers to such as the test says."""

    def api(status=401, body=None, *, always=False):
        dead = world.access_token(connection)

        def answer(request):
            if always or dead in request.headers["Authorization"]:
                return Response(json.dumps(body or {}), status, content_type="application/json")
            return Response('{"total": 3}', content_type="application/json")

        stub.expect_request("/data").respond_with_handler(answer)

    return api


def rule(world, connection, **columns):
    with world.resources.database.session(writing=True) as session:
        row = session.get(type(connection), connection.id)
        for name, value in columns.items():
            setattr(row, name, value)
        session.commit()


@pytest.mark.parametrize(
    ("columns", "status", "body"),
    [
        ({}, 401, None),
        ({"dead_statuses": [401, 403]}, 403, None),
        ({"dead_statuses": [400]}, 400, {"message": "no"}),
        ({"dead_expression": "error.code == 'INVALID_TOKEN'"}, 200, DEAD_IN_WORDS),
        ({"dead_expression": "error.code == 'INVALID_TOKEN'", "dead_statuses": []}, 500, DEAD_IN_WORDS),
        ({"dead_expression": "errors[?type=='auth']"}, 200, {"errors": [{"type": "auth"}]}),
    ],
)
def test_the_connection_s_rule_says_when_a_token_is_dead(
    world, connection, provider, run, api, stub, columns, status, body
):
    rule(world, connection, **columns)
    api(status, body)
    result = run()
    assert (result.failure, result.status, result.notes) == (None, 200, (calls.RETRIED,))
    assert (provider.hits(), len(stub.log)) == (1, 2)
    assert world.token(connection).generation == 2


@pytest.mark.parametrize(
    ("columns", "status", "body"),
    [
        ({}, 403, None),
        ({}, 200, DEAD_IN_WORDS),
        ({"dead_statuses": []}, 401, None),
        ({"dead_expression": "error.code == 'EXPIRED'"}, 200, DEAD_IN_WORDS),
        ({"dead_expression": "error.code > `3`"}, 200, DEAD_IN_WORDS),
        ({"dead_expression": "no[expression"}, 200, DEAD_IN_WORDS),
    ],
)
def test_what_the_rule_does_not_name_refreshes_nothing(
    world, connection, provider, run, api, stub, columns, status, body
):
    rule(world, connection, **columns)
    api(status, body)
    run()
    assert (provider.hits(), len(stub.log)) == (0, 1)


@pytest.mark.parametrize(
    ("columns", "status", "body", "problem"),
    [
        ({}, 401, None, Problem.UNAUTHORIZED),
        ({"dead_statuses": [403]}, 403, None, Problem.FORBIDDEN),
        ({"dead_expression": "error"}, 200, DEAD_IN_WORDS, Problem.UNAUTHORIZED),
    ],
)
def test_an_api_that_turns_down_every_token_costs_one_refresh_and_no_loop(
    world, connection, provider, run, api, stub, columns, status, body, problem
):
    rule(world, connection, **columns)
    api(status, body, always=True)
    result = run()
    assert (provider.hits(), len(stub.log)) == (1, 2)
    assert (result.failure.failure_class, result.failure.failure_code) == (problem, str(status))
    again = [run() for _ in range(3)]
    assert (provider.hits(), len(stub.log)) == (1, 5)
    assert {(view.failure.failure_class, view.notes) for view in again} == {(problem, (calls.NOT_AGAIN,))}
    with time_machine.travel(utc_now() + timedelta(seconds=31)):
        run()
    assert (provider.hits(), len(stub.log)) == (2, 7)
    assert world.reread(connection).state is ConnectionState.ACTIVE


def test_the_rule_marks_nothing_where_nothing_can_renew_the_token(world, connection, provider, run, api, stub):
    world.authorize(connection, refresh_token=None)
    world.set_token(connection, refresh_token_sealed=None)
    rule(world, connection, dead_expression="error")
    api(200, DEAD_IN_WORDS)
    result = run()
    assert (provider.hits(), len(stub.log)) == (0, 1)
    assert result.failure.failure_class is Problem.UNAUTHORIZED
    assert "the token is not accepted" in result.failure.failure_reason
    assert world.reread(connection).state is ConnectionState.ACTIVE


def test_a_token_that_was_replaced_meanwhile_is_not_refreshed_again(resources, world, connection, provider, run, stub):
    """The API's answer took its time, and the scheduler was quicker: the newer token is used (P5)."""
    dead = world.access_token(connection)

    def answer(request):
        if dead not in request.headers["Authorization"]:
            return Response("{}", content_type="application/json")
        tokens.refresh(resources, connection.id, Trigger.SCHEDULED, spent=1)
        return Response("{}", 401, content_type="application/json")

    stub.expect_request("/data").respond_with_handler(answer)
    result = run()
    stub.check()
    assert (result.failure, result.notes) == (None, (calls.RETRIED_WITH_NEWER,))
    assert provider.hits() == 1
    assert world.token(connection).generation == 2


def test_many_calls_that_are_turned_down_at_once_cost_one_refresh(
    resources, world, connection, provider, api, stub_address
):
    api()
    cards = [world.card(connection=connection, hook_url=f"http://{stub_address}/data") for _ in range(4)]
    results = at_once(4, lambda number: preview.run(resources, cards[number].id, world.alice, {}).failure)
    assert results == [None] * 4
    assert provider.hits() == 1


# --- What the age of a dead token teaches


@pytest.fixture
def silent(world, stub, stub_address):
    """A connection whose provider gives `at-2`, `at-3`, … and never says how long they live."""
    made = world.connection(api_hosts=[stub_address], token_endpoint=stub.url_for("/token"))
    world.authorize(made, None, "rt-1", "at-1")
    numbers = itertools.count(2)

    def give(_request):
        number = next(numbers)
        return Response(f'{{"access_token": "at-{number}", "refresh_token": "rt-{number}"}}')

    stub.expect_request("/token").respond_with_handler(give)
    return made


@pytest.fixture
def dies(resources, world, stub, stub_address):
    """Let the API turn a connection's token down at an age in seconds, and let a card call."""
    dead = []

    def answer(request):
        return Response("{}", 401 if request.headers["Authorization"].endswith(dead[-1]) else 200)

    stub.expect_request("/data").respond_with_handler(answer)

    def dies(connection, seconds):
        dead.append(world.access_token(connection))
        card = world.card(connection=connection, hook_url=f"http://{stub_address}/data")
        with time_machine.travel(world.token(connection).received_at + timedelta(seconds=seconds)):
            result = preview.run(resources, card.id, world.alice, {})
        assert (result.failure, result.notes[0]) == (None, calls.RETRIED)

    return dies


def test_the_shortest_age_at_which_a_token_died_becomes_its_lifetime_where_nobody_says(world, silent, dies):
    token = world.token(silent)
    assert (token.lifetime, token.lifetime_rung) == (3300, LifetimeRung.DEFAULT)
    for age, learned in ((1200, 1200), (900, 900)):
        dies(silent, age)
        token = world.token(silent)
        assert token.learned_lifetime == pytest.approx(learned, abs=2)
        assert (token.lifetime, token.lifetime_rung) == (token.learned_lifetime, LifetimeRung.LEARNED)
    assert 0.64 * 900 < (token.next_refresh_at - token.received_at).total_seconds() < 0.76 * 902


def test_a_token_that_dies_young_teaches_nothing(world, silent, dies):
    dies(silent, 30)
    assert world.token(silent).learned_lifetime is None


def test_where_the_provider_says_how_long_a_token_lives_an_early_death_teaches_nothing(world, silent, dies):
    world.set_token(silent, lifetime_rung=LifetimeRung.REPLY)
    dies(silent, 1200)
    assert world.token(silent).learned_lifetime is None


def test_a_token_refused_while_its_successor_is_on_the_way_teaches_nothing(resources, world, silent):
    """Many providers refuse the old one from the moment they have answered, whatever its age."""
    access = tokens.access(resources, silent.workspace_id, silent.id)
    tokens.refresh(resources, silent.id, Trigger.SCHEDULED)
    dead_tokens.learn(resources, silent, access, utc_now() + timedelta(minutes=20))
    assert world.token(silent).learned_lifetime is None
    assert [row.outcome for row in world.all(Refresh)] == [Outcome.STORED]

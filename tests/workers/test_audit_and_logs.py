"""What processes write down: the records agree with what is stored whoever is killed, and each event is one line.

LG-02, LG-03.
"""

import itertools
import json
import random
import time

import pytest

from models import AuditEntry, ConnectionState, Outcome, Refresh
from oauth.vocabulary import FailureClass, GrantType
from services.engine import tokens
from tests.workers.parts import until
from workers import queue

pytestmark = pytest.mark.timeout(300)

ROUNDS = 6
HOSTILE = 'a\r\nb \u2028 \x1b[31mred \u202e {"event": "forged"}'


@pytest.fixture
def settings(settings_for, database_url, valkey):
    """Short waits: some connections meet a death in every round, and the provider one refusal after another."""
    waits = {"retry_first": 0.2, "retry_longest": 2.0, "breaker_first": 0.5, "breaker_longest": 1.0}
    return settings_for(redis_url=valkey.url, log_level="DEBUG", lease=6.0, **waits)


def refused_and_accepted(provider, number):
    provider.control(behaviours={} if number % 2 else {"token": "status:503"})


def test_records_agree_with_what_is_stored_after_workers_were_killed(world, provider, start, resources):
    """LG-03: killed in the middle of successes and failures; every state has its entry, every token its row."""
    persons = [world.connection() for _ in range(3)]
    machines = [world.connection(grant_type=GrantType.CLIENT_CREDENTIALS) for _ in range(3)]
    connections = [*persons, *machines]
    for person, machine in zip(persons, machines, strict=True):
        world.consent(person)
        world.authorize(machine, refresh_token=None)
    chance = random.Random(7)  # moments to kill at, no secret
    for number in range(ROUNDS):
        refused_and_accepted(provider, number)
        worker = start("worker")
        world.make_due(*connections)
        sent = len(world.all(Refresh))
        until(lambda sent=sent: queue.ring(resources) and len(world.all(Refresh)) > sent)
        time.sleep(chance.uniform(0, 0.15))
        worker.kill()
        agree(world, connections)
    provider.control(behaviours={})
    until(lambda: tokens.drain(resources, 1.0) >= 0 and not any(map(world_leased(world), connections)), every=0.5)
    world.make_due(*connections)
    until(lambda: tokens.drain(resources, 2.0) >= 0 and all_settled(world, connections), every=0.2)
    agree(world, connections)
    outcomes = {row.outcome for row in world.all(Refresh)}
    assert Outcome.STORED in outcomes and Outcome.UNKNOWN in outcomes, "something was killed, something came through"


def world_leased(world):
    return lambda connection: world.token(connection).lease_owner is not None


def all_settled(world, connections):
    return all(world.reread(connection).state is not ConnectionState.EXPIRED_RETRYING for connection in connections)


def agree(world, connections):
    """State and audit trail, tokens and refresh history: whichever commit was the last, they tell the same."""
    for connection in connections:
        history = world.all(Refresh, connection_id=connection.id)
        stored = [row for row in history if row.outcome is Outcome.STORED]
        assert len(stored) == world.token(connection).generation - 1
        assert len({row.generation for row in stored}) == len(stored)
        moves = world.all(AuditEntry, action="connection.state_changed", subject_id=connection.id)
        moves.sort(key=lambda entry: entry.at)
        state = world.reread(connection).state
        assert (moves[-1].detail["to"] if moves else ConnectionState.ACTIVE.shown) == state.shown
        for before, after in itertools.pairwise(moves):
            assert after.detail["from"] == before.detail["to"]


def test_hostile_names_and_words_are_one_log_line_each(world, stub, start):
    """LG-02: of a worker and a scheduler as they run, at DEBUG."""
    refusal = {"error": "invalid_request", "error_description": HOSTILE}
    stub.expect_request("/token").respond_with_json(refusal, status=400)
    connection = world.connection(name=HOSTILE[:90], token_endpoint=stub.url_for("/token"))
    world.authorize(connection)
    worker, scheduler = start("worker"), start("scheduler")
    world.make_due(connection)
    until(lambda: world.reread(connection).failure_class)
    assert world.reread(connection).failure_class is FailureClass.REQUEST_BAD
    assert (worker.end(), scheduler.end()) == (0, 0)
    lines = [line for process in (worker, scheduler) for line in process.log.split("\n") if line]
    assert len(lines) >= 2
    for line in lines:
        assert line.isascii() and line.isprintable(), line
        event = json.loads(line)
        assert event["event"] != "forged"

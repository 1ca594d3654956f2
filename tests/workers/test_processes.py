"""Worker and scheduler as they really run, and as they really die."""

import os
import signal
import time

import pytest

from models import ConnectionState, Heartbeat, Outcome, Refresh
from models.types import utc_now
from oauth.vocabulary import GrantType
from services.audit import COMMAND_LINE
from services.operating import refreshes
from tests.workers.parts import journal, until
from workers import queue

pytestmark = pytest.mark.timeout(300)
"""Half a dozen processes are slow to start on a busy machine."""


@pytest.fixture
def settings(settings_for, database_url, valkey):
    return settings_for(redis_url=valkey.url)


@pytest.fixture
def machine(world):
    """A connection of client credentials with a token."""
    connection = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    world.authorize(connection, refresh_token=None)
    return connection


@pytest.fixture
def person(world):
    """A connection a person consented to."""
    connection = world.connection()
    world.consent(connection)
    return connection


def sent(world) -> bool:
    return journal(world)["sent"] > 0


def generation_of(world, connection) -> int:
    return world.token(connection).generation


def seen(world) -> list[str]:
    return sorted(beat.kind for beat in world.all(Heartbeat))


def test_worker_and_scheduler_are_seen_and_sign_off(world, start):
    worker, scheduler = start("worker"), start("scheduler")
    until(lambda: seen(world) == ["scheduler", "worker"])
    assert (worker.end(), scheduler.end()) == (0, 0)
    assert seen(world) == []


def test_a_killed_workers_refresh_is_taken_up_by_another_when_its_lease_ends(
    world, provider, machine, start, resources
):
    holder, _under_way = one_of_two_workers_at_work(world, provider, machine, start, resources)
    holder.kill()
    killed_at = time.monotonic()
    provider.control(behaviours={})
    until(lambda: queue.ring(resources) and generation_of(world, machine) == 2)
    assert time.monotonic() - killed_at < resources.settings.lease + 3
    assert journal(world) == {"unknown": 1, "stored": 1}


def test_a_refresh_that_wakes_up_after_its_lease_has_ended_changes_nothing(world, provider, machine, start, resources):
    holder, under_way = one_of_two_workers_at_work(world, provider, machine, start, resources)
    os.kill(holder.pid, signal.SIGSTOP)
    provider.control(behaviours={})
    until(lambda: queue.ring(resources) and generation_of(world, machine) == 2)
    kept, closed_at = world.access_token(machine), world.reread(under_way).closed_at
    os.kill(holder.pid, signal.SIGCONT)
    until(lambda: world.reread(under_way).closed_at > closed_at)  # it has come to its end, too late
    assert generation_of(world, machine) == 2
    assert world.reread(machine).state is ConnectionState.ACTIVE
    assert world.access_token(machine) == kept
    assert holder.is_running()


def one_of_two_workers_at_work(world, provider, connection, start, resources):
    """The worker that has sent a request which is not answered yet, another being idle; and its journal row."""
    workers = [start("worker"), start("worker")]
    until(lambda: seen(world) == ["worker", "worker"])
    provider.control(behaviours={"token": "delay:1.5"})
    world.make_due(connection)
    (under_way,) = until(lambda: queue.ring(resources) and world.all(Refresh, outcome=Outcome.SENT))
    pid = int(under_way.lease_owner.split(":")[1])
    return next(worker for worker in workers if worker.pid == pid), under_way


def test_the_scheduler_drains_when_no_worker_answers_its_rings(world, provider, person, start):
    start("scheduler")
    world.make_due(person)
    until(lambda: generation_of(world, person) == 2)
    assert provider.hits() == 1


def test_the_scheduler_drains_while_redis_is_away_and_the_worker_takes_over_when_it_is_back(
    world, provider, person, start, valkey, resources
):
    worker, scheduler = start("worker"), start("scheduler")
    until(lambda: seen(world) == ["scheduler", "worker"])
    valkey.kill()
    world.make_due(person)
    until(lambda: generation_of(world, person) == 2)
    valkey.start()
    assert scheduler.end() == 0
    world.make_due(person)
    assert queue.ring(resources)
    until(lambda: generation_of(world, person) == 3)
    assert worker.is_running()
    assert provider.hits() == 2


def test_redis_dying_in_the_middle_of_a_job_costs_nothing(world, provider, person, start, valkey, resources):
    provider.control(behaviours={"token": "delay:1"})
    worker = start("worker")
    until(lambda: seen(world) == ["worker"])
    world.make_due(person)
    queue.ring(resources)
    until(lambda: sent(world))
    valkey.kill()
    until(lambda: generation_of(world, person) == 2)
    provider.control(behaviours={})
    valkey.start()
    world.make_due(person)
    queue.ring(resources)
    until(lambda: generation_of(world, person) == 3)
    assert worker.is_running()
    assert "Traceback" not in worker.log
    assert journal(world) == {"stored": 2}


def test_sigterm_finishes_what_is_under_way_and_starts_nothing(world, provider, start, resources):
    object.__setattr__(resources, "settings", resources.settings.model_copy(update={"host_concurrency": 2}))
    connections = [world.connection() for _ in range(8)]
    for connection in connections:
        world.consent(connection)
    provider.control(behaviours={"token": "delay:0.7"})
    worker = start("worker")
    until(lambda: seen(world) == ["worker"])
    world.make_due(*connections)
    queue.ring(resources)
    until(lambda: sent(world))
    asked = len(world.all(Refresh))
    assert worker.end() == 0
    assert journal(world) == {"stored": asked}
    assert provider.hits() == asked
    tokens = [world.token(connection) for connection in connections]
    assert all(token.lease_owner is None for token in tokens)
    assert sum(token.next_refresh_at <= utc_now() for token in tokens) == len(connections) - asked


def test_two_schedulers_and_two_workers_double_nothing(world, provider, start):
    connections = [world.connection() for _ in range(30)]
    for connection in connections:
        world.consent(connection)
    for kind in ("worker", "worker", "scheduler", "scheduler"):
        start(kind)
    until(lambda: len(seen(world)) == 4)
    world.make_due(*connections)
    until(lambda: all(generation_of(world, connection) == 2 for connection in connections))
    assert provider.hits() == 30
    assert journal(world) == {"stored": 30}


def test_ten_lifetimes_pass_without_a_moment_without_a_token(world, provider, start, resources):
    provider.control(lifetime=4)
    person, machine = world.connection(), world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    start("worker")
    start("scheduler")
    until(lambda: len(seen(world)) == 2)
    world.consent(person, lifetime=4)
    world.authorize(machine, lifetime=4, refresh_token=None)
    began = time.monotonic()
    while time.monotonic() - began < 40:
        assert world.token(person).is_valid(utc_now())
        assert world.token(machine).is_valid(utc_now())
        time.sleep(0.1)
    for connection, grant in ((person, "refresh_token"), (machine, "client_credentials")):
        refreshed = generation_of(world, connection) - 1
        assert 10 <= refreshed <= 17
        assert provider.hits(grant) in (refreshed, refreshed + 1)
    assert {row.outcome for row in world.all(Refresh)} <= {Outcome.STORED, Outcome.SENT}


def test_redis_emptied_again_and_again_makes_no_refresh_late(world, provider, start, valkey):
    import redis as redis_client

    provider.control(lifetime=6)
    connections = [world.connection() for _ in range(5)]
    start("worker")
    start("scheduler")
    until(lambda: len(seen(world)) == 2)
    for connection in connections:
        world.consent(connection, lifetime=6)
    for turn in range(20):
        if turn % 5 == 4:
            valkey.kill()
            time.sleep(0.2)
            valkey.start()
        else:
            with redis_client.Redis.from_url(valkey.url) as client:
                client.flushall()
        until_then = time.monotonic() + 0.5
        while time.monotonic() < until_then:
            assert all(world.token(connection).is_valid(utc_now()) for connection in connections)
            time.sleep(0.05)
    assert all(generation_of(world, connection) >= 3 for connection in connections)
    assert (
        provider.hits()
        == sum(generation_of(world, connection) - 1 for connection in connections) + journal(world)["sent"]
    )


def test_a_press_of_refresh_now_reaches_the_provider_at_once(world, provider, person, start, resources):
    start("worker")
    until(lambda: seen(world) == ["worker"])
    with resources.database.session(writing=True) as session:
        refreshes.refresh_now(session, resources.settings, [person], None, COMMAND_LINE)
    assert queue.ring(resources)
    until(lambda: generation_of(world, person) == 2, seconds=5)

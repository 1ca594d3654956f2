"""The clock: what it sweeps up, and how it lives through a database that goes away."""

import time
from datetime import timedelta

import pytest
import sqlalchemy as sa

from models import (
    AuthorizationAttempt,
    BulkRefresh,
    CardPreview,
    Heartbeat,
    LinkPurpose,
    Outcome,
    Refresh,
    SingleUseLink,
    Trigger,
    UserSession,
)
from models.types import utc_now
from services.operating import heartbeats
from services.resources import Resources
from tests.support.world import World
from tests.workers.parts import Process, journal, until
from workers.schedule import CHORES, Scheduler


@pytest.fixture
def tick(resources):
    """One tick of a scheduler that has just started."""

    def ticked():
        with Scheduler(resources, lambda: False) as scheduler:
            scheduler.tick()

    return ticked


@pytest.fixture
def keep(resources):
    def kept(*rows):
        with resources.database.session(writing=True) as session:
            session.add_all(rows)
            session.commit()

    return kept


def ago(**time_gone):
    return utc_now() - timedelta(**time_gone)


def attempt(world, connection, expires_at):
    return AuthorizationAttempt(
        workspace_id=world.acme.id,
        connection_id=connection.id,
        user_id=world.alice.id,
        browser_hash="b",
        expires_at=expires_at,
    )


def test_what_has_had_its_day_is_swept_up_and_the_rest_is_kept(world, tick, keep, resources):
    connection, card = world.connection(), world.card()
    link = {"purpose": LinkPurpose.PASSWORD, "user_id": world.ann.id}
    person = {"user_id": world.ann.id}
    preview = {"workspace_id": world.acme.id, "card_id": card.id, "user_id": world.alice.id}
    refresh = {"workspace_id": world.acme.id, "connection_id": connection.id, "trigger": Trigger.SCHEDULED}
    keep(
        attempt(world, connection, ago(days=2)),
        attempt(world, connection, ago(hours=1)),
        SingleUseLink(token_hash="1", expires_at=ago(days=2), **link),
        SingleUseLink(token_hash="2", expires_at=utc_now(), used_at=ago(days=2), **link),
        SingleUseLink(token_hash="3", expires_at=utc_now(), **link),
        UserSession(token_hash="1", revoked_at=utc_now(), **person),
        UserSession(token_hash="2", seen_at=ago(seconds=resources.settings.session_idle + 1), **person),
        UserSession(token_hash="3", created_at=ago(seconds=resources.settings.session_longest + 1), **person),
        UserSession(token_hash="4", **person),
        CardPreview(created_at=ago(minutes=11), **preview),
        CardPreview(created_at=ago(minutes=9), **preview),
        BulkRefresh(workspace_id=world.acme.id, created_at=ago(days=8)),
        BulkRefresh(workspace_id=world.acme.id, created_at=ago(days=6)),
        Heartbeat(process="dead", kind="worker", seen_at=ago(days=2)),
        Heartbeat(process="silent", kind="worker", seen_at=ago(hours=1)),
        *(
            Refresh(sent_at=ago(minutes=n), closed_at=ago(minutes=n), outcome=Outcome.STORED, **refresh)
            for n in range(resources.settings.journal_keep + 5)
        ),
    )
    tick()
    left = {
        table.__name__: len(world.all(table))
        for table in (AuthorizationAttempt, SingleUseLink, CardPreview, BulkRefresh, Heartbeat, Refresh)
    }
    assert left == {
        "AuthorizationAttempt": 1,
        "SingleUseLink": 1,
        "CardPreview": 1,
        "BulkRefresh": 1,
        "Heartbeat": 1,
        "Refresh": resources.settings.journal_keep,
    }
    assert [row.token_hash for row in world.all(UserSession)] == ["4"]


def test_chores_are_done_at_their_intervals_and_not_every_tick(resources, world, keep):
    preview = {"workspace_id": world.acme.id, "card_id": world.card().id, "user_id": world.alice.id}
    with Scheduler(resources, lambda: False) as scheduler:
        scheduler.tick()
        keep(CardPreview(created_at=ago(hours=1), **preview))
        scheduler.tick()
    assert len(world.all(CardPreview)) == 1
    assert len({chore.name for chore in CHORES}) == len(CHORES)


def test_only_processes_heard_of_lately_count_as_alive(resources, world, keep):
    keep(Heartbeat(process="worker:old:1", kind="worker", seen_at=ago(seconds=31)))
    with resources.database.session(writing=True) as session:
        heartbeats.beat(session, "worker:new:1", "worker")
        heartbeats.beat(session, "worker:new:1", "worker")
        assert [beat.process for beat in heartbeats.alive(session)] == ["worker:new:1"]
        heartbeats.end(session, "worker:new:1")
        assert list(heartbeats.alive(session)) == []


def test_nothing_due_means_no_ring_and_no_request(world, provider, tick, redis):
    world.consent(world.connection())
    tick()
    assert provider.hits() == 0
    assert not list(redis.scan_iter("rq:queue:*"))


@pytest.fixture
def server(databases):
    """A PostgreSQL database that can refuse everybody."""
    maker = databases["postgresql"]
    url = maker.create()
    name = sa.make_url(url).database

    def allow(connections: bool) -> None:
        maker._execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS {str(connections).lower()}")
        if not connections:
            maker._execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    yield url, allow
    allow(True)
    maker.drop(url)


@pytest.mark.timeout(300)
def test_a_database_that_goes_away_costs_no_grant_and_is_found_again(server, settings_for, provider, valkey, tmp_path):
    url, allow = server
    settings = settings_for(database_url=url, redis_url=valkey.url)
    resources = Resources.open(settings)
    world = World(resources, provider)
    before, during = world.connection(), world.connection()
    world.consent(before)
    world.consent(during)
    processes = [Process(kind, settings, tmp_path) for kind in ("worker", "scheduler")]
    try:
        until(lambda: len(world.all(Heartbeat)) == 2)
        provider.control(behaviours={"token": "delay:1"})
        world.make_due(before)
        until(lambda: journal(world)["sent"])
        allow(False)  # the request is under way; its reply finds no database
        resources.database.close()
        time.sleep(2)
        assert provider.hits() == 1
        allow(True)
        until(lambda: world.token(before).generation == 2)
        provider.control(behaviours={})
        world.make_due(during)
        until(lambda: world.token(during).generation == 2)
        assert provider.hits() == 2
        assert all(process.is_running() for process in processes)
    finally:
        for process in processes:
            process.kill()
            print(process.log)  # noqa: T201  # shown when the test fails
        resources.close()

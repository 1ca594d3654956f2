"""What is kept of refreshes one by one, what as a count, and that nothing is counted twice."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from sqlmodel import col, update

from models import Outcome, Refresh, RefreshCount, Trigger
from models.types import utc_now
from services.audit import Actor
from services.engine import leases
from services.operating import housekeeping, journal
from services.operating.journal import Sweeper, Tally
from services.setup import connections
from tests.support.together import at_once

NOON = datetime(2026, 3, 5, 12, tzinfo=UTC)


@pytest.fixture
def sent(resources):
    """Journal rows of a connection, all at once: (number, outcome, how long ago)."""

    def wrote(connection, *rows):
        with resources.database.session(writing=True) as session:
            for number, outcome, ago in rows:
                moment = utc_now() - ago
                session.add(
                    Refresh(
                        workspace_id=connection.workspace_id,
                        connection_id=connection.id,
                        trigger=Trigger.SCHEDULED,
                        generation=number,
                        outcome=outcome,
                        sent_at=moment,
                        closed_at=None if outcome is Outcome.SENT else moment,
                    )
                )
            session.commit()

    return wrote


@pytest.fixture
def sweep(resources):
    """A round of a scheduler that has just started."""

    def swept():
        with resources.database.session(writing=True) as session:
            return Sweeper(seconds=20).sweep(session, resources.settings)

    return swept


@pytest.fixture
def tally(resources):
    def told(connection):
        with resources.database.session() as session:
            return journal.tally(session, connection)

    return told


def stored(count, **ago):
    """So many successes, a second apart, the last one so long ago."""
    return [(number, Outcome.STORED, timedelta(seconds=count - number) + timedelta(**ago)) for number in range(count)]


@pytest.mark.settings(journal_keep=3, journal_failures_days=30)
def test_the_journal_keeps_the_last_rows_of_each_connection_and_recent_failures(world, sent, sweep):
    busy, quiet = world.connection(), world.connection()
    sent(busy, *stored(10))
    sent(quiet, (1, Outcome.STORED, timedelta(days=400)))
    sent(busy, (100, Outcome.FAILED, timedelta(days=29)), (101, Outcome.UNKNOWN, timedelta(days=29)))
    sent(busy, (102, Outcome.FAILED, timedelta(days=31)), (103, Outcome.SENT, timedelta(days=31)))
    assert sweep() == 8
    kept = {(row.connection_id, row.generation) for row in world.all(Refresh)}
    assert kept == {(busy.id, number) for number in (7, 8, 9, 100, 101, 103)} | {(quiet.id, 1)}
    assert sweep() == 0


@pytest.mark.settings(journal_keep=2, journal_failures_days=1)
def test_what_leaves_the_journal_is_counted_by_day_and_the_sum_stays_the_same(world, sent, sweep, tally):
    with time_machine.travel(NOON, tick=False):
        connection, another = world.connection(), world.connection()
        sent(connection, *stored(5), *stored(4, days=1), *stored(3, days=29), *stored(7, days=30))
        sent(connection, (9, Outcome.FAILED, timedelta(days=2)), (9, Outcome.SUPERSEDED, timedelta(days=2)))
        sent(connection, (9, Outcome.FAILED, timedelta(hours=1)), (9, Outcome.SENT, timedelta()))
        sent(another, *stored(1))
        before = tally(connection)
        assert before == Tally(today=6, today_failed=1, month=15, month_failed=3)
        assert sweep() == 19
        assert tally(connection) == before
        assert tally(another) == Tally(1, 0, 1, 0)
        days = {(row.day.isoformat(), row.stored, row.failed) for row in world.all(RefreshCount)}
        assert days == {("2026-03-05", 3, 0), ("2026-03-04", 4, 0), ("2026-03-03", 0, 2)} | {
            ("2026-02-04", 3, 0),
            ("2026-02-03", 7, 0),
        }
        sent(connection, *stored(6, days=1))
        assert sweep() == 6
        assert tally(connection).month == before.month + 6
        assert len(world.all(RefreshCount)) == 5


@pytest.mark.settings(journal_keep=1)
def test_two_schedulers_at_once_count_each_row_once(world, sent, tally, resources, monkeypatch):
    monkeypatch.setattr(journal, "ROWS", 5)
    connections = [world.connection() for _ in range(3)]
    for connection in connections:
        sent(connection, *stored(12))

    def sweep(_number):
        with resources.database.session(writing=True) as session:
            return Sweeper(seconds=20).sweep(session, resources.settings)

    assert sum(at_once(3, sweep)) + sweep(0) == 33
    assert [tally(connection).month for connection in connections] == [12, 12, 12]
    assert sum(row.stored for row in world.all(RefreshCount)) == 33


@pytest.mark.settings(journal_keep=1)
def test_a_sweep_goes_round_in_parts_and_then_rests(world, sent, resources, monkeypatch):
    monkeypatch.setattr(journal, "PART", 2)
    for _ in range(7):
        sent(world.connection(), *stored(3))
    sweeper = Sweeper(seconds=0, rest=600)
    with resources.database.session(writing=True) as session:
        went = [sweeper.sweep(session, resources.settings) for _ in range(6)]
    assert sum(went) == 14
    assert max(went) == 4
    sent(world.connection(), *stored(3))
    with resources.database.session(writing=True) as session:
        assert sweeper.sweep(session, resources.settings) == 0
        assert Sweeper(seconds=20, rest=600).sweep(session, resources.settings) == 2


@pytest.mark.settings(journal_keep=1, journal_counts_days=30)
def test_counts_older_than_they_are_kept_go_too(world, sent, sweep):
    connection = world.connection()
    sent(connection, *stored(3, days=40))
    assert sweep() == 2
    sent(connection, *stored(2))
    assert sweep() == 2
    assert [row.stored for row in world.all(RefreshCount)] == [1]


def test_the_page_of_a_connection_says_how_often_it_was_refreshed(world, app, sent):
    connection = world.connection()
    oscar = world.client(world.oscar)
    assert "Refreshes:" not in oscar.get(f"/connections/{connection.id}").text
    sent(connection, (1, Outcome.STORED, timedelta()), (2, Outcome.FAILED, timedelta()), *stored(1000, days=3))
    for address in (f"/connections/{connection.id}", f"/operations/history/{connection.id}"):
        assert "Refreshes: 2 today (UTC), 1 failed; 1,002 in 30 days, 1 failed." in oscar.get(address).text


def test_a_request_whose_process_died_after_a_disconnect_does_not_stay_open_for_ever(world, resources):
    """Nobody claims a token that is gone; one that is still leased is closed by whoever claims it."""
    gone, leased, lately = (world.connection() for _ in range(3))
    for connection in (gone, leased, lately):
        world.authorize(connection)
        with resources.database.session(writing=True) as session:
            leases.claim_one(session, resources.settings, connection.id, Trigger.SCHEDULED, None, None)
    for connection in (gone, lately):
        connections.disconnect(resources, Actor.person(world.alice), connection.id)
    with resources.database.session(writing=True) as session:
        old = update(Refresh).where(col(Refresh.connection_id) != lately.id)
        session.execute(old.values(sent_at=utc_now() - timedelta(hours=1)))
        session.commit()
        found = [housekeeping.unanswered(session, resources.settings) for _ in range(2)]
    assert found == [1, 0]
    outcomes = {row.connection_id: row.outcome for row in world.all(Refresh)}
    assert outcomes == {gone.id: Outcome.UNKNOWN, leased.id: Outcome.SENT, lately.id: Outcome.SENT}
    (row,) = world.all(Refresh, connection_id=gone.id)
    assert row.closed_at is not None
    assert "stopped after the request was sent" in row.failure_reason

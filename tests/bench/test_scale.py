"""The simulation at full size says something only if it keeps its own books."""

from dataclasses import replace

import numpy as np
import pytest

from bench.scale import LIFETIME, Plan, World, main, percentile, simulate, table

SMALL = Plan(
    connections=200_000,
    databases=4,
    hosts=20,
    seconds=1200,
    workers=1,
    per_worker=60.0,
    headroom=3.0,
    outage_at=300,
    outage_seconds=120,
    failover_at=900,
    failover_seconds=30,
)


@pytest.fixture(scope="module")
def result():
    return simulate(SMALL)


def test_no_connection_is_lost_and_none_is_refreshed_twice(result):
    assert result.lost == 0
    assert result.refreshed == result.late.sum()
    assert result.refreshed == pytest.approx(SMALL.rate * SMALL.seconds, rel=0.05)


def test_while_all_is_well_tokens_are_refreshed_in_the_tick_they_are_due(result):
    assert percentile(result.quiet, 0.99) <= 1


def test_outages_make_tokens_late_and_are_made_up_for(result):
    assert SMALL.outage_seconds * 0.5 < np.flatnonzero(result.late)[-1] < 300
    assert result.host_recovered > 0
    assert result.database_recovered > 0
    assert result.expired == 0


def test_a_host_that_is_down_hears_probes_only(result):
    probes = result.requests - result.refreshed
    assert 0 < probes <= SMALL.databases * 10


def test_too_few_workers_show(capsys):
    starved = simulate(replace(SMALL, per_worker=10.0, seconds=400))
    assert percentile(starved.late, 0.99) > 60
    assert starved.lost == 0


def test_the_same_seed_gives_the_same_figures(result):
    again = simulate(SMALL)
    assert table(SMALL, again) == table(SMALL, result)


def test_plans_begin_as_dense_as_they_stay():
    world = World(SMALL)
    assert world.calendar.sum(dtype=np.int64) == SMALL.connections
    first = world.calendar[:600].sum(dtype=np.int64) / 600
    assert first == pytest.approx(SMALL.rate, rel=0.05)
    assert world.calendar[int(LIFETIME * 0.75) :].sum() == 0


def test_the_command_prints_the_table(capsys):
    assert main(["--connections", "50000", "--databases", "2", "--seconds", "30"]) == 0
    assert "refreshes a second, steady" in capsys.readouterr().out

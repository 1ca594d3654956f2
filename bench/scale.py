"""`python -m bench.scale`: 100 million connections on paper, every refresh of three hours played in a simulation.

Databases that share nothing each hold some of the workspaces, and their own share of what may be in flight at a
provider. Every tick each database claims what is due, oldest first, as far as hosts and workers have room, and each
token that is refreshed gets its next due time with its own jitter. One big provider is away for ten minutes, then one
database for two. Nothing is sampled or averaged: a million connections that could fail in a second are a million.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]

TICK = 1.0
LIFETIME = 3600.0
DUE, JITTER = 0.75, 0.10
"""As `due_fraction` and `due_jitter`: refreshed after 65 to 75 % of the lifetime."""
BREAKER_FIRST, BREAKER_LONGEST = 30, 300
"""Seconds, as the settings of that name."""
BREAKER_AFTER = 5
"""Requests that find a host down before nothing more is sent there."""
RELEASE_SECONDS = 120
"""Over which a host that answers again gets what waited for it."""
OVERHEAD = 0.02
"""Seconds from a reply to its durable commit."""


@dataclass(frozen=True)
class Plan:
    """What is simulated; rates are those of `python -m bench` on one machine."""

    connections: int = 100_000_000
    databases: int = 32
    hosts: int = 400
    seconds: int = 3 * 3600
    seed: int = 20261125
    latency: float = 0.1
    per_worker: float = 1000.0
    """Refreshes a second of one worker process."""
    workers: int = 3
    """For each database."""
    claims: float = 4000.0
    """Refreshes a second that one database can lease, its claimers one after the other."""
    headroom: float = 2.0
    """How much more may be in flight at a host than its steady rate needs."""
    default_concurrency: int = 16
    outage_at: int = 3600
    outage_seconds: int = 600
    failover_at: int = 7200
    failover_seconds: int = 120

    @property
    def cycle(self) -> float:
        """Seconds between two refreshes of a token, on average."""
        return LIFETIME * (DUE - JITTER / 2)

    @property
    def rate(self) -> float:
        """Refreshes a second of everything."""
        return self.connections / self.cycle


@dataclass
class Result:
    """What came of it."""

    refreshed: int = 0
    requests: int = 0
    """Probes of a host that is down included."""
    late: Counts = field(default_factory=lambda: np.zeros(7200, dtype=np.int64))
    """How many refreshes were sent so many whole seconds after they were due."""
    quiet: Counts = field(default_factory=lambda: np.zeros(7200, dtype=np.int64))
    """The same while nothing was wrong."""
    expired: int = 0
    """Tokens that ran out before they were refreshed."""
    lost: int = 0
    """Connections that are neither planned nor waiting at the end."""
    most_waiting: int = 0
    host_recovered: int | None = None
    """Seconds after the host's return until nothing of its was late any more."""
    database_recovered: int | None = None
    busiest: float = 0.0
    """Greatest share of a database's workers in use, in a quiet minute."""
    most_in_flight: float = 0.0
    """At the biggest host, all databases together."""
    seconds: float = 0.0
    megabytes: float = 0.0


def percentile(late: Counts, share: float) -> int:
    """The whole seconds of lateness that so large a share did not exceed."""
    return int(np.searchsorted(np.cumsum(late), share * late.sum()))


class World:
    """All databases; a cell is one provider host in one database, and cells lie database by database."""

    def __init__(self, plan: Plan) -> None:
        """Connections spread as providers are used (Zipf) and workspaces fall; due times as after long running."""
        self.plan = plan
        self.random = np.random.default_rng(plan.seed)
        popularity = 1.0 / np.arange(1, plan.hosts + 1)
        shares = np.tile(popularity, plan.databases) * self.random.uniform(0.8, 1.2, plan.databases * plan.hosts)
        self.held = self.random.multinomial(plan.connections, shares / shares.sum())
        self.database = np.repeat(np.arange(plan.databases), plan.hosts)
        self.host = np.tile(np.arange(plan.hosts), plan.databases)
        self.cells = len(self.held)
        self.span = int(LIFETIME * DUE) + 1800
        """Ticks of the calendar: the longest plan, and the longest anything may wait."""
        self.calendar = np.zeros((self.span, self.cells), dtype=np.uint16)
        self.head = np.zeros(self.cells, dtype=np.int64)
        """The oldest tick of which something still waits, for each cell."""
        self.waiting = np.zeros(self.cells, dtype=np.int64)
        self.carried = np.zeros(self.cells)
        self.limit = self._limits()
        self.open_until = np.zeros(self.cells, dtype=np.int64)
        self.wait = np.full(self.cells, BREAKER_FIRST, dtype=np.int64)
        self.closed_by_breaker = np.zeros(self.cells, dtype=bool)
        self.released_at = np.full(self.cells, -RELEASE_SECONDS, dtype=np.int64)
        self._spread()

    def _limits(self) -> npt.NDArray[np.float64]:
        """Of each host's places the share of each database, by the connections it holds, at least one."""
        plan = self.plan
        rates = np.bincount(self.host, self.held, plan.hosts) / plan.cycle
        needed = np.ceil(plan.headroom * rates * (plan.latency + OVERHEAD))
        whole = np.maximum(plan.default_concurrency, needed)
        of_host = self.held / np.bincount(self.host, self.held, plan.hosts)[self.host]
        return np.maximum(1.0, whole[self.host] * of_host)

    def _spread(self) -> None:
        """Every connection gets a first due time, as dense as it is in the long run."""
        earliest, latest = int(LIFETIME * (DUE - JITTER)), int(LIFETIME * DUE)
        density = np.ones(latest)
        density[earliest:] = np.linspace(1.0, 0.0, latest - earliest)
        density /= density.sum()
        for cell in range(self.cells):
            self.calendar[:latest, cell] = self.random.multinomial(self.held[cell], density)

    def plan_next(self, cells: Counts, served: Counts, tick: int) -> None:
        """Each token that was refreshed is due again after its own share of its lifetime."""
        total = int(served.sum())
        spread = self.random.integers(int(LIFETIME * (DUE - JITTER)), int(LIFETIME * DUE), total)
        rows = (tick + spread) % self.span
        flat = rows * self.cells + np.repeat(cells, served)
        np.add.at(self.calendar.reshape(-1), flat, np.uint16(1))

    def take(self, wanted: Counts, tick: int, note: Counts) -> int:
        """Serve so many of each cell, oldest first; how many of them had run out."""
        expired, left = 0, wanted.copy()
        cells = np.flatnonzero(left)
        while len(cells):
            rows = self.head[cells] % self.span
            there = self.calendar[rows, cells].astype(np.int64)
            now = np.minimum(there, left[cells])
            self.calendar[rows, cells] -= now.astype(np.uint16)
            late = tick - self.head[cells]
            np.add.at(note, late, now)
            expired += int(now[late > LIFETIME * (1 - DUE)].sum())
            left[cells] -= now
            emptied = (now == there) & (self.head[cells] < tick)
            self.head[cells[emptied]] += 1
            cells = cells[(left[cells] > 0) & emptied]
        self.waiting -= wanted - left
        return expired

    def room(self, tick: int, down: npt.NDArray[np.bool_], away: npt.NDArray[np.bool_]) -> Counts:
        """How many requests each cell may make in this tick."""
        plan = self.plan
        rate = self.limit / (plan.latency + OVERHEAD)
        ramp = np.clip((tick - self.released_at) / RELEASE_SECONDS, 0.2, 1.0)
        self.carried = np.minimum(self.carried + rate * ramp * TICK, rate + 1)
        allowed = np.minimum(self.waiting, self.carried.astype(np.int64))
        allowed[down | away[self.database] | (self.open_until > tick)] = 0
        capacity = min(plan.workers * plan.per_worker, plan.claims) * TICK
        asked = np.bincount(self.database, allowed, plan.databases)
        fitting = np.minimum(1.0, capacity / np.maximum(asked, 1))
        given = np.floor(allowed * fitting[self.database] + self.random.random(self.cells)).astype(np.int64)
        given = np.minimum(given, allowed)
        self.carried -= given
        return given

    def probe(self, tick: int, down: npt.NDArray[np.bool_]) -> int:
        """Requests that find a host down: a few until the breaker opens, then one each time it half opens."""
        trying = down & (self.open_until <= tick) & (self.waiting > 0)
        sent = int(np.where(self.closed_by_breaker, 1, np.minimum(self.waiting, BREAKER_AFTER))[trying].sum())
        self.open_until[trying] = tick + self.wait[trying]
        self.wait[trying] = np.minimum(self.wait[trying] * 2, BREAKER_LONGEST)
        self.closed_by_breaker |= trying
        answered = self.closed_by_breaker & ~down & (self.open_until <= tick)
        self.released_at[answered] = tick
        self.closed_by_breaker[answered] = False
        self.wait[answered] = BREAKER_FIRST
        return sent


def simulate(plan: Plan) -> Result:
    """Play it."""
    began, world, result = time.monotonic(), World(plan), Result()
    minute: list[float] = []
    for tick in range(plan.seconds):
        world.waiting += world.calendar[tick % world.span]
        idle = (world.waiting == 0) & (world.head < tick)
        world.head[idle] = tick
        outage = plan.outage_at <= tick < plan.outage_at + plan.outage_seconds
        failover = plan.failover_at <= tick < plan.failover_at + plan.failover_seconds
        down = (world.host == 0) & outage
        away = (np.arange(plan.databases) == 0) & failover
        result.requests += world.probe(tick, down)
        given = world.room(tick, down, away)
        late: Counts = np.zeros(7200, dtype=np.int64)
        result.expired += world.take(given, tick, late)
        cells = np.flatnonzero(given)
        world.plan_next(cells, given[cells], tick)
        result.refreshed += int(given.sum())
        _note(result, plan, world, tick, late, given, minute)
    still = int(world.calendar.sum(dtype=np.int64))
    result.lost = int(world.held.sum()) - still
    result.requests += result.refreshed
    result.seconds = time.monotonic() - began
    result.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def _note(
    result: Result, plan: Plan, world: World, tick: int, late: Counts, given: Counts, minute: list[float]
) -> None:
    result.late += late
    result.most_waiting = max(result.most_waiting, int(world.waiting.sum()))
    biggest = float(given[world.host == 0].sum()) * (plan.latency + OVERHEAD)
    result.most_in_flight = max(result.most_in_flight, biggest)
    if tick < plan.outage_at:
        result.quiet += late
        used = np.bincount(world.database, given, plan.databases) / (plan.workers * plan.per_worker)
        minute.append(float(used.max()))
        del minute[:-60]
        result.busiest = max(result.busiest, sum(minute) / 60)
    back = plan.outage_at + plan.outage_seconds
    on_time = world.head >= tick - 2
    if tick >= back and result.host_recovered is None and bool(on_time[world.host == 0].all()):
        result.host_recovered = tick - back
    back = plan.failover_at + plan.failover_seconds
    if tick >= back and result.database_recovered is None and bool(on_time[world.database == 0].all()):
        result.database_recovered = tick - back


def table(plan: Plan, result: Result) -> list[tuple[str, str]]:
    """The result in words and numbers."""
    p50, p99 = (percentile(result.quiet, share) for share in (0.5, 0.99))
    return [
        ("connections", f"{plan.connections:,}"),
        ("databases, worker processes for each", f"{plan.databases}, {plan.workers}"),
        ("refreshes a second, steady", f"{plan.rate:,.0f}, {plan.rate / plan.databases:,.0f} in each database"),
        ("refreshed in the run", f"{result.refreshed:,}"),
        ("requests besides, at the host that was down", f"{result.requests - result.refreshed:,}"),
        ("late while all is well, p50 / p99 (ticks of 1 s)", f"{p50} / {p99}"),
        (
            "late in the whole run, p99 / most",
            f"{percentile(result.late, 0.99)} / {int(np.flatnonzero(result.late)[-1])} s",
        ),
        ("workers in use, busiest database and minute", f"{result.busiest:.0%}"),
        ("most in flight at the biggest host", f"{result.most_in_flight:,.0f}"),
        ("most waiting at once", f"{result.most_waiting:,}"),
        (f"biggest host away {plan.outage_seconds} s: on time again after", f"{result.host_recovered} s"),
        (f"one database away {plan.failover_seconds} s: on time again after", f"{result.database_recovered} s"),
        ("access tokens that ran out meanwhile", f"{result.expired:,}"),
        ("connections lost by the plan", f"{result.lost:,}"),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--connections", type=int, default=Plan.connections)
    parser.add_argument("--databases", type=int, default=Plan.databases)
    parser.add_argument("--workers", type=int, default=Plan.workers)
    parser.add_argument("--seconds", type=int, default=Plan.seconds)
    parser.add_argument("--headroom", type=float, default=Plan.headroom)
    given = parser.parse_args(arguments)
    plan = Plan(**vars(given))
    result = simulate(plan)
    for words, value in table(plan, result):
        print(f"{words:<52} {value:>30}")
    print(f"# {result.seconds:.0f} s on one core, {result.megabytes:,.0f} MB, seed {plan.seed}", file=sys.stderr)
    return 1 if result.lost or result.expired else 0


if __name__ == "__main__":
    sys.exit(main())

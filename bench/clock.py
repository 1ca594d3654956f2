"""The engine against the clock: a million connections, tokens falling due at a steady rate, and how late it is."""

from __future__ import annotations

import statistics
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy import select
from sqlmodel import col

from bench import usage
from bench.arena import Arena, Verdict, arena
from bench.crowd import PIECE, identifier
from bench.figures import Figure, Goal, Part, Wanted, percentile
from bench.installation import PostgreSQL, Process
from bench.pages import Visitor
from models import Outcome, Refresh, Token

ROWS, QUICK_ROWS = 1_000_000, 60_000
STRIDE = 611_953
"""Prime: walks through all rows once in an order that has nothing to do with where they lie."""
LATENCY = 0.1
WARM_UP, QUICK_SECONDS = 40.0, 40.0
SAMPLE_SECONDS = 2.0
PAGE_SECONDS = 20.0
VACUUMING = 120e-6
"""Seconds for each row that moving the first ones and vacuuming are given."""
START_SECONDS = 20.0
FLAT = Goal(0.9, 1.1)
SETTINGS = {"host_concurrency": "600", "strict_concurrency": "600"}


@dataclass(frozen=True)
class Pace:
    """One run: how many tokens fall due in a second, and who works."""

    name: str
    kind: str
    rate: float
    words: str
    lateness: float
    """Goal for the 99th percentile, seconds."""
    workers: int = 1
    cores: float | None = None
    with_page: bool = False


PACES = (
    Pace("clock-million-postgresql", "postgresql", 1e6 / 3600, "a million one-hour tokens", 2, 1, 0.3, with_page=True),
    Pace("clock-five-million-postgresql", "postgresql", 5e6 / 3600, "five million one-hour tokens", 2, 2),
    Pace("clock-million-sqlite", "sqlite", 1e6 / 3600, "a million one-hour tokens", 5),
)


def parts() -> Iterator[Part]:
    """All measurements of this module."""
    for pace in PACES:
        names = [pace.name, f"{pace.name}-memory", f"{pace.name}-cores", *(["page"] if pace.with_page else [])]
        yield Part(tuple(names), partial(_run, pace), long=True)


@dataclass
class Watch:
    """What was seen of the processes while the clock ran."""

    memory: dict[str, list[int]] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)

    def change(self, name: str) -> float:
        """How a process' memory changed: median of the last quarter ÷ of the first."""
        seen = self.memory[name]
        quarter = max(1, len(seen) // 4)
        return statistics.median(seen[-quarter:]) / statistics.median(seen[:quarter])

    @property
    def least_flat(self) -> float:
        """The change that is farthest from none among our processes."""
        return max((self.change(name) for name in self.memory if name != "database"), key=lambda one: abs(one - 1))


@dataclass(frozen=True)
class Plan:
    """When each token falls due: at a steady rate, in an order that has nothing to do with where it lies."""

    rows: int
    rate: float
    origin: float
    start: float
    """What would have been due before comes at the end instead."""

    def due(self, number: int) -> float:
        """Seconds of the clock."""
        moment = self.origin + (number * STRIDE % self.rows) / self.rate
        return moment if moment >= self.start else moment + self.rows / self.rate


def _fill(place: Arena, pace: Pace, rows: int) -> Plan:
    """Write the rows, however long it takes; what has fallen due by then is moved to the end."""
    early = Plan(rows, pace.rate, time.time(), 0.0)
    place.settle(rows, due=lambda number: datetime.fromtimestamp(early.due(number), UTC))
    pause = START_SECONDS + (PAGE_SECONDS + 20 if pace.with_page else 0) + rows * VACUUMING
    plan = replace(early, start=time.time() + pause)
    cycle = timedelta(seconds=rows / pace.rate)
    numbers = [number for number in range(rows) if early.due(number) < plan.start]
    for begin in range(0, len(numbers), PIECE):
        moved = {identifier("t", number): early.due(number) for number in numbers[begin : begin + PIECE]}
        rows_moved = [
            {"token": token_id, "due": datetime.fromtimestamp(due, UTC) + cycle} for token_id, due in moved.items()
        ]
        statement = sa.update(Token).where(col(Token.id) == sa.bindparam("token"))
        with place.installation.resources.database.engine.begin() as connection:
            connection.execute(statement.values(next_refresh_at=sa.bindparam("due")), rows_moved)
    if pace.kind == "postgresql":
        place.execute_aside("VACUUM ANALYZE")
    return plan


def _run(pace: Pace, wanted: Wanted) -> Iterator[Figure]:
    rows, seconds = (QUICK_ROWS, QUICK_SECONDS) if wanted.quick else (ROWS, wanted.seconds)
    idle, busy = [0.0], [0.0]
    with ExitStack() as stack:
        place = stack.enter_context(arena(pace.kind, settings=SETTINGS, started=False))
        place.endpoint.ask("behave", latency=LATENCY)
        plan = _fill(place, pace, rows)
        place.start()
        workers = [place.worker, *(place.installation.add_worker() for _ in range(1, pace.workers))]
        if pace.with_page:
            place.installation.add_portal(1)
            visitor = stack.enter_context(closing(Visitor(place.installation, place.crowds[0].workspace_id)))
            page = f"/connections/{identifier('c', 0)}/status"
            visitor.times(page, 2.0)
            idle = visitor.times(page, PAGE_SECONDS)
        late_start = max(0.0, time.time() - plan.start)
        begin = max(plan.start, time.time()) + WARM_UP
        time.sleep(begin - time.time())
        seen = _watch(place, workers, seconds)
        if pace.with_page:
            busy = visitor.times(page, PAGE_SECONDS)
        numbers = [number for number in range(rows) if begin <= plan.due(number) < begin + seconds - 10]
        verdict = _stop_and_judge(place, workers)
        arrived = place.endpoint.uses().arrived
        sent = [arrived[number] - plan.due(number) if arrived[number] else float("inf") for number in numbers]
        stored = _stored(place, numbers, plan.due)
    setup = (
        f"{pace.words}: {pace.rate:,.0f} due a second among {rows:,} rows on {pace.kind}, "
        f"{LATENCY * 1000:g} ms provider, {seconds:g} s, {pace.workers} worker(s), 1 scheduler, 1 s ticks"
    )
    yield from _figures(pace, setup, sent, stored, seen, verdict, late_start)
    if pace.with_page:
        yield _page(idle, busy, setup)


def _figures(
    pace: Pace,
    setup: str,
    sent: Sequence[float],
    stored: Sequence[float],
    seen: Watch,
    verdict: Verdict,
    late_start: float,
) -> Iterator[Figure]:
    notes = {
        "arrived_p50": percentile(sent, 0.5),
        "arrived_p99": percentile(sent, 0.99),
        "stored_p50": percentile(stored, 0.5),
        "stored_max": max(stored),
        "refreshed_in_window": len(sent),
        "lost": verdict.lost,
        "doubled": verdict.doubled,
        "left_leased": verdict.leased,
        "late_start": late_start,
    }
    notes = {name: round(value, 3) for name, value in notes.items()}
    goal = Goal(at_most=pace.lateness)
    yield Figure(pace.name, percentile(stored, 0.99), "s late, p99", setup, goal, notes=notes)
    changes = {name: round(seen.change(name), 3) for name in seen.memory}
    sizes = {name: round(sizes[-1] / 1e6) for name, sizes in seen.memory.items()}
    memory_notes = {"change": changes, "megabytes_at_the_end": sizes}
    yield Figure(f"{pace.name}-memory", seen.least_flat, "times the start", setup, FLAT, notes=memory_notes)
    cores = sum(share for name, share in seen.cores.items() if name != "endpoint")
    shares = {name: round(share, 3) for name, share in seen.cores.items()}
    yield Figure(f"{pace.name}-cores", cores, "cores", setup, Goal(at_most=pace.cores), notes=shares)
    verdict.demand()


def _page(idle: Sequence[float], busy: Sequence[float], setup: str) -> Figure:
    words = "a connection's standing (signed in, one read) while " + setup
    ours, theirs = statistics.median(busy), statistics.median(idle)
    notes = {"p99": round(percentile(busy, 0.99), 2), "idle_p99": round(percentile(idle, 0.99), 2)}
    return Figure(
        "page",
        ours,
        "ms, p50",
        words,
        reference="the same while nothing is due",
        reference_value=theirs,
        ratio=ours / theirs,
        notes=notes,
    )


def _watch(place: Arena, workers: Sequence[Process], seconds: float) -> Watch:
    """Look at all processes every now and then, for so long."""
    families = {f"worker {number}": worker.pid for number, worker in enumerate(workers, 1)}
    families |= {"scheduler": place.scheduler.pid, "redis": place.installation.redis.pid}
    measured = dict(families)
    if isinstance(place.installation.database, PostgreSQL):
        families["database"] = place.installation.database.pid
    families["endpoint"] = place.endpoint.pid
    seen = Watch({name: [] for name in measured})
    before = {name: usage.cpu([pid]) for name, pid in families.items()}
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        for name, pid in measured.items():
            seen.memory[name].append(usage.memory(pid))
        time.sleep(SAMPLE_SECONDS)
    wall = time.monotonic() - began
    seen.cores = {name: (usage.cpu([pid]) - before[name]) / wall for name, pid in families.items()}
    return seen


def _stop_and_judge(place: Arena, workers: Sequence[Process]) -> Verdict:
    """End the workers in good order, as an operator would, and compare everything with the endpoint's record."""
    for process in (place.scheduler, *workers):
        process.end()
    return place.judge()


def _stored(place: Arena, numbers: Sequence[int], due: Callable[[int], float]) -> list[float]:
    """Seconds from falling due until the new token was stored, as the journal has it."""
    wanted = {identifier("c", number): number for number in numbers}
    query = select(col(Refresh.connection_id), col(Refresh.closed_at)).where(col(Refresh.outcome) == Outcome.STORED)
    late = array("d")
    with place.installation.resources.database.engine.connect().execution_options(yield_per=5000) as connection:
        for connection_id, closed_at in connection.execute(query):
            number = wanted.pop(connection_id, None)
            if number is not None and closed_at is not None:
                late.append(closed_at.timestamp() - due(number))
    return [*late, *(float("inf") for _ in wanted)]

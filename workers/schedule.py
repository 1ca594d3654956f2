"""The scheduler process: looks every tick whether something is due, and rings. Any number may run, none leads.

While Redis is away, or rings go unanswered, it drains by itself, beside the clock and not in its way.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlmodel import Session

import logs
from config import Settings
from models.types import utc_now
from services.engine import clock, leases, tokens
from services.operating import housekeeping, journal
from services.resources import Resources
from workers import queue
from workers.jobs import Stopping
from workers.process import DATABASE_AWAY, Pulse, spare_the_collector, stop_on_signals

log = logs.get(__name__)

UNANSWERED_TICKS = 10
"""Something due for so many ticks has been rung for in vain."""
MINUTE, HOUR = 60.0, 3600.0
SWEEPS_APART = 5.0
"""Seconds between two short sweeps of the journal: a long one would keep the clock from ticking."""


@dataclass(frozen=True)
class Chore:
    """Something to be swept up every so many seconds; returns how many rows went."""

    name: str
    every: float
    run: Callable[[Session, Settings], int]


CHORES = (
    Chore("previews", MINUTE, housekeeping.previews),
    Chore("authorization attempts", HOUR, housekeeping.attempts),
    Chore("single-use links", HOUR, housekeeping.links),
    Chore("sessions", HOUR, housekeeping.sessions),
    Chore("bulk refreshes", HOUR, housekeeping.bulk_refreshes),
    Chore("kept replies", HOUR, housekeeping.kept_replies),
    Chore("unanswered requests", MINUTE, housekeeping.unanswered),
    Chore("heartbeats", HOUR, housekeeping.heartbeats),
)


def main(resources: Resources, stop: threading.Event | None = None) -> None:
    """Tick until SIGTERM or SIGINT (or `stop`): finish the requests under way, start none, sign off."""
    stop = stop or stop_on_signals()
    spare_the_collector()
    with Pulse(resources, "scheduler") as pulse, Scheduler(resources, stop.is_set) as scheduler:
        while not stop.is_set():
            pulse.moved()
            try:
                scheduler.tick()
            except DATABASE_AWAY as problem:
                log.warning("the database is away", problem=type(problem).__name__)
            stop.wait(resources.settings.tick)


class Scheduler:
    """One scheduler's memory: nothing that matters, since the database knows what is due."""

    def __init__(self, resources: Resources, stopping: Stopping) -> None:
        """`stopping` says when no request may be started any more."""
        self._resources, self._stopping = resources, stopping
        self._helper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drain")
        self._drain: Future[int] | None = None
        self._needed = False
        self._watch = clock.Watch()
        self._set_back: bool | None = None
        self._chores = (*CHORES, Chore("refresh history", SWEEPS_APART, journal.Sweeper().sweep))
        self._done_at = dict.fromkeys((chore.name for chore in self._chores), float("-inf"))

    def __enter__(self) -> Scheduler:
        return self

    def __exit__(self, *_error: object) -> None:
        self._helper.shutdown(wait=True)

    def tick(self) -> None:
        """Ring if something is due, drain if nobody else does, sweep up. Raises DATABASE_AWAY."""
        self._collect()
        self._mind_the_clock()
        with self._resources.database.session() as session:
            oldest = leases.oldest_due(session, self._resources.floors)
        if oldest is not None:
            self._attend(oldest)
        self._sweep()

    def _attend(self, oldest: datetime) -> None:
        rung = queue.ring(self._resources)
        unanswered = utc_now() - oldest > timedelta(seconds=UNANSWERED_TICKS * self._resources.settings.tick)
        needed = not rung or unanswered
        if needed != self._needed:
            log.warning("draining here" if needed else "workers answer again", redis_reachable=rung)
        self._needed = needed
        if needed and self._drain is None:
            settings = self._resources.settings
            self._drain = self._helper.submit(
                tokens.drain,
                self._resources,
                settings.drain_time,
                stopping=lambda: self._stopping() or not self._needed,
            )

    def _collect(self) -> None:
        """Hear how the drain ended: a real bug ends the process, as it should."""
        if self._drain is None or not self._drain.done():
            return
        ended, self._drain = self._drain, None
        ended.result()

    def _mind_the_clock(self) -> None:
        """Put times right that cannot be, after this machine's clock was set back."""
        self._set_back = self._watch.was_set_back() or self._set_back
        if self._set_back is None:
            with self._resources.database.session() as session:
                self._set_back = clock.seems_set_back(session, utc_now())
        if not self._set_back:
            return
        with self._resources.database.session(writing=True) as session:
            rows = clock.mend(session, self._resources.settings, utc_now())
        self._set_back = False
        if rows:
            log.warning("the clock was set back, so times ahead of it were put right", rows=rows)

    def _sweep(self) -> None:
        for chore in self._chores:
            if time.monotonic() - self._done_at[chore.name] < chore.every:
                continue
            with self._resources.database.session(writing=True) as session:
                gone = chore.run(session, self._resources.settings)
            self._done_at[chore.name] = time.monotonic()
            log.debug("swept", chore=chore.name, rows=gone)

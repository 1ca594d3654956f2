"""One installation, one endpoint, and the contenders of the short figures: ours and what it is held against."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import redis
import sqlalchemy as sa
from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import func, select, update
from sqlmodel import Session, col

from bench import naive, usage
from bench.crowd import Crowd, settle_in
from bench.endpoint import read_token, refresh_token
from bench.installation import ROOT, Installation, PostgreSQL, Process, wait_for
from bench.remote import Endpoint, make_certificate
from models import Heartbeat, Outcome, Refresh, Token
from models.types import Place, utc_now
from workers import queue

CONCURRENCY = 200
"""Requests in flight at most at the one provider host, for us and for the bare loop."""
LEASES = 3 * CONCURRENCY
"""What counts against a host's limit: a reply that waits for its commit still does, and so does what is sent next."""
SETTINGS = {
    "host_concurrency": str(LEASES),
    "strict_concurrency": str(LEASES),
    "agent_reserve": "0",
    "log_level": "WARNING",
}
RUNNING_START = 1.0
"""Seconds between making tokens due and the moment they are."""
PATIENCE = 120.0


class Broken(Exception):
    """A promise was broken: something was lost, doubled or left leased."""


@dataclass
class Run:
    """One round of one contender."""

    count: int
    seconds: float
    cpu: float = 0.0

    @property
    def rate(self) -> float:
        """Per second."""
        return self.count / self.seconds

    @property
    def cpu_each(self) -> float:
        """Seconds of CPU."""
        return self.cpu / self.count


@dataclass
class Verdict:
    """What was compared with the endpoint's record, and how."""

    refreshed: int
    lost: int
    doubled: int
    leased: int
    open: int
    in_flight: int
    """At the endpoint, at most."""

    def demand(self, in_flight: int | None = None) -> None:
        """Raise Broken unless all is as promised, and no more than `in_flight` at once."""
        if in_flight is not None and self.in_flight > in_flight:
            raise Broken(f"{self.in_flight} requests were in flight at once")
        if self.lost or self.doubled or self.leased or self.open:
            raise Broken(
                f"of {self.refreshed} refreshes {self.lost} were lost, {self.doubled} doubled; {self.leased} tokens "
                f"were left leased and {self.open} journal rows open"
            )


@dataclass
class Arena:
    """All that runs while figures are taken."""

    installation: Installation
    endpoint: Endpoint
    crowds: list[Crowd] = field(default_factory=list)
    worker: Process = field(init=False)
    scheduler: Process = field(init=False)

    def start(self) -> None:
        """Start one worker and one scheduler, and wait until they live."""
        self.scheduler, self.worker = self.installation.add_scheduler(), self.installation.add_worker()
        with suppress(TimeoutError):
            wait_for(lambda: _alive(self.installation) >= 2 or not self.worker.is_running(), "", 60.0)
        if _alive(self.installation) < 2:
            raise TimeoutError(f"the processes do not start:\n{self.installation.said()[-3000:]}")

    def settle(self, count: int, *, secure: bool = False, due: Any = lambda _number: None) -> Crowd:
        """More connections, whose grants the endpoint knows."""
        first = sum(crowd.count for crowd in self.crowds)
        self.endpoint.ask("grow", count=first + count)
        base = f"https://{self.endpoint.secure_host}" if secure else f"http://{self.endpoint.host}"
        crowd = settle_in(self.installation.resources, base, first, count, due)
        self.crowds.append(crowd)
        if self.installation.database.kind == "postgresql":
            self.execute_aside("VACUUM ANALYZE")
        return crowd

    def execute_aside(self, statement: str) -> None:
        """A statement outside any transaction."""
        engine = self.installation.resources.database.engine
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(statement)

    def our_cpu(self) -> float:
        """Seconds of CPU that worker, scheduler, Valkey and the database have used."""
        database = self.installation.database
        pids = [self.worker.pid, self.scheduler.pid, self.installation.redis.pid]
        return usage.cpu([*pids, database.pid] if isinstance(database, PostgreSQL) else pids)

    def refresh(self, crowd: Crowd, count: int) -> Run:
        """Let `count` of a crowd be due at one moment, ring once, and wait until all are stored."""
        return self.fire(count, self.aim(crowd, count))

    def aim(self, crowd: Crowd, count: int) -> datetime:
        """Let `count` of a crowd be due at a moment soon; which one."""
        due = utc_now() + timedelta(seconds=RUNNING_START)
        mine = select(col(Token.id)).where(col(Token.workspace_id) == crowd.workspace_id)
        mine = mine.order_by(col(Token.id)).limit(count)
        with self.installation.resources.database.session(writing=True) as session:
            session.execute(update(Token).where(col(Token.id).in_(mine)).values(next_refresh_at=due))
            session.commit()
        return due

    def fire(self, count: int, due: datetime) -> Run:
        """Ring once when `count` are due, and wait until all are stored."""
        before = self.endpoint.stand()["requests"]
        time.sleep(max(0.0, (due - utc_now()).total_seconds()))
        cpu, began = self.our_cpu(), time.monotonic()
        queue.ring(self.installation.resources)
        self._wait(lambda: self.endpoint.stand()["requests"] - before >= count)
        self._wait(lambda: self.leased() == 0)
        return Run(count, time.monotonic() - began, self.our_cpu() - cpu)

    def leased(self) -> int:
        """How many tokens somebody holds."""
        query = select(func.count()).select_from(Token).where(col(Token.lease_owner).is_not(None))
        with self.installation.resources.database.session() as session:
            return int(session.execute(query).scalar_one())

    def judge(self) -> Verdict:
        """Compare every stored token with the endpoint's record."""
        uses, stand, lost = self.endpoint.uses(), self.endpoint.stand(), 0
        database = self.installation.resources.database
        query = select(col(Token.id), col(Token.workspace_id), col(Token.generation), col(Token.refresh_token_sealed))
        with database.engine.connect().execution_options(yield_per=5000) as connection:
            for token_id, workspace_id, generation, sealed in connection.execute(query):
                assert sealed is not None
                value = database.keyring.decrypt(sealed, Place(workspace_id, "tokens", token_id, "refresh_token"))
                number, use = read_token(value.get_secret_value())
                lost += (use, generation) != (uses.counts[number], uses.counts[number] + 1)
            still_open = select(func.count()).select_from(Refresh).where(col(Refresh.outcome) != Outcome.STORED)
            left_open = int(connection.execute(still_open).scalar_one())
        refreshed = sum(uses.counts)
        doubled = stand["refused"] + abs(stand["requests"] - stand["refused"] - refreshed)
        return Verdict(refreshed, lost, doubled, self.leased(), left_open, stand["most_in_flight"])

    def _wait(self, condition: Any) -> None:
        """Until it is so, or nothing more can come of it."""

        def is_over() -> bool:
            return bool(condition()) or "job failed" in self.worker.said

        with suppress(TimeoutError):
            wait_for(is_over, "", PATIENCE, 0.01)
        if not condition():
            raise TimeoutError(f"the refreshes do not end: {self.endpoint.stand()}\n{self.worker.said[-3000:]}")


@contextmanager
def arena(
    kind: str, *, secure: bool = False, settings: Mapping[str, str] | None = None, started: bool = True
) -> Iterator[Arena]:
    """An installation on a `kind` of database with one worker, one scheduler, and an endpoint.

    With `started` off the worker and the scheduler wait for `Arena.start`.
    """
    with Installation(kind, {**SETTINGS, **(settings or {})}) as installation:
        trusted, served = make_certificate(installation.folder) if secure else (None, None)
        endpoint = Endpoint(installation.folder, served)
        if trusted is not None:
            os.environ["SSL_CERT_FILE"] = str(trusted)  # how an operator has Python trust an authority
        try:
            places = [endpoint.host, endpoint.secure_host]
            installation.change(outbound_allow=",".join(filter(None, places)))
            place = Arena(installation, endpoint)
            if started:
                place.start()
            yield place
        finally:
            os.environ.pop("SSL_CERT_FILE", None)
            endpoint.close()


def _alive(installation: Installation) -> int:
    with installation.resources.database.session() as session:
        return len(session.execute(select(col(Heartbeat.process))).all())


class Naive:
    """A worker with a job for each token, beside ours in the same installation."""

    def __init__(self, place: Arena, kind: str, count: int) -> None:
        """`kind` is fork or simple; `count` tokens that nobody else uses."""
        self._arena, self._kind, self._count = place, kind, count
        self._engine = place.installation.resources.database.engine
        self._first = len(place.endpoint.uses().counts)
        place.endpoint.ask("grow", count=self._first + count)
        naive.NaiveToken.metadata.create_all(self._engine)
        with Session(self._engine) as session:
            session.add_all(
                naive.NaiveToken(number=number, refresh_token=refresh_token(number, 0))
                for number in range(self._first, self._first + count)
            )
            session.commit()
        installation = place.installation
        environment = {
            naive.DATABASE: installation.database.url,
            naive.REDIS: installation.redis.url,
            naive.TOKEN_ENDPOINT: f"http://{place.endpoint.host}/token",
        }
        command = ["/usr/bin/env", *(f"{name}={value}" for name, value in environment.items())]
        self.process = installation.add(f"naive-{kind}", [*command, sys.executable, "-m", "bench.naive", kind])
        self._redis = redis.Redis.from_url(installation.redis.url)
        self._queue = Queue(f"naive-{kind}", connection=self._redis, serializer=JSONSerializer)
        self._rounds = 0

    def run(self) -> Run:
        """Every token once."""
        self._rounds += 1
        pids = [self.process.pid]
        cpu, began = usage.cpu(pids), time.monotonic()
        for number in range(self._first, self._first + self._count):
            self._queue.enqueue(naive.refresh, number)
        wait_for(self._is_done, f"the jobs do not end:\n{self.process.said}", PATIENCE, 0.01)
        return Run(self._count, time.monotonic() - began, usage.cpu(pids) - cpu)

    def _is_done(self) -> bool:
        mine = naive.NaiveToken.number
        done = sa.select(func.count()).where(col(mine) >= self._first, col(mine) < self._first + self._count)
        with self._engine.connect() as connection:
            found = connection.execute(done.where(col(naive.NaiveToken.refreshed) >= self._rounds)).scalar_one()
        return int(found) == self._count

    def close(self) -> None:
        """End its worker."""
        self.process.kill()
        self._redis.close()


class Bare:
    """The bare loop, in a process of its own."""

    def __init__(self) -> None:
        """Started, waiting."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.bare"],
            cwd=ROOT,
            env=dict(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, url: str, count: int) -> Run:
        """So many requests, as many at a time as ours has."""
        answer = self._ask(url=url, count=count, concurrency=CONCURRENCY)
        return Run(count, answer["seconds"], answer["cpu"])

    def calls(self, url: str, count: int) -> list[float]:
        """Seconds of each of so many GETs, one after the other."""
        times: list[float] = self._ask(url=url, count=count, calls=True)["times"]
        return times

    def _ask(self, **wishes: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(wishes) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()

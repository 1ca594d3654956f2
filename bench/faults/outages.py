"""F6 to F12: Redis, the database or the disk is away, slow, full or empty."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
import sqlalchemy as sa
from sqlalchemy import func, select
from sqlmodel import col

from bench.faults.kills import GATHER_SECONDS, Kill, judge
from bench.faults.ledger import Mode
from bench.faults.portal import Watcher, person
from bench.faults.provider import ACTED
from bench.faults.rows import Outcome, row
from bench.faults.stage import Seen, Stage
from models import Token
from models.types import utc_now
from workers import queue

PAGES = ("/connections", "/operations", "/healthz")
SHORT_LIFE = 12.0
"""Seconds a token lives while Redis is away: each is due, and refreshed, within them."""
REDIS_AWAY, REDIS_AWAY_FULL = 12.0, 600.0
DATABASE_AWAY, DATABASE_AWAY_FULL = 5.0, 300.0
LOCKED, LOCKED_FULL = 3.0, 30.0
SLOW_SECONDS = 5.0
TINY = "1mb"
GRANTS = dict.fromkeys(Mode, 40)
SERVED = {"mix": GRANTS, "portal": True}


def settled(stage: Stage, before: dict[int, Seen], since: float, part: str, problems: Sequence[str] = ()) -> Outcome:
    """Everything is refreshed, once each and none lost, within a recovery's time from now on."""
    unfinished = stage.wait_done(before, stage.patience + stage.lease)
    after = stage.look()
    lost, record = stage.lost(after), stage.provider.record(stage.numbers)
    twice = sum(entry["most_uses"] > 1 for entry in record.values())
    waits = [closed - since for closed in stage.closed_since(since).values()]
    notes = [
        *problems,
        *([f"not refreshed in time: {len(unfinished)}"] if unfinished else []),
        *([f"refresh tokens sent twice: {twice}"] if twice else []),
        *([f"lost: {sorted(set(lost.values()))}"] if lost else []),
        *([f"recovery above {stage.patience:.0f} s"] if waits and max(waits) > stage.patience else []),
        *dead_processes(stage),
    ]
    stage.renew(lost.keys() | unfinished)
    return Outcome(part, not notes, len(before), len(lost), waits, "; ".join(notes))


def dead_processes(stage: Stage) -> list[str]:
    """Names of processes that ended though nobody killed them."""
    everybody = [stage.scheduler, *stage.workers, *([stage.portal] if stage.portal else [])]
    return [f"{process.name} ended" for process in everybody if not process.is_running()]


def expired(stage: Stage) -> int:
    """How many access tokens have run out."""
    query = select(func.count()).select_from(Token).where(col(Token.expires_at) < utc_now())
    with stage.installation.resources.database.session() as session:
        return int(session.execute(query).scalar_one())


@row(
    "F6",
    "Redis is away for long",
    "the portal serves and says so, schedulers refresh from the database, no token runs out",
    options=SERVED,
    rounds=20,
)
def redis_away(stage: Stage, rounds: int, full: bool) -> Iterator[Outcome]:
    """Tokens that live a few seconds only, so that each is due several times while Redis is gone."""
    browser = person(stage)
    lengths = [REDIS_AWAY] * rounds + [REDIS_AWAY_FULL] * full
    for away in lengths:
        stage.provider.ask("behave", lifetime=SHORT_LIFE)
        before = stage.look()
        stage.make_due()
        stage.wait_done(before, stage.patience)
        stage.installation.redis.kill()
        began, worst, told = time.time(), 0, False
        with Watcher(browser, *PAGES) as watcher:
            while time.time() - began < away:
                worst = max(worst, expired(stage))
                told = told or "Redis cannot be reached" in browser.get("/operations").text
                time.sleep(0.3)
        stage.installation.redis.start()
        problems = [f"{worst} tokens ran out"] if worst else []
        problems += [] if told else ["Operations does not say that Redis is away"]
        problems += [f"pages failed: {dict(watcher.statuses)}"] if watcher.bad else []
        stage.provider.ask("behave", lifetime=3600.0)
        yield _again(stage, "10 min" if away == REDIS_AWAY_FULL else "", problems)


def _again(stage: Stage, part: str, problems: Sequence[str]) -> Outcome:
    """After an outage one more refresh of everything, by which a loss would show."""
    time.sleep(1.0)
    stage.provider.ask("forget_uses")
    before, since = stage.look(), time.time()
    stage.make_due()
    return settled(stage, before, since, part, problems)


@row("F7", "Redis restarts empty, or is flushed, also mid-job", "nothing lost, no duplicates, workers answer again")
def redis_empty(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """By turns while idle and with everything in flight; killed, or told to forget."""
    for place in range(rounds):
        mid_job, kills = place % 2 == 1, place % 4 < 2
        before = _begin(stage, hold=mid_job)
        since = time.time()
        if kills:
            stage.installation.redis.kill()
            stage.installation.redis.start()
        else:
            with stage.installation.redis.client() as client:
                client.flushall()
        if mid_job:
            stage.provider.release()
        else:
            stage.make_due()
        problems = [] if _workers_are_back(stage) else ["the workers did not come back to Redis"]
        yield settled(stage, before, since, "mid-job" if mid_job else "idle", problems)


def _begin(stage: Stage, *, hold: bool) -> dict[int, Seen]:
    """How things stand; with `hold` everything is in flight when this returns."""
    stage.provider.ask("forget_uses")
    before = stage.look()
    if hold:
        stage.provider.hold(ACTED)
        stage.make_due()
        stage.provider.wait_held(len(stage.items), GATHER_SECONDS)
    return before


def _workers_are_back(stage: Stage) -> bool:
    """Whether a ring is answered within a recovery's time, as long as Redis needs no more than to be there."""
    until = time.monotonic() + stage.patience
    with stage.installation.redis.client() as client:
        if not queue.ring(stage.installation.resources):
            return False
        while time.monotonic() < until:
            if client.llen(f"rq:queue:{queue.NAME}") == 0:
                return True
            time.sleep(0.1)
    return False


@row(
    "F8",
    "Redis is full, read-only or slow",
    "asking for a refresh stays polite, the database path goes on",
    options=SERVED,
)
def redis_unwell(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """Each ailment in turn, with a press of Refresh now while it lasts."""
    browser = person(stage)
    ailments: dict[str, tuple[Callable[[redis.Redis], object], Callable[[redis.Redis], object]]] = {
        "full": (_fill, _empty),
        "read-only": (lambda client: client.replicaof("127.0.0.1", "1"), lambda client: client.replicaof("NO", "ONE")),
        "slow": (lambda client: client.client_pause(int(SLOW_SECONDS * 1000)), lambda _: None),
    }
    for place in range(rounds):
        name = list(ailments)[place % len(ailments)]
        begin, mend = ailments[name]
        before = _begin(stage, hold=False)
        since = time.time()
        with stage.installation.redis.client() as client:
            begin(client)
            stage.make_due()
            one = stage.items[place % len(stage.items)].connection_id
            pressed = browser.post(f"/connections/{one}/refresh", form_from=f"/connections/{one}")
            problems = [f"Refresh now answered {pressed.status}"] if pressed.status >= 500 else []
            outcome = settled(stage, before, since, name, problems)
            with suppress(redis.RedisError):
                mend(client)
        yield outcome


def _fill(client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", TINY)
    with suppress(redis.RedisError):
        for number in range(1000):
            client.set(f"filler:{number}", "x" * 10_000)


def _empty(client: redis.Redis) -> None:
    client.config_set("maxmemory", "0")
    client.flushall()


@row(
    "F9",
    "The database goes down before the lease",
    "0 provider hits, 503 with Retry-After, recovery without a restart",
    databases=("postgresql",),
    options=SERVED,
)
def database_down(stage: Stage, rounds: int, full: bool) -> Iterator[Outcome]:
    """Everything falls due while the database is gone."""
    browser = person(stage)
    for away in [DATABASE_AWAY] * rounds + [DATABASE_AWAY_FULL] * full:
        before = _begin(stage, hold=False)
        stage.installation.database.stop()
        with Watcher(browser, "/connections", pause=0.3) as watcher:
            time.sleep(away)
        hits = stage.provider.stand()["hits"]
        stage.installation.database.start()
        stage.make_due()
        problems = [f"{hits} requests without a database"] if hits else []
        answers = set(watcher.statuses)
        problems += [f"pages answered {dict(watcher.statuses)}"] if answers - {"503"} else []
        problems += ["503 without Retry-After"] if watcher.missing_retry_after else []
        yield settled(stage, before, time.time(), "5 min" if away == DATABASE_AWAY_FULL else "", problems)


@row(
    "F10",
    "The database dies after the provider's reply",
    "the commit is retried until the lease ends; else it is flagged, and never shown as Connected",
    databases=("postgresql",),
)
def database_dies_after_the_reply(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """Back in time; back after the worker was killed; back after the lease."""
    for place in range(rounds):
        case = ("back before the lease ends", "worker killed meanwhile", "back after the lease")[place % 3]
        before = _begin(stage, hold=True)
        stage.installation.database.stop()
        at = time.time()
        stage.provider.release(replies=len(stage.items))
        time.sleep(stage.lease * 1.2 if place % 3 == 2 else 1.0)
        if place % 3 == 1:
            for worker in stage.workers:
                worker.kill()
        stage.installation.database.start()
        stage.restart_workers()
        yield from _after_the_reply(stage, before, at, case, forgiven=place % 3 == 0)


def _after_the_reply(
    stage: Stage, before: dict[int, Seen], at: float, case: str, *, forgiven: bool
) -> Iterator[Outcome]:
    unfinished = stage.wait_done(before, stage.patience + stage.lease)
    after, record = stage.look(), stage.provider.record(stage.numbers)
    lost = stage.lost(after)
    acted = {number for number, entry in record.items() if entry["acted"]}
    kill = Kill(at, acted, set() if forgiven else acted, lost, after, stage.closed_since(at), unfinished)
    kill.hits = {number: entry["hits"] for number, entry in record.items()}
    kill.most_uses = {number: entry["most_uses"] for number, entry in record.items()}
    for mode in Mode:
        outcome = judge(stage, kill, mode, slack=stage.lease)
        outcome.part = f"{mode.value}, {case}"
        yield outcome
    stage.renew(lost.keys() | unfinished)


@contextmanager
def locked(stage: Stage) -> Iterator[None]:
    """Nobody else can write to tokens."""
    if stage.kind == "sqlite":
        line = sqlite3.connect(stage.installation.database.url.removeprefix("sqlite:///"), isolation_level=None)
        line.execute("PRAGMA busy_timeout = 30000")
        line.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            line.execute("ROLLBACK")
            line.close()
        return
    with stage.installation.resources.database.engine.begin() as connection:
        connection.execute(sa.text("LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE"))
        yield


@row(
    "F11",
    "The database is locked, or ends our transactions",
    "waits and tries again, bounded; never read as a revocation",
    rounds=20,
)
def database_locked(stage: Stage, rounds: int, full: bool) -> Iterator[Outcome]:
    """Locked with replies on their way; locked before the lease; every session of ours ended (PostgreSQL)."""
    cases = ("locked at the commit", "locked before the lease", "sessions ended at the commit")
    for place in range(rounds):
        case = cases[place % (3 if stage.kind == "postgresql" else 2)]
        before = _begin(stage, hold=case != cases[1])
        problems: list[str] = []
        if case == cases[1]:
            stage.set_tokens(next_refresh_at=utc_now())
        since = time.time()
        if case == cases[2]:
            stage.provider.release(replies=1)
            _end_sessions(stage)
        else:
            with locked(stage):
                hits = stage.provider.stand()["hits"]
                stage.provider.release()
                time.sleep(LOCKED_FULL if full and place == 0 else LOCKED)
                more = stage.provider.stand()["hits"] - hits
                problems += [f"{more} requests without a lease"] if more and case == cases[1] else []
        yield settled(stage, before, since, case, problems)


def _end_sessions(stage: Stage) -> None:
    """As an administrator does, or a fail-over."""
    with stage.installation.resources.database.engine.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = 'cardkey'"
            )
        )


@row(
    "F12",
    "Disk full: of the database, of the log",
    "0 provider hits while writes fail, a full log stops nothing, recovery when space returns",
    databases=("sqlite",),
    options={"mix": dict.fromkeys(Mode, 20), "small_disk": True},
)
def disk_full(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """A small file system that a file of ours fills up; and processes that log to a device that is always full."""
    for place in range(rounds):
        before = _begin(stage, hold=False)
        if place % 2:
            yield _log_full(stage, before)
            continue
        with filled(stage.installation.folder):
            stage.provider.ask("forget_uses")
            with suppress(sa.exc.OperationalError):
                stage.make_due()
            time.sleep(3.0)
            hits = stage.provider.stand()["hits"]
        stage.make_due()
        yield settled(stage, before, time.time(), "database", [f"{hits} requests without a lease"] if hits else [])


def _log_full(stage: Stage, before: dict[int, Seen]) -> Outcome:
    logs = [process.log for process in (stage.scheduler, *stage.workers)]
    for process in (stage.scheduler, *stage.workers):
        process.kill()
        process.log = Path("/dev/full")
        process.start()
    since = time.time()
    stage.make_due()
    outcome = settled(stage, before, since, "log")
    for process, log in zip((stage.scheduler, *stage.workers), logs, strict=True):
        process.kill()
        process.log = log
        process.start()
    return outcome


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Not a byte is free where `folder` lies."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 16, 1 << 10, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    try:
        yield
    finally:
        filler.unlink()

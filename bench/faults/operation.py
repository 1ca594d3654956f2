"""F28, F34 to F36: clocks that jump, a connection that kills whoever refreshes it, herds, and deployments."""

from __future__ import annotations

import importlib.util
import io
import os
import random
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import update
from sqlmodel import col

from bench.faults.cases import reply
from bench.faults.ledger import Mode
from bench.faults.outages import dead_processes
from bench.faults.portal import Browser, Watcher, person
from bench.faults.rows import Outcome, row
from bench.faults.stage import DEADLINE, Item, Seen, Stage
from bench.installation import FLASK, ROOT, NotPermitted, Process
from models import Token
from models.types import utc_now

HOUR, DAY = 3600, 86400
JUMPS = (300, -300, HOUR, -HOUR, DAY)
SKEW = 120
REST_SECONDS, REST_MOST = 3.0, 20.0
POISONED, POISON_DEATHS = 4, 3
HERD, HERD_SECONDS, HERD_MOST = 5000, 60.0, 600.0
SMALL_HERD = 250
CONCURRENCY = 16
UNIT_TESTS = "tests/services/test_lifetimes.py and tests/services/test_timing.py"


def faketime() -> Path:
    """libfaketime, from the system or from its package. Raises NotPermitted."""
    places = [Path(os.environ["FAKETIME_LIBRARY"])] if os.environ.get("FAKETIME_LIBRARY") else []
    places += sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    spec = importlib.util.find_spec("libfaketime")
    for folder in spec.submodule_search_locations or () if spec else ():
        places += sorted(Path(folder).glob("**/libfaketime*.so*"))
    for place in places:
        if place.is_file():
            return place
    raise NotPermitted(f"libfaketime is not installed (Debian: faketime); what clocks do is tested in {UNIT_TESTS}")


@row(
    "F28",
    "The clock jumps by 5 minutes, an hour, a day; worker and scheduler are two minutes apart",
    "at most one refresh more for each jump, nothing lost, no storm",
    options={"mix": dict.fromkeys(Mode, 10)},
    rounds=24,
    quick=6,
)
def clocks(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """Scheduler and workers get another clock, there and back, without a restart: each jump may cost one refresh."""
    clocks = _Clocks(stage, faketime())
    stage.wait_until_up()
    for place in range(rounds):
        case = place % (len(JUMPS) + 1)
        skewed = case == len(JUMPS)
        name = "two minutes apart" if skewed else f"{JUMPS[case]:+d} s"
        before, since = _fresh(stage), time.time()
        for scheduler, workers in ((0, SKEW), (0, 0)) if skewed else ((JUMPS[case], JUMPS[case]), (0, 0)):
            clocks.set(scheduler, workers)
            _come_to_rest(stage)
        yield _calm(stage, name, before, since)


def _come_to_rest(stage: Stage) -> None:
    """Wait until the provider has heard nothing for a while; the database tells nothing, by a wrong clock."""
    hits, quiet_since, until = -1, time.monotonic(), time.monotonic() + REST_MOST
    while time.monotonic() - quiet_since < REST_SECONDS and time.monotonic() < until:
        time.sleep(0.2)
        stand = stage.provider.stand()
        if stand["hits"] != hits or stand["in_flight"]:
            hits, quiet_since = stand["hits"], time.monotonic()


class _Clocks:
    """How far the clock of each process is off; all of them change at the same moment."""

    def __init__(self, stage: Stage, library: Path) -> None:
        """Start scheduler and workers again so that files of ours tell them what time it is."""
        self._folder = stage.installation.folder
        self._everybody = (stage.scheduler, *stage.workers)
        self._count = 0
        self.set(0, 0)
        for number, process in enumerate(self._everybody):
            process.end()
            process.environment = {
                **process.environment,
                "LD_PRELOAD": str(library),
                "FAKETIME_TIMESTAMP_FILE": str(self._folder / "clocks" / str(number)),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
            process.start()

    def set(self, scheduler: int, workers: int) -> None:
        """So many seconds each. A link is exchanged: nobody ever reads half a file, or is earlier than the others."""
        self._count += 1
        folder, link = self._folder / f"clocks-{self._count}", self._folder / "next-clocks"
        folder.mkdir()
        for number in range(len(self._everybody)):
            (folder / str(number)).write_text(f"{workers if number else scheduler:+d}\n")
        link.symlink_to(folder.name)
        link.replace(self._folder / "clocks")


def _fresh(stage: Stage) -> dict[int, Seen]:
    """Everything refreshed a moment ago, by the true clock; nothing counted yet."""
    before = stage.look()
    stage.make_due()
    stage.wait_done(before, stage.patience)
    stage.provider.ask("forget_uses")
    return stage.look()


def _calm(stage: Stage, name: str, before: dict[int, Seen], since: float) -> Outcome:
    stage.wait_until_still(stage.patience)
    record = stage.provider.record(stage.numbers)
    most = max(entry["hits"] for entry in record.values())
    # In the one mode, a refresh token is replaced at every second use only.
    rotating = [item.number for item in stage.items if item.mode is not Mode.SOMETIMES]
    uses = max(record[number]["most_uses"] for number in rotating)
    # By the true clock again: whatever the jump has done to the plan, a press of Refresh now has to work.
    again = stage.look()
    stage.make_due()
    unfinished = stage.wait_done(again, stage.patience)
    lost = stage.lost(stage.look())
    notes = [f"{most} refreshes of one connection"] if most > 2 else []
    notes += [f"one refresh token was sent {uses} times"] if uses > 1 else []
    notes += [f"lost: {sorted(set(lost.values()))}"] if lost else []
    notes += [f"not refreshed afterwards: {len(unfinished)}"] if unfinished else []
    notes += dead_processes(stage)
    stage.renew(lost.keys() | unfinished)
    return Outcome(name, not notes, len(before), len(lost), (time.time() - since,), "; ".join(notes))


@row(
    "F34",
    "Connections whose refresh kills the worker, every time",
    "set apart after three deaths, the others are refreshed",
    options={"mix": {Mode.STATIC: POISONED, Mode.GRACE: 60}, "settings": {"retry_longest": "60"}},
    rounds=5,
    quick=1,
)
def poison(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The provider never answers for them, and whoever has asked is killed at once."""
    items = [item for item in stage.items if item.mode is Mode.STATIC]
    others = [item for item in stage.items if item.mode is not Mode.STATIC]
    for _ in range(rounds):
        stage.renew(stage.numbers)
        stage.provider.ask("forget_uses")
        numbers = [item.number for item in items]
        stage.provider.ask("script", numbers=numbers, replies=[{**reply(how="hang"), "repeats": True}])
        before = stage.look(others)
        stage.make_due()
        _kill_whoever_asks(stage, numbers)
        unfinished = stage.wait_done(before, stage.patience)
        lost, seen = stage.lost(stage.look(others)), stage.look(items)
        asked = {number: entry["hits"] for number, entry in stage.provider.record(numbers).items()}
        for number in numbers:
            notes = [f"{asked[number]} deaths"] if asked[number] > POISON_DEATHS else []
            notes += ["nothing is said about it"] if not seen[number].failed else []
            notes += [f"others were not refreshed: {len(unfinished)}"] if unfinished else []
            notes += [f"others were lost: {len(lost)}"] if lost else []
            yield Outcome("", not notes, 1 + len(others) // len(items), len(lost), (), "; ".join(notes))


def _kill_whoever_asks(stage: Stage, numbers: list[int]) -> None:
    """Kill everything that could have sent the requests, each time any comes, until none comes for a while."""
    seen, quiet_since = 0, time.monotonic()
    most = 2 * POISON_DEATHS * len(numbers)
    while time.monotonic() - quiet_since < 2.5 * stage.lease and seen <= most:
        time.sleep(0.05)
        if sum(entry["hits"] for entry in stage.provider.record(numbers).values()) == seen:
            continue
        time.sleep(0.2)  # those that were sent together arrive together
        for process in (*stage.workers, stage.scheduler):
            process.kill()
        seen, quiet_since = sum(entry["hits"] for entry in stage.provider.record(numbers).values()), time.monotonic()
        stage.restart_workers()
        stage.scheduler.start()


@row(
    "F35",
    "A herd falls due within a minute; everything is overdue after a long stop",
    "never more in flight at a host than set, all done in ten minutes, each once",
    options={"mix": {Mode.GRACE: HERD}, "settings": {"host_concurrency": str(CONCURRENCY)}},
    rounds=20,
    quick=2,
    alone=True,
)
def herd(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The whole herd once each way, then smaller ones."""
    stage.provider.ask("behave", delay=0.02)
    for place in range(rounds):
        members = stage.items if place < 2 else random.sample(stage.items, min(SMALL_HERD, len(stage.items)))
        stops = place % 2 == 1
        stage.provider.ask("forget_uses")
        before = stage.look(members)
        if stops:
            for process in (stage.scheduler, *stage.workers):
                process.end()
            stage.make_due(members, expires_at=utc_now() - timedelta(days=1))
            stage.set_tokens(members, next_refresh_at=utc_now() - timedelta(days=1))
            for process in (stage.scheduler, *stage.workers):
                process.start()
            dues = dict.fromkeys(before, time.time())
        else:
            dues = _fall_due(stage, members, HERD_SECONDS if place < 2 else 2.0)
        unfinished = stage.wait_done(before, HERD_MOST, pause=1.0)
        yield _herded(stage, members, "after a stop" if stops else "in a minute", dues, unfinished)


def _fall_due(stage: Stage, members: Sequence[Item], seconds: float) -> dict[int, float]:
    """Spread evenly over so many seconds from now; when each is due."""
    now, dues = utc_now(), {}
    with stage.installation.resources.database.session(writing=True) as session:
        for place, item in enumerate(members):
            due = now + timedelta(seconds=seconds * place / len(members))
            session.execute(update(Token).where(col(Token.id) == item.token_id).values(next_refresh_at=due))
            dues[item.number] = due.timestamp()
        session.commit()
    return dues


def _herded(stage: Stage, members: Sequence[Item], part: str, dues: dict[int, float], unfinished: set[int]) -> Outcome:
    numbers = [item.number for item in members]
    stand, record = stage.provider.stand(), stage.provider.record(numbers)
    lost = stage.lost(stage.look(members))
    twice = sum(entry["hits"] > 1 for entry in record.values())
    closed = stage.closed_since(min(dues.values()))
    late = [max(0.0, closed[number] - due) for number, due in dues.items() if number in closed]
    notes = [f"{stand['most_in_flight']} in flight"] if stand["most_in_flight"] > CONCURRENCY else []
    notes += [f"refreshed more than once: {twice}"] if twice else []
    notes += [f"lost: {len(lost)}"] if lost else []
    notes += [f"not refreshed: {len(unfinished)}"] if unfinished else []
    notes += dead_processes(stage)
    stage.renew(lost.keys() | unfinished)
    return Outcome(part, not notes, len(numbers), len(lost), late, "; ".join(notes))


@row(
    "F36",
    "Rolling restarts under load, a migration, old and new code side by side",
    "nothing lost, nothing sent twice, no page fails, each process ends in good order",
    options={"mix": dict.fromkeys(Mode, 20), "portal": True},
    rounds=25,
    quick=4,
)
def deployments(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """Each part in turn, with slow replies under way; then from one version of the code to the other, and back."""
    browser = person(stage)
    stage.provider.ask("behave", delay=0.3)
    steps: dict[str, Callable[[], list[str]]] = {
        "worker": lambda: _restart(stage.workers[0]),
        "scheduler": lambda: _restart(stage.scheduler),
        "portal": lambda: _reload(stage),
        "migration": lambda: _migrate(stage),
    }
    for place in range(rounds):
        part = list(steps)[place % len(steps)]
        yield _under_load(stage, browser, part, steps[part])
    old = earlier_code(stage.installation.folder)
    for process in (*stage.workers, stage.scheduler):
        _restart(process, old)
    stage.wait_until_up()
    for place in range(rounds):
        # One after another becomes new, then one after another old again: one of four is always unlike the others.
        root = old if place // 4 % 2 else ROOT
        if place % 4 == 3:
            _exchange_portal(stage, root)
            yield _under_load(stage, browser, "old and new code", list)
        else:
            process = (*stage.workers, stage.scheduler)[place % 4]
            yield _under_load(stage, browser, "old and new code", partial(_restart, process, root))


def _under_load(stage: Stage, browser: Browser, part: str, act: Callable[[], list[str]]) -> Outcome:
    """Everything is due, somebody looks at pages, and something is restarted."""
    stage.wait_until_up()
    stage.provider.ask("forget_uses")
    before, since = stage.look(), time.time()
    with Watcher(browser, "/connections", "/operations", pause=0.05) as watcher:
        stage.make_due()
        stage.provider.wait_for_hits(1, 3.0)
        problems = act()
        unfinished = stage.wait_done(before, stage.patience)
    lost, record = stage.lost(stage.look()), stage.provider.record(stage.numbers)
    twice = sum(entry["hits"] > 1 for entry in record.values())
    problems += [f"pages failed: {dict(watcher.statuses)}"] if watcher.bad else []
    problems += [f"sent twice: {twice}"] if twice else []
    problems += [f"lost: {len(lost)}"] if lost else []
    problems += [f"not refreshed: {len(unfinished)}"] if unfinished else []
    stage.renew(lost.keys() | unfinished)
    waits = [closed - since for closed in stage.closed_since(since).values()]
    return Outcome(part, not problems, len(before), len(lost), waits, "; ".join(problems))


def _restart(process: Process, root: Path = ROOT) -> list[str]:
    """End it in good order, and start it with the code at `root`."""
    os.kill(process.pid, signal.SIGTERM)
    try:
        status = process.wait(DEADLINE + 10.0)
    except subprocess.TimeoutExpired:
        process.kill()
        status = -9
    process.root = root
    process.start()
    return [] if status == 0 else [f"the {process.name} ended with {status}"]


def _reload(stage: Stage) -> list[str]:
    assert stage.portal is not None
    os.kill(stage.portal.pid, signal.SIGHUP)
    return []


def _exchange_portal(stage: Stage, root: Path) -> None:
    """While nobody looks: there is one address, so that the old one has to be gone before the new one listens."""
    assert stage.portal is not None
    stage.portal.end()
    stage.portal.root = root
    stage.portal.start()
    stage.wait_until_served()


def _migrate(stage: Stage) -> list[str]:
    done = subprocess.run(
        [*FLASK, "db", "upgrade"], cwd=ROOT, env=stage.installation.environment(), capture_output=True, check=False
    )
    return [] if done.returncode == 0 else ["the migration failed"]


def earlier_code(folder: Path) -> Path:
    """The code as it was before the newest migration came, below `folder`. Raises NotPermitted."""
    newest = max((ROOT / "migrations" / "versions").glob("0*.py")).relative_to(ROOT)
    git = ["git", "-C", str(ROOT)]
    found = _said([*git, "log", "--diff-filter=A", "--format=%H", "--", str(newest)]).decode().split()
    if not found:
        raise NotPermitted(f"the code before {newest.name} is not at hand: this is no clone of the repository")
    root = folder / "earlier"
    root.mkdir()
    packed = _said([*git, "archive", "--format=tar", f"{found[-1]}^"])
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(root, filter="data")
    return root


def _said(command: Sequence[str]) -> bytes:
    """What a command prints. Raises NotPermitted when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise NotPermitted(f"the earlier code cannot be had from the repository: {problem}") from None
    return done.stdout

"""F1 to F5: processes that die, or stand still, while refreshes are under way."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench.faults.ledger import Mode
from bench.faults.provider import ACTED, HALF, RECEIVED
from bench.faults.rows import Outcome, row
from bench.faults.stage import Seen, Stage
from bench.installation import Process

GATHER_SECONDS = 2.5
"""How long requests may take to gather at a phase: well below their deadline."""
QUIET_SECONDS = 2.0
AT_RISK = {Mode.GRACE: 70, Mode.STRICT: 20, Mode.REJECT: 20, Mode.STATIC: 70, Mode.SOMETIMES: 20}
"""Two dozen kills put more than a thousand grants at risk in each mode that forgives."""
DELAYS = (0.0, 0.001, 0.002, 0.005, 0.010, 0.020, 0.050)
"""P4: seconds between the first reply and the kill."""


@dataclass
class Kill:
    """What one kill did, told by the provider's record and the database."""

    at: float
    at_risk: set[int]
    """Grants whose refresh was under way."""
    window: set[int] = field(default_factory=set)
    """Grants the provider had given a new token that was not stored when the process was dead."""
    lost: dict[int, str] = field(default_factory=dict)
    after: dict[int, Seen] = field(default_factory=dict)
    closed: dict[int, float] = field(default_factory=dict)
    unfinished: set[int] = field(default_factory=set)
    hits: dict[int, int] = field(default_factory=dict)
    most_uses: dict[int, int] = field(default_factory=dict)


def kill_round(stage: Stage, phase: str, *, drop: bool, delay: float = 0.0, victim: str = "") -> Kill:
    """Hundreds of refreshes reach a phase, the processes are killed, others are started; what became of it.

    An empty phase kills after `delay`, wherever the requests are by then. `victim` is both workers, the one that
    has the requests, or the scheduler.
    """
    before = stage.look()
    stage.provider.ask("forget_uses")
    stage.provider.hold(phase or RECEIVED)
    stage.make_due()
    if phase:
        stage.provider.wait_held(len(stage.items), GATHER_SECONDS)
    victims = {"": stage.workers, "worker": [stage.busiest()], "scheduler": [stage.scheduler]}[victim]
    at = _kill(victims, delay if not phase else 0.0)
    stage.provider.release(drop=drop)
    return _aftermath(stage, before, at)


def reply_round(stage: Stage, delay: float) -> Kill:
    """P4: all held replies are sent at once, and the kill comes so long after the first of them."""
    before = stage.look()
    stage.provider.ask("forget_uses")
    stage.provider.hold(ACTED)
    stage.make_due()
    stage.provider.wait_held(len(stage.items), GATHER_SECONDS)
    stage.provider.release(replies=1)
    return _aftermath(stage, before, _kill(stage.workers, delay))


def random_round(stage: Stage) -> Kill:
    """P5: nothing is held, and the kill comes at any moment; some requests are stored by then, some not sent."""
    before = stage.look()
    stage.provider.ask("forget_uses")
    stage.provider.ask("behave", delay=0.05)
    stage.make_due()
    at = _kill(stage.workers, random.uniform(0.1, 1.5))
    kill = _aftermath(stage, before, at)
    stage.provider.ask("behave", delay=0.0)
    return kill


def _kill(victims: Sequence[Process], delay: float) -> float:
    if delay:
        time.sleep(delay)
    at = time.time()
    for victim in victims:
        victim.signal(signal.SIGKILL)
    for victim in victims:
        victim.wait()
    return at


def _aftermath(stage: Stage, before: dict[int, Seen], at: float) -> Kill:
    """Look at the moment of death, let others take over, and look again."""
    # What was on its way is acted on by the provider, and by the database, though nobody waits for it any more.
    stage.provider.wait_until_quiet(QUIET_SECONDS)
    dead, truth = stage.look(), stage.provider.record(stage.numbers)
    under_way = {number for number, seen in dead.items() if seen.leased}
    kill = Kill(at, under_way)
    kill.window = {number for number in under_way if truth[number]["token"] != dead[number].refresh_token}
    stage.restart_workers()
    kill.unfinished = stage.wait_done(before, 2 * stage.patience)
    kill.after, kill.closed = stage.look(), stage.closed_since(at)
    kill.lost = stage.lost(kill.after)
    record = stage.provider.record(stage.numbers)
    kill.hits = {number: entry["hits"] for number, entry in record.items()}
    kill.most_uses = {number: entry["most_uses"] for number, entry in record.items()}
    return kill


def judge(stage: Stage, kill: Kill, mode: Mode, slack: float = 0.0) -> Outcome:
    """Whether the promise was kept to all grants of a mode; recovery may take `slack` longer."""
    longest = stage.patience + slack
    mine = {item.number for item in stage.items if item.mode is mode}
    risked, lost = kill.at_risk & mine, {number: why for number, why in kill.lost.items() if number in mine}
    waits = [kill.closed[number] - kill.at for number in risked if number in kill.closed]
    problems = Counter[str]()
    problems["lost though nothing had been replaced without being stored"] = len(lost.keys() - kill.window)
    problems["lost though the provider forgives"] = len(lost) if mode.forgives else 0
    problems["lost and not told as interrupted"] = sum(not kill.after[number].is_interrupted for number in lost)
    problems["shown as Connected though lost"] = sum(kill.after[number].state.shown == "Connected" for number in lost)
    problems["not lost and shown as needing authorization"] = sum(
        kill.after[number].state.shown != "Connected" for number in mine - lost.keys() - kill.unfinished
    )
    problems["neither fresh nor given up in time"] = len(kill.unfinished & mine)
    problems["a refresh token sent more than twice"] = sum(kill.most_uses[number] > 2 for number in mine)
    problems["sent twice though nobody died over it"] = sum(kill.hits[number] > 1 for number in mine - kill.at_risk)
    problems[f"recovery above {longest:.0f} s"] = sum(wait > longest for wait in waits)
    note = "; ".join(f"{words}: {count}" for words, count in problems.items() if count)
    return Outcome(mode.value, not note, len(risked), len(lost), waits, note)


def play(stage: Stage, kill: Kill) -> Iterator[Outcome]:
    """The outcomes of a kill, mode by mode; lost grants are consented to anew for the next round."""
    yield from (judge(stage, kill, mode) for mode in Mode if any(item.mode is mode for item in stage.items))
    stage.renew(kill.lost.keys() | kill.unfinished)


@row(
    "F1",
    "SIGKILL before the provider acts (P0, P1)",
    "old token intact, retaken in time, nothing lost in any mode",
    rounds=24,
    options={"mix": AT_RISK},
)
def before_the_request(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """P0 at a random moment from when tokens are due, P1 with all requests received and none acted on."""
    for place in range(rounds):
        phase, delay = (RECEIVED, 0.0) if place % 2 else ("", random.uniform(0, 0.8))
        yield from play(stage, kill_round(stage, phase, drop=True, delay=delay))


@row(
    "F2",
    "SIGKILL after the provider replaced tokens, before they are stored (P2 to P5)",
    "forgiving providers: nothing lost; others: lost only inside the window, and all of those flagged in time",
    rounds=24,
    quick=4,
    options={"mix": AT_RISK},
)
def before_the_commit(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """P2 and P3 with everything held there, P4 with all replies on their way, P5 at a random moment."""
    for place in range(rounds):
        phase = ("reply", ACTED, HALF, "random")[place % 4]
        if phase == "reply":
            kill = reply_round(stage, random.choice(DELAYS))
        elif phase == "random":
            kill = random_round(stage)
        else:
            kill = kill_round(stage, phase, drop=False)
        yield from play(stage, kill)


@row("F3", "SIGKILL after the commit", "the new token is used, the journal is closed, nothing lost", rounds=20)
def after_the_commit(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """All refreshes are stored, the workers die, and the next refresh uses what was stored."""
    for _ in range(rounds):
        before = stage.look()
        stage.provider.ask("forget_uses")
        stage.make_due()
        unfinished = stage.wait_done(before, stage.patience)
        kill = _aftermath(stage, before, _kill(stage.workers, 0.0))
        kill.at_risk, kill.unfinished = set(stage.numbers) - unfinished, unfinished
        again = stage.look()
        stage.make_due()
        kill.unfinished |= stage.wait_done(again, stage.patience)
        kill.after = stage.look()
        kill.lost = stage.lost(kill.after)
        yield from play(stage, kill)


@row(
    "F4",
    "Only one of two workers is killed, or the scheduler",
    "fencing: no token sent twice by the living, no older token over a newer",
    rounds=20,
)
def one_of_several(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """A worker here is one process: what can be left half-alive is one of several workers, or the scheduler."""
    for place in range(rounds):
        before = stage.look()
        kill = kill_round(stage, ACTED, drop=False, victim="scheduler" if place % 3 == 2 else "worker")
        if not stage.scheduler.is_running():
            stage.scheduler.start()
        older = sum(seen.generation < before[number].generation for number, seen in kill.after.items())
        assert not older, f"{older} generations went back"
        yield from play(stage, kill)


@row(
    "F5",
    "SIGSTOP past the lease, then SIGCONT",
    "the late commit is refused or identical; nothing lost where the provider forgives",
    rounds=20,
    options={"mix": dict.fromkeys(Mode, 20)},
)
def stopped_past_the_lease(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """A worker stands still with replies on their way; the others take over; it wakes up and stores late."""
    for _ in range(rounds):
        before = stage.look()
        stage.provider.ask("forget_uses")
        stage.provider.hold(ACTED)
        stage.make_due()
        stage.provider.wait_held(len(stage.items), GATHER_SECONDS)
        at, sleeper = time.time(), stage.busiest()
        sleeper.signal(signal.SIGSTOP)
        stage.provider.release()
        time.sleep(stage.lease * 1.5)
        sleeper.signal(signal.SIGCONT)
        time.sleep(1.0)
        yield from play(stage, _late(stage, before, at))


def _late(stage: Stage, before: dict[int, Seen], at: float) -> Kill:
    """What became of grants that one worker held while it stood still."""
    unfinished = stage.wait_done(before, stage.patience)
    after, record = stage.look(), stage.provider.record(stage.numbers)
    twice = {number for number, entry in record.items() if entry["hits"] > 1}
    return Kill(
        at,
        twice,
        window=twice,
        lost=stage.lost(after),
        after=after,
        closed=stage.closed_since(at),
        unfinished=unfinished,
        hits={number: entry["hits"] for number, entry in record.items()},
        most_uses={number: entry["most_uses"] for number, entry in record.items()},
    )

"""Refreshes a second of one worker process, and what they cost, against jobs for each token and a bare loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

from bench.arena import CONCURRENCY, Arena, Bare, Naive, Run, arena
from bench.crowd import Crowd
from bench.figures import Figure, Goal, Part, Wanted, compare

DATABASES = ("sqlite", "postgresql")
CROWD = 8000
ROUND_SECONDS, QUICK_SECONDS = 3.0, 1.5
WARM_UP = 400
FORK_JOBS, SIMPLE_JOBS = 15, 60
SLOW = 0.1
"""Seconds of the provider that is far away."""


def parts() -> Iterator[Part]:
    """All measurements of this module."""
    for kind in DATABASES:
        names = tuple(f"{stem}-{kind}" for stem in ("rate-fork", "rate-simple", "rate-bare-0ms", "cpu"))
        yield Part(names, partial(_fast, kind))
        yield Part((f"rate-bare-100ms-{kind}",), partial(_slow, kind))
    yield Part(("tls",), _tls)


def _fast(kind: str, wanted: Wanted) -> Iterator[Figure]:
    setup = f"{kind}, 1 worker, 0 ms provider, {CONCURRENCY} in flight, tokens of 800 characters that rotate"
    with ExitStack() as stack:
        place = stack.enter_context(arena(kind))
        bare = stack.enter_context(closing(Bare()))
        crowd = place.settle(CROWD)
        contenders = {
            name: stack.enter_context(closing(Naive(place, name, jobs)))
            for name, jobs in (("fork", FORK_JOBS), ("simple", SIMPLE_JOBS))
            if wanted.wants(f"rate-{name}-{kind}")
        }
        count = warm_up(place, crowd, wanted)
        url = f"http://{place.endpoint.host}/token"
        ours: list[Run] = []
        theirs: dict[str, list[Run]] = {"bare": [], **{name: [] for name in contenders}}
        for _ in range(wanted.rounds):
            ours.append(place.refresh(crowd, count))
            theirs["bare"].append(bare.run(url, count))
            for name, contender in contenders.items():
                theirs[name].append(contender.run())
        place.judge().demand(CONCURRENCY)
    rates = [run.rate for run in ours]
    goals = {
        "fork": ("rate-fork", Goal(200), "one RQ job per token, forking worker, modules preloaded"),
        "simple": ("rate-simple", Goal(30), "one RQ job per token, SimpleWorker"),
        "bare": ("rate-bare-0ms", Goal(0.2), "a bare loop over aiohttp"),
    }
    for name, runs in theirs.items():
        stem, goal, words = goals[name]
        yield compare(f"{stem}-{kind}", "refreshes/s", setup, goal, rates, words, [run.rate for run in runs])
    costs, bare_costs = ([run.cpu_each * 1e6 for run in runs] for runs in (ours, theirs["bare"]))
    words = "CPU of a request in a bare loop over aiohttp"
    yield compare(f"cpu-{kind}", "µs of CPU/refresh", setup, Goal(at_most=6), costs, words, bare_costs)


def _slow(kind: str, wanted: Wanted) -> Iterator[Figure]:
    setup = f"{kind}, 1 worker, 100 ms provider, {CONCURRENCY} in flight"
    with ExitStack() as stack:
        place = stack.enter_context(arena(kind))
        bare = stack.enter_context(closing(Bare()))
        crowd = place.settle(CROWD)
        place.endpoint.ask("behave", latency=SLOW)
        count = warm_up(place, crowd, wanted)
        pairs = interleave(
            wanted.rounds,
            lambda: place.refresh(crowd, count),
            lambda: bare.run(f"http://{place.endpoint.host}/token", count),
        )
        place.judge().demand(CONCURRENCY)
    yield compare(
        f"rate-bare-100ms-{kind}",
        "refreshes/s",
        setup,
        Goal(0.8),
        [run.rate for run in pairs[0]],
        "a bare loop over aiohttp",
        [run.rate for run in pairs[1]],
    )


def _tls(wanted: Wanted) -> Iterator[Figure]:
    setup = (
        f"postgresql, 1 worker, 0 ms provider, {CONCURRENCY} in flight, from the second quarter on (connections made)"
    )
    with arena("postgresql", secure=True) as place:
        plain, secure = place.settle(CROWD), place.settle(CROWD, secure=True)
        count = min(warm_up(place, plain, wanted), warm_up(place, secure, wanted))
        pairs = interleave(wanted.rounds, lambda: _steady(place, secure, count), lambda: _steady(place, plain, count))
        place.judge().demand(CONCURRENCY)
    rates = [[run.rate for run in runs] for runs in pairs]
    yield compare("tls", "refreshes/s", setup, Goal(0.7), rates[0], "the same without TLS", rates[1])


def _steady(place: Arena, crowd: Crowd, count: int) -> Run:
    """A round's last three quarters, by the endpoint's own clock: the connections are there by then."""
    place.endpoint.ask("watch")
    run = place.refresh(crowd, count)
    moments: list[float] = sorted(place.endpoint.ask("watched"))
    start = len(moments) // 4
    return Run(len(moments) - start, moments[-1] - moments[start], run.cpu)


def interleave(rounds: int, *contenders: Callable[[], Run]) -> list[list[Run]]:
    """A B A B …: every contender once in each round."""
    played: list[list[Run]] = [[] for _ in contenders]
    for _ in range(rounds):
        for contender, runs in zip(contenders, played, strict=True):
            runs.append(contender())
    return played


def warm_up(place: Arena, crowd: Crowd, wanted: Wanted) -> int:
    """Two rounds that do not count; returns how many refreshes fill a round's time."""
    place.refresh(crowd, WARM_UP)
    rate = place.refresh(crowd, WARM_UP).rate
    return max(WARM_UP, min(crowd.count, int(rate * (QUICK_SECONDS if wanted.quick else ROUND_SECONDS))))

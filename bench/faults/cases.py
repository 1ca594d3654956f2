"""Replies played to the product's workers, each case at a host of its own so that none disturbs another."""

from __future__ import annotations

import base64
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import select
from sqlmodel import col

from bench.faults.ledger import COPIES, Mode
from bench.faults.outages import dead_processes
from bench.faults.rows import Outcome
from bench.faults.stage import ENDED, Item, Seen, Stage
from models import Connection, Token
from oauth.vocabulary import FailureClass

MODES = (Mode.STRICT, Mode.REJECT, Mode.GRACE, Mode.STATIC)
MOST_SECONDS = 25.0
SILENCE_SECONDS = 2.0
"""How long a connection that was given up is watched for further requests."""
FIRST_HOST = 2
"""Cases are at 127.0.0.2 and onward, and so is each copy of a case."""


class Expect(Enum):
    """What is to become of a connection."""

    STORED = "stored at once"
    RETRIED = "retried, then stored"
    KEPT = "tokens kept, nobody asked to authorize"
    DEAD = "needs authorization after one request, then silence"
    STOPPED = "misconfigured after one request, then silence, tokens kept"
    IN_DOUBT = "one more try with the same token; interrupted where the provider does not forgive"


@dataclass(frozen=True)
class Case:
    """One scripted answer, or several."""

    name: str
    replies: Sequence[Mapping[str, Any]]
    expect: Expect
    modes: Sequence[Mode] = MODES
    wait: tuple[float, float] = (0.0, MOST_SECONDS)
    """Between which seconds after the first request the next one has to come."""
    due: tuple[float, float] | None = None
    """Between which seconds from now the next try is planned, where that is too long to wait for."""
    kind: FailureClass | None = None
    """How the failure is to be sorted."""
    endpoints: Sequence[str] = ()
    """The token endpoint of each copy, where it is not the provider's."""
    apart: bool = False
    """Whether each connection has a host of its own, so that its failures alone count and no breaker opens."""
    scope: str | None = None
    """As it has to be stored."""
    longest: float | None = None
    """Seconds until the end of the token, at most."""


def reply(body: str | bytes = b"", status: int = 200, *, acts: bool = False, **more: Any) -> dict[str, Any]:
    """One answer; with `acts` the provider does its part first, as for any refresh."""
    data = body.encode() if isinstance(body, str) else body
    return {"body": base64.b64encode(data).decode(), "status": status, "acts": acts, **more}


def play(stage: Stage, cases: Sequence[Case], copies: int = COPIES) -> Iterator[Outcome]:
    """All cases at once, to so many connections of each mode."""
    items = prepare(stage, cases, copies)
    everybody = [item for mine in items.values() for item in mine]
    stage.renew([item.number for item in everybody])
    stage.forget_hosts()
    stage.provider.ask("forget_uses")
    for case in cases:
        stage.provider.ask("script", numbers=[item.number for item in items[case.name]], replies=list(case.replies))
    before = stage.look(everybody)
    stage.make_due(everybody)
    shown = _follow(stage, cases, items, before)
    after, hits = stage.look(everybody), stage.provider.hits([item.number for item in everybody])
    lost, sorts = stage.lost(after), _sorts(stage, everybody)
    for case in cases:
        for item in items[case.name]:
            notes = [*_judge(case, item, before, after, hits, lost, shown), *_details(case, item, after, sorts)]
            notes += dead_processes(stage)
            words = "; ".join(f"{item.mode.value}: {note}" for note in notes)
            gone = item.number in lost and case.expect not in (Expect.DEAD, Expect.IN_DOUBT)
            yield Outcome(case.name, not notes, 1, int(gone), (), words)
    stage.provider.ask("script", numbers=[item.number for item in everybody], replies=[])


def prepare(stage: Stage, cases: Sequence[Case], copies: int = COPIES) -> dict[str, list[Item]]:
    """The connections of each case, made when it is played for the first time."""
    found: dict[str, list[Item]] = {
        case.name: [item for item in stage.items if item.case == case.name] for case in cases
    }
    hosts = (f"http://127.0.0.{number}:{stage.provider.port}/token" for number in itertools.count(FIRST_HOST))
    for case in cases:
        if found[case.name]:
            continue
        for copy in range(copies):
            endpoint = case.endpoints[copy] if case.endpoints else next(hosts)
            for place, mode in enumerate(case.modes):
                endpoint = next(hosts) if case.apart and place else endpoint
                found[case.name] += stage.add(mode, 1, case=case.name, token_endpoint=endpoint)
    return found


def _follow(
    stage: Stage, cases: Sequence[Case], items: Mapping[str, Sequence[Item]], before: Mapping[int, Seen]
) -> dict[int, set[str]]:
    """Watch until every connection has come to rest as expected, or time is up; which words each showed."""
    until, shown = time.monotonic() + MOST_SECONDS, defaultdict[int, set[str]](set)
    everybody = [item for mine in items.values() for item in mine]
    while time.monotonic() < until:
        now = stage.look(everybody)
        for number, seen in now.items():
            shown[number].add(seen.state.shown)
        if all(_at_rest(case, now[item.number], before[item.number]) for case in cases for item in items[case.name]):
            break
        time.sleep(0.2)
    time.sleep(SILENCE_SECONDS)
    return shown


def _at_rest(case: Case, now: Seen, before: Seen) -> bool:
    if now.leased:
        return False
    stored, ended = now.generation > before.generation, now.state in ENDED
    if case.expect is Expect.KEPT or case.due is not None:
        return stored or ended or now.failed
    return stored or ended


def _judge(
    case: Case,
    item: Item,
    before: Mapping[int, Seen],
    after: Mapping[int, Seen],
    hits: Mapping[int, list[float]],
    lost: Mapping[int, str],
    shown: Mapping[int, set[str]],
) -> Iterator[str]:
    """What is not as expected."""
    number = item.number
    seen, came = after[number], len(hits[number])
    stored, word = seen.generation > before[number].generation, seen.state.shown
    forgives = case.expect is not Expect.IN_DOUBT or item.mode.forgives
    if case.expect is not Expect.DEAD and forgives:
        if number in lost:
            yield f"lost ({lost[number]})"
        if "Needs authorization" in shown[number] | {word}:
            yield "a person was asked to authorize"
    if case.expect in (Expect.STORED, Expect.RETRIED) and not (stored and word == "Connected") and case.due is None:
        yield f"not stored, shown as {word}: {seen.reason[:100]}"
    if case.expect is Expect.STORED and came != 1:
        yield f"{came} requests"
    if case.expect is Expect.RETRIED and case.due is None:
        yield from _waited(case, hits[number])
    if case.expect is Expect.DEAD and (word, came) != ("Needs authorization", 1):
        yield f"shown as {word} after {came} requests"
    if case.expect is Expect.STOPPED and (word, came) != ("Misconfigured", 1):
        yield f"shown as {word} after {came} requests"
    if case.expect is Expect.KEPT and word == "Connected" and not stored and seen.failed:
        yield "shown as Connected though nothing new came"
    if case.expect is Expect.IN_DOUBT:
        good = stored and word == "Connected" if item.mode.forgives else seen.is_interrupted
        if not good or came != 2:
            yield f"shown as {word} after {came} requests: {seen.reason[:100]}"


def _waited(case: Case, came: Sequence[float]) -> Iterator[str]:
    if len(came) < 2:
        yield f"{len(came)} requests"
    elif not case.wait[0] <= came[1] - came[0] <= case.wait[1]:
        yield f"the next request came after {came[1] - came[0]:.1f} s"


def _details(case: Case, item: Item, after: Mapping[int, Seen], sorts: Mapping[int, tuple[Any, ...]]) -> Iterator[str]:
    kind, scope, lifetime = sorts[item.number]
    if case.kind is not None and kind is not case.kind:
        yield f"sorted as {kind and kind.value}"
    if case.scope is not None and scope != case.scope:
        yield f"the scope is {scope!r}"
    if case.longest is not None and (lifetime is None or not 0 < lifetime <= case.longest):
        yield f"taken to live for {lifetime} s"
    due = after[item.number].next_refresh_at
    if case.due is not None:
        wait = due.timestamp() - time.time() if due else None
        if wait is None or not case.due[0] <= wait <= case.due[1]:
            yield f"the next try comes in {wait} s"


def _sorts(stage: Stage, items: Sequence[Item]) -> dict[int, tuple[Any, ...]]:
    """(class of the failure, scope, lifetime) as stored."""
    by_id = {item.connection_id: item.number for item in items}
    query = select(Token, col(Connection.failure_class)).join(
        Connection, col(Connection.id) == col(Token.connection_id)
    )
    with stage.installation.resources.database.session() as session:
        rows = session.execute(query).all()
    return {
        by_id[token.connection_id]: (kind, token.scope, token.lifetime)
        for token, kind in rows
        if token.connection_id in by_id
    }

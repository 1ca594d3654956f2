"""F15, F16, F27, F31, T2: connections that fail, replies that never end or come late, and how soon they are stored."""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import select
from sqlmodel import col

from bench.faults.cases import Case, Expect, play, reply
from bench.faults.kills import GATHER_SECONDS
from bench.faults.ledger import COPIES, HOSTS, Mode
from bench.faults.outages import dead_processes
from bench.faults.portal import Browser, person
from bench.faults.provider import ACTED
from bench.faults.rows import Outcome, percentile, row
from bench.faults.stage import DEADLINE, LEASE, Item, Stage
from models import Card, CardAuthorization, Refresh
from oauth.vocabulary import FailureClass

NOBODY: dict[str, Any] = {"mix": {}}
MOST_MEMORY = 50 * 1024
"""KiB that a worker may grow by while it reads what nobody should send."""
LATE = 1.5
"""Seconds by which a request may end after its deadline."""
LOOK_AGAIN = 0.0002
"""Seconds between two looks of T2: without them the looking itself takes a processor away from what is measured."""
COMMIT_P99 = 0.010
"""T2: seconds from the last byte of a reply to its durable commit."""


@row(
    "F15",
    "connection refused, nobody answers, reset, no such name, certificates expired, for another name, of a stranger",
    "transient, tokens kept; certificates named as such",
    options={**NOBODY, "edges": True},
    rounds=1,
    quick=1,
)
def connections(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """With an authority that the product trusts, and one good certificate of it to prove that."""
    edges = stage.edges
    assert edges is not None
    down, bad = FailureClass.PROVIDER_DOWN, FailureClass.CERTIFICATE
    plain = [f"127.0.0.{HOSTS - copy}:{stage.provider.port}" for copy in range(COPIES)]
    addresses = {
        "refused": [f"http://localhost:{port}" for port in edges.refused],
        "no answer": [f"http://127.0.0.1:{port}" for port in edges.deaf],
        "no such name": [f"https://no-such-host-{copy}.invalid" for copy in range(COPIES)],
        "not TLS": [f"https://{address}" for address in plain],
        **{name: [f"https://localhost:{port}" for port in ports] for name, ports in edges.tls.items()},
    }
    cases = [Case("reset", [reply(how="reset")], Expect.RETRIED)]
    for name, places in addresses.items():
        good = name == "good"
        kind = None if good else bad if name in edges.tls else down
        endpoints = [f"{place}/token" for place in places]
        cases.append(Case(name, [], Expect.STORED if good else Expect.KEPT, kind=kind, endpoints=endpoints))
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F16",
    "A reply that never comes, 1 byte a second, without end, of 64 MB, a gzip bomb",
    "ended at the deadline, memory bounded; in doubt: one more try with the same token",
    options=NOBODY,
    rounds=5,
    quick=1,
    alone=True,
)
def endless(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The provider has acted each time, so that what does not come is the only copy."""
    ways = {"never": "hang", "1 byte a second": "drip", "without end": "endless", "64 MB": "big", "gzip bomb": "bomb"}
    cases = [Case(name, [reply(how=how, acts=True)], Expect.IN_DOUBT) for name, how in ways.items()]
    for _ in range(rounds):
        since, before = time.time(), _forget_peaks(stage)
        yield from play(stage, cases, copies=1)
        grown = max(peak - before[pid] for pid, peak in _peaks(stage).items())
        longest = _longest_request(stage, since)
        notes = [f"grew by {grown // 1024} MB"] if grown > MOST_MEMORY else []
        notes += [f"a request took {longest:.1f} s"] if longest > DEADLINE + LATE else []
        yield Outcome("memory and time", not notes, 0, 0, (), "; ".join(notes))


def _forget_peaks(stage: Stage) -> dict[int, int]:
    """Let the system count anew how large processes become; how large they are now, in KiB."""
    found = {}
    for process in (stage.scheduler, *stage.workers):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        found[process.pid] = _memory(process.pid, "VmRSS")
    return found


def _peaks(stage: Stage) -> dict[int, int]:
    return {process.pid: _memory(process.pid, "VmHWM") for process in (stage.scheduler, *stage.workers)}


def _memory(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _longest_request(stage: Stage, since: float) -> float:
    """Seconds from the journal's "sent" to its end."""
    query = select(col(Refresh.sent_at), col(Refresh.closed_at)).where(col(Refresh.closed_at).is_not(None))
    with stage.installation.resources.database.session() as session:
        rows = session.execute(query).all()
    return max(
        ((closed - sent).total_seconds() for sent, closed in rows if closed and sent.timestamp() > since), default=0.0
    )


@row(
    "F31",
    "The provider is slower than the deadline, than the lease",
    "in time: stored; later: in doubt, one more try, never a third",
    options=NOBODY,
    rounds=1,
    quick=1,
    alone=True,
)
def late(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The provider has acted, and its reply comes into a connection that may be closed by then."""
    times = {"just in time": 0.7 * DEADLINE, "after the deadline": 1.25 * DEADLINE, "after the lease": LEASE + 2.0}
    cases = [
        Case(
            name,
            [reply('{"access_token": "{access}", "refresh_token": "{refresh}"}', acts=True, how="late", seconds=wait)],
            Expect.STORED if wait < DEADLINE else Expect.IN_DOUBT,
        )
        for name, wait in times.items()
    ]
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F27",
    "The API answers 401 to a fresh token",
    "one forced refresh, one more call, then an error on the card; no loop",
    options={"mix": {Mode.STRICT: 4}, "portal": True},
    rounds=20,
)
def refused_by_the_api(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """By turns an API that refuses whatever comes, and a provider that has ended the access token alone."""
    browser = person(stage)
    cards = {item.number: _card(stage, item) for item in stage.items}
    for place in range(rounds):
        item = stage.items[place % len(stage.items)]
        always = place % 2 == 0
        stage.provider.ask("forget_uses")
        if always:
            stage.provider.ask("api", numbers=[item.number], status=401)
        else:
            stage.provider.ask("end_access", numbers=[item.number])
        page = _preview(browser, cards[item.number])
        stage.provider.ask("api", numbers=[item.number], status=0)
        yield _one_refresh(stage, item, always, page.status, f"Customer {item.number}" in page.text)


def _card(stage: Stage, item: Item) -> uuid.UUID:
    row = Card(
        workspace_id=item.workspace_id,
        title=f"Card {item.number}",
        hook_url=f"{stage.base}/api/{item.number}",
        authorization=CardAuthorization.OAUTH,
        connection_id=item.connection_id,
        template_content="<h1>{{ customer.name }}</h1>",
    )
    with stage.installation.resources.database.session(writing=True) as session:
        session.add(row)
        session.commit()
    return row.id


def _preview(browser: Browser, card: uuid.UUID) -> Any:
    return browser.post(f"/cards/{card}/preview", form_from=f"/cards/{card}")


def _one_refresh(stage: Stage, item: Item, always: bool, status: int, shown: bool) -> Outcome:
    hits = stage.provider.record([item.number])[item.number]["hits"]
    calls = stage.provider.stand()["api_hits"].get(str(item.number), 0)
    lost = stage.lost(stage.look([item]))
    notes = [f"the page answered {status}"] if status >= 500 else []
    notes += [f"{hits} refreshes"] if hits != 1 else []
    notes += [f"{calls} calls"] if calls != 2 else []
    notes += ["the card was not shown"] if not always and not shown else []
    notes += [*(f"lost: {why}" for why in lost.values()), *dead_processes(stage)]
    stage.renew(lost)
    return Outcome("refuses always" if always else "access token ended", not notes, 1, len(lost), (), "; ".join(notes))


@row(
    "T2",
    "From the last byte of a reply to its durable commit",
    "p99 at most 10 ms, one at a time",
    options={"mix": {Mode.STRICT: 100}},
    rounds=3,
    quick=1,
    alone=True,
)
def commit(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """From when the provider's system took the last byte until another connection to the database reads the new row.

    Read again and again by this process, so what is told is never too short; it includes the loop's own time, and the
    pause in it that leaves the worker a processor.
    """
    for _ in range(rounds):
        waits = sorted(_one_wait(stage, item) for item in stage.items)
        p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
        note = f"one at a time: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
        yield Outcome("one at a time", p99 <= COMMIT_P99, len(waits), 0, waits, note)
        waits = sorted(_many_waits(stage).values())
        p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
        note = f"{len(waits)} replies at once: p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"
        yield Outcome("all at once, for the record", kept=True, grants=len(waits), recovery=waits, note=note)


def _one_wait(stage: Stage, item: Item) -> float:
    read, close = _reader(stage, item)
    before = read()
    stage.make_due([item])
    until = time.monotonic() + 10
    while read() == before:
        time.sleep(LOOK_AGAIN)
        if time.monotonic() > until:
            raise TimeoutError("nothing was stored")
    stored = time.time()
    close()
    return max(0.0, stored - float(stage.provider.record([item.number])[item.number]["replied"]))


def _reader(stage: Stage, item: Item) -> tuple[Callable[[], Any], Callable[[], None]]:
    """Reads one token's generation over a connection of its own, as fast as may be."""
    if stage.kind == "sqlite":
        line = sqlite3.connect(stage.installation.database.url.removeprefix("sqlite:///"))
        words, key = "SELECT generation FROM tokens WHERE id = ?", (item.token_id.hex,)
        return lambda: line.execute(words, key).fetchone(), line.close
    connection = stage.installation.resources.database.engine.connect()
    connection = connection.execution_options(isolation_level="AUTOCOMMIT")
    query = sa.text("SELECT generation FROM tokens WHERE id = :id")
    return lambda: connection.execute(query, {"id": item.token_id}).scalar_one(), connection.close


def _many_waits(stage: Stage) -> dict[int, float]:
    """The same with all replies at once, read every few milliseconds."""
    before = {number: seen.generation for number, seen in stage.look().items()}
    stage.provider.hold(ACTED)
    stage.make_due()
    stage.provider.wait_held(len(stage.items), GATHER_SECONDS)
    stage.provider.release()
    seen: dict[int, float] = {}
    until = time.monotonic() + 10
    while len(seen) < len(before) and time.monotonic() < until:
        now, found = time.time(), stage.look()
        seen |= {n: now for n, entry in found.items() if n not in seen and entry.generation > before[n]}
    replied = {number: entry["replied"] for number, entry in stage.provider.record(list(seen)).items()}
    return {number: max(0.0, moment - replied[number]) for number, moment in seen.items()}

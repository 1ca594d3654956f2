"""F29, F30, F33: many at once, and people who change their mind while a refresh is under way."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

from rq import Queue
from rq.serializers import JSONSerializer
from sqlalchemy import func, select
from sqlmodel import col

from bench.faults.kills import GATHER_SECONDS
from bench.faults.ledger import Mode
from bench.faults.outages import dead_processes
from bench.faults.portal import Browser, fields_of, person
from bench.faults.provider import ACTED
from bench.faults.rows import Outcome, row
from bench.faults.stage import Item, Stage
from bench.installation import FLASK, ROOT
from models import Connection
from models.types import utc_now
from services.operating import keys
from workers import queue

WORKERS, CALLERS, CALLER_PROCESSES = 8, 8, 2
AT_ONCE = 50
ROUNDS = 20
"""Times the above: everybody meets at a token a thousand times."""
CALLBACKS = 20


class Callers:
    """Processes like the portal's, in which previews ask for tokens."""

    def __init__(self, stage: Stage) -> None:
        """Start them."""
        command, environment = [sys.executable, "-m", "bench.faults.callers"], stage.installation.environment()
        self._processes = [
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(CALLER_PROCESSES)
        ]
        for process in self._processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"

    def ask(self, items: Sequence[Item], callers: int) -> list[tuple[str, str]]:
        """What everybody got who asked for these connections at the same moment."""
        wanted = [(str(item.workspace_id), str(item.connection_id)) for item in items]
        line = json.dumps({"wanted": wanted, "callers": callers // len(self._processes)}) + "\n"
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(line)
            process.stdin.flush()
        answers = []
        for process in self._processes:
            assert process.stdout is not None
            answers += [tuple(pair) for pair in json.loads(process.stdout.readline())]
        return answers

    def close(self) -> None:
        """End them."""
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.wait(30)
            process.stdout.close()


@row(
    "F30",
    "8 workers, 8 previews and a press of Refresh now, all at the moment a token runs out",
    "one request for each token, everybody served",
    options={"mix": {Mode.STRICT: AT_ONCE}, "workers": WORKERS, "portal": True},
    rounds=ROUNDS,
)
def everybody_at_once(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """A strict provider, which ends the grant at the first token sent twice."""
    browser, callers = person(stage), Callers(stage)
    try:
        for place in range(rounds):
            stage.provider.ask("forget_uses")
            before = stage.look()
            now = utc_now()
            stage.set_tokens(next_refresh_at=now, expires_at=now)
            _ring_everybody(stage)
            with ThreadPoolExecutor(1) as pool:
                one = stage.items[place % len(stage.items)].connection_id
                pressed = pool.submit(browser.post, f"/connections/{one}/refresh", f"/connections/{one}")
                got = callers.ask(stage.items, CALLERS)
                status = pressed.result().status
            unfinished = stage.wait_done(before, stage.patience)
            stage.wait_until_still(stage.patience)
            yield _served(stage, got, unfinished, status)
    finally:
        callers.close()


def _ring_everybody(stage: Stage) -> None:
    """As many rings as there are workers, so that none of them sleeps."""
    with stage.installation.redis.client() as client:
        bell = Queue(queue.NAME, connection=client, serializer=JSONSerializer)
        for _ in range(WORKERS):
            bell.enqueue_call(queue.DRAIN, result_ttl=0, ttl=60, failure_ttl=60, description="drain")


def _served(stage: Stage, got: list[tuple[str, str]], unfinished: set[int], status: int) -> Outcome:
    after, record = stage.look(), stage.provider.record(stage.numbers)
    lost = stage.lost(after)
    live = {str(item.connection_id): record[item.number]["access"] for item in stage.items}
    # Refresh now may have come a moment later and is a wish of its own: then there are two requests, one after another.
    strange = sorted({token.partition(":")[0][:40] for one, token in got if token != live[one] and "at." not in token})
    twice = sum(entry["most_uses"] > 1 for entry in record.values())
    notes = [
        *([f"callers turned away: {strange}"] if strange else []),
        *([f"a refresh token was sent twice: {twice}"] if twice else []),
        *([f"lost: {len(lost)}"] if lost else []),
        *([f"not refreshed: {len(unfinished)}"] if unfinished else []),
        *([f"Refresh now answered {status}"] if status != 303 else []),
        *dead_processes(stage),
    ]
    stage.renew(lost.keys() | unfinished)
    return Outcome("", not notes, len(stage.items), len(lost), (), "; ".join(notes))


def press_authorize(browser: Browser, item: Item) -> str:
    """Press Authorize and agree at the provider; the address of the callback, not visited yet."""
    form = f"/connections/{item.connection_id}"
    started = browser.post(f"{form}/authorize", form_from=form)
    page = browser.get(urlsplit(started.headers["location"]).path).text
    found = re.search(r'<a [^>]*href="([^"]+)"[^>]*data-onward', page)
    assert found, f"there is no way onward: {started.status}"
    asked = parse_qs(urlsplit(unescape(found[1])).query)
    code = f"code.{item.number}.{time.time_ns()}"
    return f"/auth/provider/callback?{urlencode({'code': code, 'state': asked['state'][0]})}"


@row(
    "F29",
    "Twenty callbacks at once; a callback while a refresh runs; Authorize over a living grant",
    "one token request, the newest consent wins",
    options={"mix": {Mode.STRICT: 9}, "portal": True},
    rounds=30,
)
def callbacks(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The harness plays the person and the provider's page; a code that comes twice ends the grant."""
    browser = person(stage)
    cases = ("twenty at once", "while a refresh runs", "over a living grant")
    for place in range(rounds):
        case, item = cases[place % 3], stage.items[place % len(stage.items)]
        stage.provider.ask("forget_uses")
        address = press_authorize(browser, item)
        if place % 3 == 1:
            stage.provider.hold(ACTED)
            stage.make_due([item])
            stage.provider.wait_held(1, GATHER_SECONDS)
        with ThreadPoolExecutor(CALLBACKS) as pool:
            visits = [pool.submit(browser.get, address) for _ in range(CALLBACKS if place % 3 == 0 else 1)]
            time.sleep(0.5)
            stage.provider.release()
            statuses = {visit.result().status for visit in visits}
        time.sleep(1.0)
        yield _consented(stage, item, case, statuses)


def _consented(stage: Stage, item: Item, case: str, statuses: set[int]) -> Outcome:
    record = stage.provider.record([item.number])[item.number]
    seen = stage.look([item])
    lost = stage.lost(seen)
    notes = [f"lost: {why}" for why in lost.values()]
    notes += [f"pages answered {sorted(statuses)}"] if max(statuses) >= 500 else []
    notes += [f"{record['codes']} token requests with the code"] if record["codes"] != 1 else []
    notes += [f"shown as {seen[item.number].state.shown}"] if seen[item.number].state.shown != "Connected" else []
    stage.renew(lost)
    return Outcome(case, not notes, 1, len(lost), (), "; ".join(notes))


@row(
    "F33",
    "A connection is deleted, or edited, or the key is exchanged, while its refresh is under way",
    "the deletion stays, the edit and the new token are both kept, everything opens with the new key alone",
    options={"mix": dict.fromkeys(Mode, 8), "portal": True},
    rounds=21,
)
def changed_meanwhile(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """Replies are held while somebody acts."""
    browser = person(stage)
    for place in range(rounds):
        case = ("deleted", "edited", "key exchanged")[place % 3]
        item = stage.items[place % len(stage.items)]
        if case == "key exchanged":
            _take_up_a_new_key(stage, place)
            browser = person(stage)
            stage.provider.ask("forget_uses")
            before = stage.look()
            problems = _exchange_keys(stage)
        else:
            stage.provider.ask("forget_uses")
            before = stage.look()
            stage.provider.hold(ACTED)
            stage.make_due()
            stage.provider.wait_held(len(stage.items), GATHER_SECONDS)
            problems = _act(browser, item, case)
            stage.provider.release()
        if case == "deleted":
            stage.items.remove(item)
            before.pop(item.number)
        unfinished = stage.wait_done(before, stage.patience + stage.lease)
        yield _kept_all(stage, item, case, unfinished, problems)


def _act(browser: Browser, item: Item, case: str) -> list[str]:
    page = f"/connections/{item.connection_id}"
    if case == "deleted":
        reply = browser.post(f"{page}/delete", form_from=f"{page}/delete")
    else:
        typed = fields_of(browser.get(page).text, page)
        reply = browser.post(page, **{**typed, "name": f"Edited {time.time_ns()}"})
    return [] if reply.status == 303 else [f"the portal answered {reply.status}"]


def _take_up_a_new_key(stage: Stage, place: int) -> None:
    """Every process is started again with a new key before the old one, as the handbook says."""
    old = stage.installation.settings["encryption_keys"]
    stage.installation.change(encryption_keys=f"k{place + 10}:{keys.new_key().rpartition(':')[2]},{old}")
    everybody = [stage.scheduler, *stage.workers, *([stage.portal] if stage.portal else [])]
    for process in everybody:
        process.end()
        process.environment = stage.installation.environment()
        process.start()
    stage.wait_until_served()


def _exchange_keys(stage: Stage) -> list[str]:
    """`flask keys rotate` while everything is refreshed, killed on its way, started again; the new key alone stays."""
    command, environment = [*FLASK, "keys", "rotate"], stage.installation.environment()
    first = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(random.uniform(1.0, 3.0))
    first.kill()
    first.wait()
    second = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while second.poll() is None:
        stage.provider.ask("forget_uses")
        before = stage.look()
        stage.make_due()
        stage.wait_done(before, stage.patience)
    assert second.stderr is not None
    said = second.stderr.read().decode()
    second.stderr.close()
    stage.installation.change(encryption_keys=stage.installation.settings["encryption_keys"].partition(",")[0])
    before = stage.look()  # fails when something was left under the old key
    stage.provider.ask("forget_uses")
    stage.make_due()
    stage.wait_done(before, stage.patience)
    return [] if second.returncode == 0 else [f"keys rotate: {said[-200:]}"]


def _kept_all(stage: Stage, item: Item, case: str, unfinished: set[int], problems: list[str]) -> Outcome:
    after, record = stage.look(), stage.provider.record(stage.numbers)
    lost = stage.lost(after)
    notes = [*problems, *dead_processes(stage)]
    notes += [f"lost: {len(lost)}"] if lost else []
    notes += [f"not refreshed: {len(unfinished)}"] if unfinished else []
    notes += ["sent twice"] if any(entry["most_uses"] > 1 for entry in record.values()) else []
    if case == "deleted":
        with stage.installation.resources.database.session() as session:
            query = select(func.count()).select_from(Connection).where(col(Connection.id) == item.connection_id)
            notes += ["the connection is there again"] if session.execute(query).scalar_one() else []
    stage.renew(lost.keys() | unfinished)
    return Outcome(case, not notes, len(stage.items), len(lost), (), "; ".join(notes))

"""After a long stop everything is due at once: no storm, nobody starved, and spread out from then on (F35)."""

import threading
import time
from collections import Counter
from datetime import timedelta

import pytest
from pytest_httpserver import HTTPServer
from werkzeug.wrappers import Response

from models import Outcome, Priority, Refresh, Token
from models.types import utc_now
from services.engine import tokens
from services.resources import Resources
from tests.support.together import at_once

SLOW, QUICK = 60, 240
LIFETIME = 3600


class Provider:
    """Two hosts, one slow; notes how many requests each has at once, and in which order they came."""

    def __init__(self):
        self.most, self.order = Counter(), []
        self._now, self._lock = Counter(), threading.Lock()
        self.servers = {name: HTTPServer(port=0, threaded=True) for name in ("slow", "quick")}
        for name, server in self.servers.items():
            server.expect_request("/token").respond_with_handler(lambda request, name=name: self.answer(name, request))
            server.start()

    def url(self, name):
        return f"http://127.0.0.1:{self.servers[name].port}/token"

    def answer(self, name, request):
        with self._lock:
            self._now[name] += 1
            self.most[name] = max(self.most[name], self._now[name])
            self.order.append(request.form["refresh_token"])
        time.sleep(0.25 if name == "slow" else 0.01)
        with self._lock:
            self._now[name] -= 1
        return Response(f'{{"access_token": "new", "expires_in": {LIFETIME}}}', content_type="application/json")

    def close(self):
        for server in self.servers.values():
            server.stop()


@pytest.fixture
def two_hosts():
    running = Provider()
    yield running
    running.close()


@pytest.fixture
def settings(two_hosts, settings_for, database_url):
    allowed = ",".join(f"127.0.0.1:{server.port}" for server in two_hosts.servers.values())
    return settings_for(outbound_allow=allowed, host_concurrency=6, agent_reserve=1, caller_wait=5.0)


def due(world, url, count, prefix, **columns):
    made = [world.connection(token_endpoint=url, client_id="c") for _ in range(count)]
    for number, connection in enumerate(made):
        world.authorize(connection, refresh_token=f"{prefix}{number}")
    world.make_due(*made, **columns)
    return made


@pytest.mark.sqlite_only
def test_a_restart_with_everything_due_is_no_storm_and_starves_nobody(resources, settings, world, two_hosts):
    """The slow host's tokens have waited longest; a person's and a card's wait for none of them."""
    yesterday, now = utc_now() - timedelta(hours=24), utc_now()
    slow = due(world, two_hosts.url("slow"), SLOW, "slow", next_refresh_at=yesterday, expires_at=yesterday)
    quick = due(world, two_hosts.url("quick"), QUICK, "quick", next_refresh_at=yesterday, expires_at=yesterday)
    (by_hand,) = due(world, two_hosts.url("quick"), 1, "hand", next_refresh_at=now, priority=Priority.MANUAL)
    (card,) = due(world, two_hosts.url("slow"), 1, "card", next_refresh_at=now, expires_at=now)
    second = Resources.open(settings)

    def work(number):
        if number == 2:
            time.sleep(0.3)
            return int(tokens.access(resources, card.workspace_id, card.id).refreshed)
        return tokens.drain([resources, second][number], 20.0)

    try:
        sent = at_once(3, work)
    finally:
        second.close()
    assert sum(sent) >= SLOW + QUICK
    assert two_hosts.most["slow"] <= settings.host_concurrency
    assert two_hosts.most["quick"] <= settings.host_concurrency
    assert sorted(two_hosts.order) == sorted(
        [f"slow{n}" for n in range(SLOW)] + [f"quick{n}" for n in range(QUICK)] + ["hand0", "card0"]
    ), "each exactly once"
    assert all(row.outcome is Outcome.STORED for row in world.all(Refresh))
    assert two_hosts.order.index("hand0") < 2 * settings.host_concurrency
    of_slow = [token for token in two_hosts.order if token.startswith(("slow", "card"))]
    assert of_slow.index("card0") < SLOW / 2, "though all the others had been waiting for a day"
    dues = sorted(row.next_refresh_at for row in world.all(Token))
    assert dues[-1] - dues[0] > timedelta(seconds=0.08 * LIFETIME), "and never again at the same moment"
    assert {world.token(connection).generation for connection in (*slow, *quick, by_hand, card)} == {2}

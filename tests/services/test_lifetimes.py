"""Tokens living their lives: refreshed in time, whatever was said of them and whatever happens to the clock.

Here the provider keeps true time, and ours is moved against it. TK-04, TK-12, TK-13, F20, F28, P7, P12.
"""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from werkzeug.wrappers import Response

from models import ConnectionState, Heartbeat, Priority, ProviderHost, Refresh, Trigger
from models.types import utc_now
from oauth.lifetime import LONGEST_LIFETIME
from oauth.vocabulary import GrantType, LifetimeRung
from services.calling import preview
from services.engine import clock, timing, tokens
from workers.schedule import Scheduler

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ODD_LIFETIMES = {
    "missing": "",
    "null": '"expires_in": null',
    "text": '"expires_in": "3600"',
    "text with a point": '"expires_in": "3600.0"',
    "negative": '"expires_in": -1',
    "zero": '"expires_in": 0',
    "huge": '"expires_in": 1e30',
    "infinite": '"expires_in": 1e999',
    "a list": '"expires_in": [3600]',
    "not a number": '"expires_in": NaN',
    "a moment": f'"expires_in": {int(START.timestamp()) + 3600}',
    "absurd moment": '"expires_at": "0000-99-99T99:99:99Z"',
    "a moment long past": '"expires_at": 1',
    "a far moment": f'"expires_at": {10**30}',
}
"""F20, each as it stands in the reply."""


class TrueTime:
    """A provider and its API on a clock of their own; ours goes `ahead` of it."""

    def __init__(self, stub, lifetime, says):
        self.now, self.ahead, self.lifetime = 0.0, 0.0, lifetime
        self.ends = {"at-1": lifetime}
        self.refresh_token, self.requests, self.refused_calls = "rt-1", [], 0
        self._says = says
        stub.expect_request("/token").respond_with_handler(self._token)
        stub.expect_request("/data").respond_with_handler(self._data)

    @property
    def ours(self):
        return START + timedelta(seconds=self.now + self.ahead)

    def _token(self, request):
        if request.form.get("refresh_token", self.refresh_token) != self.refresh_token:
            return Response('{"error": "invalid_grant"}', 400)
        self.requests.append(self.now)
        number = len(self.requests) + 1
        self.refresh_token = f"rt-{number}"
        self.ends[f"at-{number}"] = self.now + self.lifetime
        said = {"expires_in": self.lifetime} if self._says else {}
        return Response(json.dumps({"access_token": f"at-{number}", "refresh_token": f"rt-{number}", **said}))

    def _data(self, request):
        alive = self.ends.get(request.headers["Authorization"].removeprefix("Bearer "), 0) > self.now
        self.refused_calls += not alive
        return Response("{}", 200 if alive else 401, content_type="application/json")


@pytest.fixture
def live(resources, world, stub, stub_address):
    """Let a connection live for so many seconds of true time, looked after as the scheduler does."""

    def live(lifetime, seconds, step, *, jumps=(), says=True, calls_too=False, **columns):
        truth = TrueTime(stub, lifetime, says)
        connection = world.connection(token_endpoint=stub.url_for("/token"), api_hosts=[stub_address], **columns)
        card = world.card(connection=connection, hook_url=f"http://{stub_address}/data", template_content="fine")
        to_come = list(jumps)
        with time_machine.travel(truth.ours, tick=False) as ours:
            refresh_token = None if connection.grant_type is GrantType.CLIENT_CREDENTIALS else "rt-1"
            world.authorize(connection, lifetime if says else None, refresh_token, "at-1")
            watch = clock.Watch()
            watch.was_set_back()
            while truth.now < seconds:
                truth.now += step
                if to_come and truth.now >= to_come[0][0]:
                    truth.ahead += to_come.pop(0)[1]
                ours.move_to(truth.ours)
                if watch.was_set_back():
                    with resources.database.session(writing=True) as session:
                        clock.mend(session, resources.settings, utc_now())
                tokens.drain(resources, 0.5)
                if calls_too:
                    assert preview.run(resources, card.id, world.alice, {}).failure is None
        return connection, truth

    return live


# --- Short and long lives


@pytest.mark.sqlite_only
@pytest.mark.settings(tick=1.0)
def test_a_token_of_thirty_seconds_is_always_fresh_and_costs_no_loop(live):
    _connection, truth = live(30.0, 300.0, 1.0)
    assert len(truth.requests) <= 1.6 * 300 / 30
    gaps = [later - sooner for sooner, later in zip([0.0, *truth.requests], truth.requests, strict=False)]
    assert max(gaps) < 30 - 1
    assert min(gaps) > 30 * 0.64


@pytest.mark.sqlite_only
def test_a_token_of_a_year_is_renewed_once_in_a_year_and_never_late(live):
    _connection, truth = live(365 * DAY, 3 * 365 * DAY, 15 * DAY, calls_too=True)
    assert 3 <= len(truth.requests) <= 4
    assert truth.refused_calls == 0


@pytest.mark.sqlite_only
def test_a_refresh_token_that_would_fall_idle_is_used_by_half_of_its_time(live, world):
    connection, truth = live(365 * DAY, 100 * DAY, DAY, idle_limit=30 * DAY)
    gaps = [later - sooner for sooner, later in zip([0.0, *truth.requests], truth.requests, strict=False)]
    assert len(gaps) >= 6
    assert max(gaps) <= 15 * DAY + DAY
    assert {row.trigger for row in world.all(Refresh)} == {Trigger.KEEP_ALIVE}
    assert world.token(connection).priority == Priority.KEEP_ALIVE


@pytest.mark.sqlite_only
def test_client_credentials_have_nothing_to_keep_alive_and_are_fetched_again_and_again(live, world):
    _connection, truth = live(HOUR, DAY, 10 * MINUTE, grant_type=GrantType.CLIENT_CREDENTIALS, idle_limit=HOUR)
    assert 24 <= len(truth.requests) <= 24 * 1.6
    assert {row.trigger for row in world.all(Refresh)} == {Trigger.SCHEDULED}


@pytest.mark.sqlite_only
def test_a_token_of_which_nobody_says_how_long_it_lives_is_learned_once_and_then_always_fresh(live, world):
    """It dies at half of what is assumed: one call finds out, and no later one (P7)."""
    connection, truth = live(25 * MINUTE, 5 * HOUR, 3 * MINUTE, says=False, calls_too=True)
    assert truth.refused_calls <= 2
    assert world.token(connection).lifetime_rung is LifetimeRung.LEARNED
    assert 25 * MINUTE <= world.token(connection).learned_lifetime <= 29 * MINUTE


# --- Odd lifetimes


@pytest.mark.parametrize("said", ODD_LIFETIMES.values(), ids=ODD_LIFETIMES)
def test_whatever_is_said_of_its_lifetime_the_new_refresh_token_is_stored_and_used_next(resources, world, stub, said):
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    sent = []

    def answer(request):
        sent.append(request.form["refresh_token"])
        more = f", {said}" if said else ""
        return Response(f'{{"access_token": "at-{len(sent)}", "refresh_token": "rt-{len(sent)}"{more}}}')

    stub.expect_request("/token").respond_with_handler(answer)
    with time_machine.travel(START, tick=False):
        world.authorize(connection, 3600, "rt-0", "at-0")
        for _ in range(2):
            tokens.refresh(resources, connection.id, Trigger.SCHEDULED)
        token = world.token(connection)
    assert sent == ["rt-0", "rt-1"]
    assert world.refresh_token(connection) == "rt-2"
    assert token.lifetime in (3600, timing.DEFAULT_LIFETIME, LONGEST_LIFETIME)
    assert START < token.next_refresh_at < token.expires_at
    assert world.reread(connection).state is ConnectionState.ACTIVE


# --- Clocks


JUMPS = {"-5 min": -5 * MINUTE, "+5 min": 5 * MINUTE, "-1 h": -HOUR, "+1 h": HOUR, "-1 day": -DAY, "+1 day": DAY}


@pytest.mark.sqlite_only
@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
def test_a_clock_that_jumps_costs_one_refresh_at_most_and_no_token(live, world, jump, monkeypatch):
    """No card calls, so that nobody but the scheduler can notice; without chance, so that refreshes can be counted."""
    monkeypatch.setattr(random, "uniform", lambda low, high: (low + high) / 2)
    connection, truth = live(HOUR, 8 * HOUR, 5 * MINUTE, jumps=[(3 * HOUR + 20 * MINUTE, jump)])
    usual = 8 * HOUR // (45 * MINUTE)
    assert usual - 1 <= len(truth.requests) <= usual + 1
    gaps = [later - sooner for sooner, later in zip([0.0, *truth.requests], truth.requests, strict=False)]
    assert max(gaps) < HOUR
    assert world.refresh_token(connection) == truth.refresh_token
    assert world.reread(connection).state is ConnectionState.ACTIVE


@pytest.mark.sqlite_only
def test_a_clock_that_was_wrong_for_a_while_costs_a_refresh_each_way(live, world):
    connection, truth = live(HOUR, 8 * HOUR, 5 * MINUTE, jumps=[(2 * HOUR, DAY), (5 * HOUR, -DAY)], calls_too=True)
    assert len(truth.requests) <= 8 * HOUR // (39 * MINUTE) + 2
    assert truth.refused_calls == 0
    assert world.refresh_token(connection) == truth.refresh_token


def test_after_a_clock_was_set_back_nothing_lasts_longer_than_it_can(resources, world, settings):
    now = utc_now()
    later = now + timedelta(days=1)
    fresh, future, leased, failing, renewed, waiting, pressed = (world.connection() for _ in range(7))
    for connection in (fresh, future, leased, failing, renewed, waiting, pressed):
        world.authorize(connection, 10 * DAY)
    due = world.token(fresh).next_refresh_at
    world.set_token(future, received_at=later, next_refresh_at=later)
    world.set_token(leased, lease_owner="somebody", lease_until=later)
    world.set_token(failing, failures=3, next_refresh_at=later)
    world.set_token(waiting, held=True, next_refresh_at=later)
    world.set_token(pressed, requested_at=later, next_refresh_at=now + timedelta(days=11))
    with resources.database.session(writing=True) as session:
        session.add(ProviderHost(host="down.example", failures=9, open_until=later))
        session.commit()
        assert clock.mend(session, settings, now) == 7
        assert clock.mend(session, settings, now) == 0
    assert world.token(fresh).next_refresh_at == due
    assert (world.token(future).next_refresh_at, world.token(future).received_at) == (now, now)
    assert abs(world.token(leased).lease_until - now - timedelta(seconds=settings.lease)) < timedelta(seconds=20)
    assert world.token(failing).next_refresh_at == now
    assert world.token(waiting).next_refresh_at == now
    assert (world.token(pressed).next_refresh_at, world.token(pressed).requested_at) == (now, now)
    assert world.all(ProviderHost)[0].open_until == now


def test_the_scheduler_notices_and_renews_what_came_in_the_future(resources, world):
    connection = world.connection()
    with time_machine.travel(START + timedelta(days=1), tick=False) as ours:
        with Scheduler(resources, lambda: True) as scheduler:
            world.authorize(connection)
            scheduler.tick()
            assert world.token(connection).next_refresh_at > utc_now()
            ours.move_to(START)
            scheduler.tick()
        assert world.token(connection).next_refresh_at == START


def test_two_clocks_that_differ_by_two_minutes_are_nothing_to_mend(resources, world, settings):
    connection = world.connection()
    world.authorize(connection)
    with resources.database.session(writing=True) as session:
        assert clock.mend(session, settings, utc_now() - timedelta(minutes=2)) == 0


def test_a_clock_set_back_while_nothing_ran_shows_in_who_was_here_later(resources, world):
    now = utc_now()
    with resources.database.session(writing=True) as session:
        assert not clock.seems_set_back(session, now)
        session.add(Heartbeat(process="scheduler:host:1", kind="scheduler", seen_at=now + timedelta(minutes=2)))
        session.commit()
        assert not clock.seems_set_back(session, now)
        assert clock.seems_set_back(session, now - timedelta(minutes=5))


def test_a_clock_is_watched_for_being_set_back_and_for_nothing_else():
    with time_machine.travel(START) as ours:
        watch = clock.Watch()
        seen = [watch.was_set_back()]
        for seconds in (0, 1, HOUR, HOUR - 100, HOUR - 400, HOUR - 400, DAY, 0):
            ours.move_to(START + timedelta(seconds=seconds))
            seen.append(watch.was_set_back())
    assert seen == [False, False, False, False, False, True, False, False, True]


def test_a_caller_gets_a_token_that_lasts_for_a_minute_or_a_fifth_of_its_life(resources, world, stub):
    stub.expect_request("/token").respond_with_json({"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 99})
    for lifetime, needed in ((HOUR, 60), (100, 20)):
        for left, refreshed in ((needed + 2, False), (needed - 2, True)):
            connection = world.connection(token_endpoint=stub.url_for("/token"))
            received_at = utc_now() - timedelta(seconds=lifetime - left)
            world.authorize(connection, lifetime)
            world.set_token(connection, received_at=received_at, expires_at=received_at + timedelta(seconds=lifetime))
            found = tokens.access(resources, connection.workspace_id, connection.id)
            assert found.refreshed is refreshed

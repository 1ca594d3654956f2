"""One breaker and one limit for each provider host: a dead provider delays nobody else, and is asked seldom."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
import sqlalchemy as sa
from sqlmodel import Session, select

from models import Connection, ConnectionState, Priority, ProviderHost, Refresh, Token, Trigger
from models.types import utc_now
from oauth.vocabulary import FailureClass, OAuthFailure
from services.audit import WORKER
from services.engine import held, hosts, introspection, leases, settle, tokens
from services.engine.hosts import Paused
from services.engine.leases import Claim, Unclaimed
from services.operating import pauses
from services.resources import Resources
from tests.support.together import at_once
from tests.support.world import token_reply

HOST, OTHER = "id.one.example", "id.two.example"
DOWN = OAuthFailure("refresh", FailureClass.PROVIDER_DOWN, "It cannot be reached.")
HANGS = OAuthFailure("refresh", FailureClass.UNKNOWN, "No answer within 20 seconds.")
DEAD = OAuthFailure("refresh", FailureClass.GRANT_DEAD, "It is over.", code="invalid_grant")
SLOWER = OAuthFailure("refresh", FailureClass.THROTTLED, "Too many.", retry_after=600)

pytestmark = pytest.mark.settings(breaker_after=3, breaker_first=30.0, retry_first=30.0, lease=40.0)


def at(world, host=HOST, count=1, workspace=None, **columns):
    """Connections with a token at a host."""
    made = [
        world.connection(workspace=workspace, token_endpoint=f"https://{host}/token", **columns) for _ in range(count)
    ]
    for connection in made:
        world.authorize(connection)
    return made


def claim(resources, limit=100):
    with resources.database.session(writing=True) as session:
        return leases.claim_due(session, resources.settings, limit)


def answer(resources, claims, result):
    """All of them at once end like that."""
    with resources.database.session(writing=True) as session:
        settle.settle(session, resources.settings, [(one, result) for one in claims])


def claim_one(resources, connection, trigger=Trigger.AGENT_FACING):
    with resources.database.session(writing=True) as session:
        return leases.claim_one(session, resources.settings, connection.id, trigger, None, None)


def row_of(world, host=HOST):
    found = world.all(ProviderHost, host=host)
    return found[0] if found else None


def standing(resources):
    with resources.database.session() as session:
        return hosts.standing(session, resources.settings, utc_now())


def whose(claims):
    return {one.connection_id for one in claims}


def ids(connections):
    return {connection.id for connection in connections}


def break_down(resources, world, connections, result=DOWN):
    """Their requests find the host down, as many as it takes."""
    world.make_due(*connections)
    answer(resources, claim(resources), result)
    assert standing(resources).closed == {HOST}


@pytest.mark.parametrize("result", [DOWN, HANGS], ids=["down", "hangs"])
def test_requests_in_a_row_that_find_a_host_down_close_it_for_all_processes(resources, settings, world, result):
    here, there = at(world, count=4), at(world, OTHER)
    break_down(resources, world, here[:3], result)
    world.make_due(*here, *there)
    other_process = Resources.open(settings)
    try:
        assert whose(claim(other_process)) == ids(there)
        assert claim_one(other_process, here[3]) is Unclaimed.RESTING
    finally:
        other_process.close()
    row = row_of(world)
    assert 20 < (row.open_until - utc_now()).total_seconds() <= 30
    assert (row.failure_class, row.failure_reason) == (result.failure_class, str(result))


@pytest.mark.parametrize("reply", [token_reply("at-2"), DEAD], ids=["token", "oauth error"])
def test_any_answer_in_between_shows_that_the_host_is_up(resources, world, reply):
    here = at(world, count=3)
    for result in (DOWN, reply, DOWN):
        world.make_due(here[0] if result is DOWN else here[1])
        answer(resources, claim(resources), result)
    assert (row_of(world).failures, standing(resources).closed) == (1, frozenset())


def test_one_bad_connection_closes_the_host_for_nobody_but_a_host_of_its_own(resources, world):
    bad, _good = at(world, count=2)
    (alone,) = at(world, OTHER)
    for _ in range(6):
        world.make_due(bad, alone)
        answer(resources, claim(resources), DOWN)
    assert standing(resources).closed == {OTHER}
    assert row_of(world).failures == 3


def test_due_tokens_of_a_closed_host_are_moved_out_of_the_way_once(resources, world):
    here = at(world, count=8)
    break_down(resources, world, here[:3])
    world.make_due(*here[3:], priority=Priority.MANUAL)
    assert claim(resources) == []
    waiting = [world.token(connection) for connection in here[3:]]
    assert all(token.held and token.next_refresh_at > utc_now() and token.priority == 1 for token in waiting)
    assert claim(resources) == []
    assert [world.token(connection).next_refresh_at for connection in here[3:]] == [
        token.next_refresh_at for token in waiting
    ]
    until = row_of(world).open_until
    assert sum(token.next_refresh_at == until for token in waiting) == held.CANDIDATES


def test_after_a_while_one_request_tries_for_all(resources, world, time_machine):
    here = at(world, count=8)
    break_down(resources, world, here[:3])
    world.make_due(*here[3:])
    claim(resources)
    time_machine.move_to(row_of(world).open_until + timedelta(seconds=1))
    claims = [one for found in at_once(3, lambda _n: claim(resources)) for one in found]
    assert len(claims) == 1
    assert claims[0].connection_id in ids(here[3:]), "one that has not failed itself"
    healthy = next(connection for connection in here[3:] if connection.id != claims[0].connection_id)
    assert claim_one(resources, healthy) is Unclaimed.BUSY


def test_success_of_that_one_brings_all_back_spread_out(resources, world, time_machine):
    here = at(world, count=12)
    break_down(resources, world, here[:3])
    world.make_due(*here[3:])
    claim(resources)
    time_machine.move_to(row_of(world).open_until + timedelta(seconds=1))
    (probe,) = claim(resources)
    now = utc_now()
    answer(resources, [probe], token_reply("at-2"))
    others = [world.token(connection) for connection in here if connection.id != probe.connection_id]
    assert all(not token.held and token.next_refresh_at <= now + timedelta(seconds=30) for token in others)
    assert len({token.next_refresh_at for token in others}) > 4
    row = row_of(world)
    assert (row.failures, row.open_until, row.failure_class, row.releasing) == (0, None, None, False)
    time_machine.move_to(now + timedelta(seconds=31))
    assert len(claim(resources)) == len(others)


def test_failure_of_that_one_closes_the_host_for_twice_as_long_up_to_five_minutes(resources, world, time_machine):
    here = at(world, count=9)
    break_down(resources, world, here[:3])
    waits = []
    for _ in range(6):
        time_machine.move_to(row_of(world).open_until + timedelta(seconds=1))
        world.make_due(*here)
        claims = claim(resources)
        assert len(claims) == 1
        answer(resources, claims, DOWN)
        waits.append((row_of(world).open_until - utc_now()).total_seconds())
    for seconds, most in zip(waits, (60, 120, 240, 300, 300, 300), strict=True):
        assert 0.74 * most < seconds <= most


def test_what_was_sent_before_a_host_was_closed_changes_nothing_but_a_success(resources, world):
    here = at(world, count=6)
    world.make_due(*here)
    claims = claim(resources)
    answer(resources, claims[:3], DOWN)
    until = row_of(world).open_until
    answer(resources, claims[3:5], DOWN)
    assert row_of(world).open_until == until
    answer(resources, claims[5:], token_reply("at-2"))
    assert standing(resources).closed == frozenset()


def test_many_tokens_come_back_part_after_part(resources, world, session, monkeypatch):
    monkeypatch.setattr(held, "AT_ONCE", 4)
    here = at(world, count=11)
    for connection in here:
        world.set_token(connection, held=True, next_refresh_at=utc_now() + timedelta(hours=1))
    held.release(session, resources.settings, utc_now(), hosts.locked(session, HOST))
    session.commit()
    counts = []
    for _ in range(4):
        counts.append(sum(world.token(connection).held for connection in here))
        claim(resources)
    assert counts == [7, 3, 0, 0]
    assert not row_of(world).releasing


def test_callers_of_a_closed_host_are_told_what_is_known(resources, world):
    here = at(world, count=4)
    break_down(resources, world, here[:3])
    world.set_token(here[3], expires_at=utc_now())
    with pytest.raises(OAuthFailure) as problem:
        tokens.access(resources, here[3].workspace_id, here[3].id)
    assert (problem.value.failure_class, str(problem.value)) == (FailureClass.PROVIDER_DOWN, str(DOWN))
    assert isinstance(claim_one(resources, here[3], Trigger.AUTHORIZE), Claim), "the person sees for themselves"
    assert len(world.all(Refresh)) == 4


def test_a_host_s_own_limit_holds_for_drains_and_callers(resources, world, session):
    here, there = at(world, count=5), at(world, OTHER, count=3)
    hosts.locked(session, HOST).concurrency = 2
    hosts.locked(session, OTHER).concurrency = 100
    session.commit()
    world.make_due(*here, *there)
    claims = claim(resources)
    assert Counter(one.host for one in claims) == {HOST: 2, OTHER: 3}
    free = next(connection for connection in here if connection.id not in whose(claims))
    assert claim_one(resources, free) is Unclaimed.BUSY


# --- Asked to slow down


def test_a_host_that_asks_all_workspaces_to_slow_down_is_left_alone_for_a_minute_at_most(
    resources, world, time_machine
):
    here = at(world, count=3) + at(world, count=2, workspace=world.globex)
    world.make_due(*here)
    answer(resources, claim(resources), SLOWER)
    assert standing(resources).closed == {HOST}
    assert 55 <= (row_of(world).open_until - utc_now()).total_seconds() <= 66  # the test takes a moment itself
    time_machine.move_to(utc_now() + timedelta(seconds=67))
    world.make_due(*here)
    claims = claim(resources)
    assert 0 < len(claims) <= resources.settings.host_concurrency // hosts.THROTTLED_SHARE
    answer(resources, claims[:1], token_reply("at-2"))
    assert standing(resources) == hosts.Standing()
    assert all(world.reread(connection).state is ConnectionState.ACTIVE for connection in here)


def test_one_workspace_that_asks_too_often_stalls_no_other(resources, world):
    busy, calm = at(world, count=6), at(world, workspace=world.globex)
    world.make_due(*busy)
    answer(resources, claim(resources), SLOWER)
    world.make_due(*calm)
    assert whose(claim(resources)) == ids(calm)


def test_a_provider_that_asks_for_a_second_again_and_again_is_asked_more_and_more_seldom(
    resources, world, time_machine
):
    connection, _other = at(world, count=2)
    waits = []
    for _ in range(18):
        world.make_due(connection)
        answer(resources, claim(resources), OAuthFailure("refresh", FailureClass.THROTTLED, "", retry_after=1))
        waits.append((world.token(connection).next_refresh_at - utc_now()).total_seconds())
        time_machine.move_to(utc_now() + timedelta(seconds=4000))
    assert 0.5 < waits[0] < 1.2  # a second, less what the test takes itself
    assert all(later > 1.5 * wait for wait, later in pairwise(waits[5:14]))
    assert 3590 < waits[-1] < 4000


# --- Whole outages


@pytest.mark.settings(retry_longest=3600.0, tick=1.0, breaker_after=5)
def test_six_hours_of_outage_cost_few_requests_and_no_consent(resources, world, time_machine):
    here, alone = at(world, count=6), at(world, OTHER)
    world.make_due(*here, *alone)
    end, sent = utc_now() + timedelta(hours=6), Counter()
    while utc_now() < end:
        claims = claim(resources)
        sent.update(one.connection_id for one in claims)
        answer(resources, claims, HANGS)
        time_machine.move_to(max(next_due(world), utc_now() + timedelta(seconds=1)))
    assert 5 < max(sent.values()) <= 30
    assert not any(row.state is ConnectionState.REAUTH_REQUIRED for row in world.all(Connection))
    first, back = {}, {}
    hosts_of = {HOST: ids(here), OTHER: ids(alone)}
    while len(back) < 2 and utc_now() < end + timedelta(hours=2):
        claims = claim(resources)
        for host in {one.host for one in claims}:
            first.setdefault(host, utc_now())
        answer(resources, claims, token_reply("at-2"))
        active = {row.id for row in world.all(Connection, state=ConnectionState.ACTIVE)}
        back |= {host: utc_now() for host, rows in hosts_of.items() if rows <= active and host not in back}
        time_machine.move_to(max(next_due(world), utc_now() + timedelta(seconds=1)))
    assert all(back[host] - first[host] <= timedelta(seconds=60) for host in hosts_of)
    assert all(first[host] - end <= timedelta(hours=1.1) for host in hosts_of)
    assert {host: row_of(world, host).open_until for host in hosts_of} == {HOST: None, OTHER: None}


def next_due(world):
    with world.resources.database.session() as session:
        return min(session.exec(select(Token.next_refresh_at).where(Token.next_refresh_at.is_not(None))))


@pytest.mark.settings(retry_longest=3600.0, tick=1.0)
def test_an_outage_of_minutes_is_over_minutes_after_it_whoever_pressed_what(resources, world, time_machine):
    """What has failed and is due while its host is closed, or is asked for by hand, is the next to try."""
    here = at(world, count=2)
    world.make_due(*here)
    start = utc_now()
    while utc_now() < start + timedelta(minutes=5):
        answer(resources, claim(resources), DOWN)
        if standing(resources).closed:
            world.make_due(*here, priority=Priority.MANUAL)
            assert claim(resources) == []
        time_machine.move_to(max(next_due(world), utc_now() + timedelta(seconds=1)))
    while any(world.token(connection).generation == 1 for connection in here):
        assert utc_now() < start + timedelta(minutes=11)
        answer(resources, claim(resources), token_reply("at-2"))
        time_machine.move_to(utc_now() + timedelta(seconds=10))


@pytest.mark.settings(
    breaker_after=3, breaker_first=0.3, retry_first=0.3, token_deadline=1.5, lease=3.0, tick=0.05, host_concurrency=4
)
def test_a_provider_that_hangs_delays_no_other_and_is_back_soon_after_it_answers(resources, world, stub, provider):
    hangs = {"now": True}

    def handler(_request):
        from werkzeug.wrappers import Response

        if hangs["now"]:
            time.sleep(2.0)
        return Response('{"access_token": "new", "expires_in": 3600}', content_type="application/json")

    stub.expect_request("/token").respond_with_handler(handler)
    url = stub.url_for("/token")
    slow = [world.connection(token_endpoint=url) for _ in range(12)]
    quick = [world.connection() for _ in range(30)]
    for connection in slow:
        world.authorize(connection)
    for connection in quick:
        world.consent(connection)
    world.make_due(*slow, next_refresh_at=utc_now() - timedelta(hours=1))
    world.make_due(*quick)
    tokens.drain(resources, 3.0, limit=16)
    assert all(world.token(connection).generation == 2 for connection in quick)
    assert all(world.token(connection).generation == 1 for connection in slow)
    assert standing(resources).closed or standing(resources).limits, "the breaker has opened"
    hangs["now"] = False
    until = time.monotonic() + 10
    while any(world.token(connection).generation < 2 for connection in slow) and time.monotonic() < until:
        tokens.drain(resources, 1.0)
        time.sleep(0.05)
    assert all(world.token(connection).generation == 2 for connection in slow)
    assert row_of(world, f"{stub.host}:{stub.port}").open_until is None


def test_everything_paused_stops_every_way_to_a_request(resources, world, session):
    (connection,) = at(world)
    hosts.locked(session, "*").paused_at = utc_now()
    session.commit()
    world.make_due(connection)
    assert claim(resources) == []
    with resources.database.session() as reading:
        assert leases.oldest_due(reading) is None
    for trigger in Trigger:
        assert claim_one(resources, connection, trigger) is Unclaimed.RESTING
    with pytest.raises(Paused, match="All token requests are paused"):
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    assert world.all(Refresh) == []


def test_a_host_resumed_while_its_breaker_is_open_is_tried_when_that_ends(resources, world, session):
    """What fell due during the pause waits for half an hour and more; one of it has to speak for all before."""
    connections = at(world, count=6)
    pauses.pause_host(session, WORKER, HOST)
    world.make_due(*connections)
    assert claim(resources) == []
    until = utc_now() + timedelta(seconds=60)
    row = hosts.locked(session, HOST)
    row.open_until, row.failures, row.failure_class = until, 3, FailureClass.PROVIDER_DOWN
    session.commit()
    pauses.resume_host(session, resources.settings, WORKER, HOST)
    due = sorted(world.token(connection).next_refresh_at for connection in connections)
    assert due[: held.CANDIDATES] == [until] * held.CANDIDATES
    assert due[held.CANDIDATES] > until + timedelta(minutes=10)


def test_claiming_and_settling_do_not_wait_for_each_other_in_a_circle(resources, world):
    """One host is closed while another one's tokens come back, and somebody settles for both."""
    (waiting,) = at(world, "z.example")
    at(world, "a.example")
    world.make_due(waiting)
    with resources.database.session(writing=True) as session:
        hosts.locked(session, "a.example").releasing = True
        hosts.locked(session, "z.example").open_until = utc_now() + timedelta(seconds=100)
        session.commit()
    with resources.database.session(writing=True) as session, ThreadPoolExecutor(1) as beside:
        hosts.locked(session, "a.example")
        claiming = beside.submit(claim, resources)
        time.sleep(0.3)  # it holds the one by now
        hosts.locked(session, "z.example")
        session.commit()
        assert claiming.result() == []
    assert world.token(waiting).held


@pytest.mark.sqlite_only
def test_the_few_tokens_that_wait_are_found_by_their_index_on_sqlite_too(resources, world):
    """It uses a partial index only where a condition is written in the index's own words."""
    at(world)
    plans = []

    def explain(connection, _cursor, statement, parameters, _context, many):
        if not many and statement.startswith(("SELECT", "UPDATE")) and "tokens" in statement:
            rows = connection.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            plans.extend(row[3] for row in rows)

    with resources.database.engine.connect() as connection:
        sa.event.listen(connection, "before_cursor_execute", explain)
        session = Session(connection)
        introspection.waiting(session)
        held.release(session, resources.settings, utc_now(), hosts.locked(session, HOST))
        held.bring_one(session, utc_now(), HOST)
    assert [plan for plan in plans if plan.startswith("SCAN tokens") and "USING" not in plan] == []
    assert {name for name in ("ix_tokens_introspection", "ix_tokens_held") if name in " ".join(plans)} == {
        "ix_tokens_introspection",
        "ix_tokens_held",
    }

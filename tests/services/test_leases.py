"""Who may send: leases are taken in one UPDATE, in order, and no more at a host than it has room for."""

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from models import Outcome, Priority, ProviderHost, Refresh, Token, Trigger
from models.types import steady, utc_now
from oauth.vocabulary import FailureClass, GrantType
from services.engine import drains, leases, settle
from tests.support.together import at_once


def due(world, count, **columns):
    connections = [world.connection() for _ in range(count)]
    for connection in connections:
        world.authorize(connection)
    world.make_due(*connections, **columns)
    return connections


def claim_due(resources, limit=100):
    with resources.database.session(writing=True) as session:
        return leases.claim_due(session, resources.settings, limit)


def claimed_ids(claims):
    return {claim.connection_id for claim in claims}


def test_what_is_due_is_claimed_once(resources, world):
    connections = due(world, 3)
    world.authorize(world.connection())
    claims = claim_due(resources)
    assert claimed_ids(claims) == {connection.id for connection in connections}
    assert claim_due(resources) == []


def test_every_claim_has_its_journal_row_and_its_lease(resources, world):
    due(world, 3)
    for claim in claim_due(resources):
        (row,) = world.all(Refresh, connection_id=claim.connection_id)
        assert (row.id, row.outcome, row.generation) == (claim.refresh_id, Outcome.SENT, claim.generation)
        (token,) = world.all(Token, id=claim.token_id)
        assert (token.lease_owner, token.lease_until) == (claim.owner, claim.lease_until)
        assert claim.lease_until > utc_now()


def test_of_claimers_at_the_same_moment_none_gets_what_another_has(resources, world):
    connections = due(world, 12)
    results = at_once(4, lambda _n: claim_due(resources, 5))
    ids = [claim.connection_id for claims in results for claim in claims]
    assert len(ids) == len(set(ids))
    assert set(ids) <= {connection.id for connection in connections}
    rest = claim_due(resources)
    assert len(ids) + len(rest) == 12


@pytest.mark.settings(host_concurrency=3)
def test_claimers_at_the_same_moment_do_not_crowd_one_host_together(resources, world):
    """The limit is for all processes together; four that look at the same moment all see an idle host."""
    due(world, 12)
    results = at_once(4, lambda _n: claim_due(resources))
    assert sum(len(claims) for claims in results) == 3


@pytest.mark.settings(host_concurrency=3)
def test_a_claimer_counts_what_another_is_just_claiming(resources, world):
    """Rows that turn due between two claimers are not the first one's; its leases count all the same."""
    due(world, 3)
    due(world, 3, next_refresh_at=utc_now() + timedelta(seconds=1), priority=Priority.MANUAL)
    found, once = [], threading.Lock()
    second = threading.Thread(target=lambda: found.append(claim_due(resources)))

    def while_the_first_writes_its_journal(_connection, _cursor, statement, *_rest):
        if statement.startswith("INSERT INTO refreshes") and once.acquire(blocking=False):
            time.sleep(1.2)
            second.start()
            second.join(1)

    sa.event.listen(resources.database.engine, "before_cursor_execute", while_the_first_writes_its_journal)
    found.append(claim_due(resources))
    second.join(20)
    assert sum(len(claims) for claims in found) == 3


@pytest.mark.settings(host_concurrency=2)
def test_callers_wait_for_room_at_a_host_like_everybody(resources, world):
    first, second, third = due(world, 3)

    def claim(connection):
        with resources.database.session(writing=True) as session:
            return leases.claim_one(session, resources.settings, connection.id, Trigger.AGENT_FACING, None, None)

    assert isinstance(claim(first), leases.Claim)
    assert isinstance(claim(second), leases.Claim)
    assert claim(third) is leases.Unclaimed.BUSY
    world.set_token(first, lease_owner=None, lease_until=None)
    assert isinstance(claim(third), leases.Claim)


@pytest.mark.settings(host_concurrency=2)
def test_a_crowded_host_holds_up_nobody_else(resources, world):
    due(world, 5)
    other = world.connection(token_endpoint="https://other.example/token")
    world.authorize(other)
    world.make_due(other)
    claims = claim_due(resources)
    hosts = [claim.registration.token_endpoint for claim in claims]
    assert len(claims) == 3
    assert hosts.count("https://other.example/token") == 1
    assert claim_due(resources) == []


def test_an_expired_lease_gives_its_place_back(resources, world):
    (connection,) = due(world, 1)
    claim_due(resources)
    world.set_token(connection, lease_until=utc_now() - timedelta(seconds=1))
    assert claimed_ids(claim_due(resources)) == {connection.id}
    outcomes = sorted(row.outcome for row in world.all(Refresh, connection_id=connection.id))
    assert outcomes == [Outcome.SENT, Outcome.UNKNOWN]


def test_agents_come_before_presses_before_the_clock(resources, world):
    order = (Priority.AGENT_FACING, Priority.MANUAL, Priority.SCHEDULED, Priority.KEEP_ALIVE)
    waiting = {priority: due(world, 1, priority=priority)[0] for priority in reversed(order)}
    for priority in order:
        (claim,) = claim_due(resources, 1)
        assert claim.connection_id == waiting[priority].id
        assert claim.trigger is leases.TRIGGERS[priority]


def test_whoever_has_waited_longest_goes_first(resources, world):
    first, second = due(world, 2)
    world.make_due(second, next_refresh_at=utc_now() - timedelta(minutes=5))
    assert claimed_ids(claim_due(resources, 1)) == {second.id}
    assert claimed_ids(claim_due(resources, 1)) == {first.id}


def test_every_lease_has_an_owner_of_its_own():
    assert len({leases.owner_name() for _ in range(100)}) == 100
    assert all(len(leases.owner_name()) <= 64 for _ in range(10))


def test_a_claim_shows_no_secret_by_repr(resources, world):
    connection = world.connection(secret="the client secret")
    world.authorize(connection, refresh_token="the refresh token")
    world.make_due(connection)
    (claim,) = claim_due(resources)
    assert claim.refresh_token.get_secret_value() == "the refresh token"
    assert "the client secret" not in repr(claim)
    assert "the refresh token" not in repr(claim)


def test_client_credentials_are_claimed_without_a_refresh_token(resources, world):
    connection = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    world.authorize(connection, refresh_token=None)
    world.make_due(connection)
    (claim,) = claim_due(resources)
    assert claim.refresh_token is None
    assert world.all(Refresh)[0].refresh_token_fingerprint == ""


def test_one_connection_is_claimed_for_one_at_a_time(resources, world):
    connection = world.connection()
    world.authorize(connection)

    def claim(_number):
        with resources.database.session(writing=True) as session:
            return leases.claim_one(session, resources.settings, connection.id, Trigger.MANUAL, None, None)

    results = at_once(6, claim)
    assert sum(isinstance(result, leases.Claim) for result in results) == 1
    assert results.count(leases.Unclaimed.BUSY) == 5


def test_a_connection_that_is_gone_has_moved_on(resources, world):
    connection = world.connection()
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(type(connection), connection.id))
        session.commit()
        found = leases.claim_one(session, resources.settings, connection.id, Trigger.MANUAL, None, None)
    assert found is leases.Unclaimed.MOVED_ON


def test_a_callers_refresh_that_died_is_taken_up_when_its_lease_ends(resources, world):
    connection = world.connection()
    world.authorize(connection)
    with resources.database.session(writing=True) as session:
        claim = leases.claim_one(session, resources.settings, connection.id, Trigger.AGENT_FACING, None, None)
    assert isinstance(claim, leases.Claim)
    world.set_token(connection, lease_until=utc_now() - timedelta(seconds=1))
    assert claimed_ids(claim_due(resources)) == {connection.id}


@pytest.mark.settings(host_concurrency=4)
def test_a_card_finds_a_place_although_much_is_due_at_its_provider(resources, world):
    waiting, wanted = due(world, 5, priority=Priority.MANUAL), due(world, 1, next_refresh_at=None)[0]
    assert len(claim_due(resources)) == 3
    assert claim_due(resources) == []
    with resources.database.session(writing=True) as session:
        settings = resources.settings
        card = leases.claim_one(session, settings, wanted.id, Trigger.AGENT_FACING, None, None)
        another = leases.claim_one(session, settings, waiting[4].id, Trigger.AGENT_FACING, None, None)
    assert isinstance(card, leases.Claim)
    assert another is leases.Unclaimed.BUSY


def test_nothing_is_sent_under_a_lease_that_would_not_last(resources, world, stub):
    """Its process stood still, and somebody else may have sent the same refresh token since (TK-08)."""
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection)
    with resources.database.session(writing=True) as session:
        mine = leases.claim_one(session, resources.settings, connection.id, Trigger.SCHEDULED, None, None)
    mine = replace(mine, lease_ends=steady() + resources.settings.token_deadline - 0.1)
    settle.persist(resources, [resources.http.run(drains.send(resources, mine))])
    assert stub.log == []
    row, token = world.reread(connection), world.token(connection)
    assert (row.state.shown, row.failure_class) == ("Refresh failing", FailureClass.UNKNOWN)
    assert token.next_refresh_at <= utc_now() + timedelta(seconds=resources.settings.tick)
    assert world.all(ProviderHost) == [], "the provider had no part in it"


@pytest.mark.parametrize("hours", [1, -1])
def test_of_two_hosts_whose_clocks_differ_one_sends(resources, world, time_machine, hours):
    """Leases are measured by the database's clock. SQLite has but the one of its machine, and trusts it."""
    has_a_clock = resources.database.engine.dialect.name == "postgresql"
    (connection,) = due(world, 1, next_refresh_at=utc_now() - timedelta(hours=2))
    real = utc_now()
    (mine,) = claim_due(resources)
    time_machine.move_to(real + timedelta(hours=hours), tick=True)
    theirs = claim_due(resources)
    with resources.database.session(writing=True) as session:
        card = leases.claim_one(session, resources.settings, connection.id, Trigger.AGENT_FACING, None, None)
        peek = leases.oldest_due(session)
    if not has_a_clock and hours > 0:
        assert claimed_ids(theirs) == {connection.id}
        return
    assert (theirs, card, peek) == ([], leases.Unclaimed.BUSY, None)
    world.set_token(connection, lease_until=mine.lease_until - timedelta(days=1))
    (later,) = claim_due(resources)
    if has_a_clock:
        assert abs(later.lease_until - mine.lease_until) < timedelta(minutes=5), "whatever the clock of its host says"


def test_a_clock_that_is_set_between_claim_and_request_neither_stops_nor_repeats_it(
    resources, world, stub, time_machine
):
    """How long a lease still lasts is told by the clock that only counts."""
    stub.expect_request("/token").respond_with_json({"access_token": "at-2", "token_type": "Bearer", "expires_in": 60})
    for number, hours in enumerate((1, -1), start=1):
        connection = world.connection(token_endpoint=stub.url_for("/token"))
        world.authorize(connection)
        with resources.database.session(writing=True) as session:
            mine = leases.claim_one(session, resources.settings, connection.id, Trigger.SCHEDULED, None, None)
        time_machine.move_to(utc_now() + timedelta(hours=hours), tick=True)
        settle.persist(resources, [resources.http.run(drains.send(resources, mine))])
        assert (len(stub.log), world.token(connection).generation) == (number, 2)


def test_the_clock_of_leases_is_asked_for_with_the_lock(resources, world):
    """A claim is no slower for it: no statement does nothing else."""
    due(world, 1)
    seen = []

    def note(_connection, _cursor, statement, *_rest):
        seen.append(statement)

    sa.event.listen(resources.database.engine, "before_cursor_execute", note)
    claim_due(resources)
    asking = [statement for statement in seen if "clock_timestamp" in statement]
    assert all("pg_advisory_xact_lock" in statement for statement in asking)
    assert len(asking) == (resources.database.engine.dialect.name == "postgresql")

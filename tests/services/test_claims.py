"""What is claimed together: suspects apart, strict providers in small numbers, many claimers without a clash."""

import threading
import time
from collections import Counter
from datetime import timedelta

import pytest

from models import ConnectionState, Outcome, Priority, Refresh
from models.types import utc_now
from oauth.vocabulary import FailureClass, OAuthFailure, Reuse, Rotation
from services.engine import candidates, claims, leases, settle, states, tokens
from services.floors import Floors
from tests.support.together import at_once
from tests.support.world import token_reply


def due(world, count, host="https://provider.example", **columns):
    connections = [world.connection(token_endpoint=f"{host}/token") for _ in range(count)]
    for connection in connections:
        world.authorize(connection)
    world.make_due(*connections, **columns)
    return connections


def orphaned(world, count, deaths=0, **more):
    """Tokens whose refresher died; it was the one after `deaths` others."""
    ended = utc_now() - timedelta(seconds=1)
    return due(world, count, interruptions=deaths, lease_owner="dead", lease_until=ended, **more)


def claim_due(resources, limit=100, floors=None):
    with resources.database.session(writing=True) as session:
        return leases.claim_due(session, resources.settings, limit, floors)


def settled(resources, claimed, result=None):
    settle.persist(resources, [(claim, result or token_reply("at-2", "rt-2")) for claim in claimed])


@pytest.mark.settings(host_concurrency=64, agent_reserve=0)
def test_tokens_whose_process_died_are_refreshed_few_at_a_time_beside_all_others(resources, world):
    suspects = {connection.id for connection in orphaned(world, 18)}
    innocent = {connection.id for connection in due(world, 20)}
    first = claim_due(resources)
    taken = {claim.connection_id for claim in first}
    assert innocent < taken
    assert len(taken & suspects) == candidates.SUSPECTS
    assert claim_due(resources) == []
    settled(resources, [claim for claim in first if claim.connection_id in suspects])
    assert {claim.connection_id for claim in claim_due(resources)} == suspects - taken


@pytest.mark.settings(host_concurrency=64)
def test_tokens_whose_processes_died_twice_are_refreshed_one_at_a_time(resources, world):
    suspects = {connection.id for connection in orphaned(world, 3, deaths=1)}
    due(world, 2)
    left = set(suspects)
    for _ in range(3):
        claimed = claim_due(resources)
        (mine,) = [claim for claim in claimed if claim.connection_id in suspects]
        settled(resources, claimed)
        left.remove(mine.connection_id)
    assert not left
    assert claim_due(resources) == []


def test_a_token_that_ends_three_processes_is_left_alone_and_says_so(resources, world, settings):
    (poison,) = orphaned(world, 1, deaths=2)
    (innocent,) = orphaned(world, 1)
    (claim,) = claim_due(resources)
    assert claim.connection_id == innocent.id
    row, token = world.reread(poison), world.token(poison)
    assert (row.state, row.failure_class) == (ConnectionState.DEGRADED, FailureClass.UNKNOWN)
    assert row.failure_reason.startswith("The process that refreshed this connection stopped three times")
    assert "Refresh now" in row.failure_reason
    assert (token.interruptions, token.lease_owner) == (states.DEATHS, None)
    far = settings.retry_longest - 60
    assert token.next_refresh_at > utc_now() + timedelta(seconds=far)


def test_what_was_left_alone_is_tried_now_and_then_and_forgiven_when_it_works(resources, world):
    (poison,) = orphaned(world, 1, deaths=2)
    claim_due(resources)
    orphaned(world, 1, deaths=1)
    world.make_due(poison, next_refresh_at=utc_now() - timedelta(hours=1))
    claimed = claim_due(resources)
    assert [claim.connection_id for claim in claimed] == [poison.id]  # alone: nobody else who is a suspect twice
    settled(resources, claimed)
    row, token = world.reread(poison), world.token(poison)
    assert (row.state, row.failure_reason, token.interruptions) == (ConnectionState.ACTIVE, "", 0)
    assert len(claim_due(resources)) == 1


def test_what_was_left_alone_and_ends_a_process_again_is_left_alone_again(resources, world):
    (poison,) = orphaned(world, 1, deaths=states.DEATHS)
    assert claim_due(resources) == []
    assert world.token(poison).next_refresh_at > utc_now() + timedelta(minutes=50)


def test_an_outcome_that_is_stored_clears_the_suspicion_whatever_it_was(resources, world):
    (connection,) = orphaned(world, 1)
    claimed = claim_due(resources)
    assert world.token(connection).interruptions == 1
    settled(resources, claimed, OAuthFailure("refresh", FailureClass.PROVIDER_DOWN, "Down."))
    assert world.token(connection).interruptions == 0


def test_every_suspect_has_the_request_of_the_dead_closed_as_unknown(resources, world):
    (connection,) = due(world, 1)
    claim_due(resources)
    world.set_token(connection, lease_until=utc_now() - timedelta(seconds=1))
    (claim,) = claim_due(resources)
    rows = {row.id: row.outcome for row in world.all(Refresh, connection_id=connection.id)}
    assert rows.pop(claim.refresh_id) is Outcome.SENT
    assert set(rows.values()) == {Outcome.UNKNOWN}


# --- Strict providers


@pytest.mark.settings(strict_concurrency=2, agent_reserve=0)
def test_of_grants_that_a_crash_may_cost_few_are_in_flight_at_one_host(resources, world):
    strict = {row.id for row in due(world, 5, rotation=Rotation.ALWAYS)}
    mild = {row.id for row in due(world, 3, rotation=Rotation.ALWAYS, reuse=Reuse.ACCEPTED)}
    elsewhere = {row.id for row in due(world, 1, "https://other.example", rotation=Rotation.ALWAYS)}
    taken = {claim.connection_id for claim in claim_due(resources)}
    assert len(taken & strict) == 2
    assert mild | elsewhere < taken
    assert claim_due(resources) == []


# --- Where to begin


def test_a_token_put_before_the_place_where_a_look_begins_is_found_in_time(resources, world):
    """PostgreSQL looks from where there was something; a clock that is behind, or a restore, puts rows before that."""
    floors = Floors(look_again=0.5)
    assert claim_due(resources, floors=floors) == []
    (connection,) = due(world, 1, next_refresh_at=utc_now() - timedelta(days=1))
    found, until = [], time.monotonic() + 5
    while not found and time.monotonic() < until:
        found = claim_due(resources, floors=floors)
    assert [claim.connection_id for claim in found] == [connection.id]


def test_a_look_that_begins_late_misses_nothing_that_was_known(resources, world):
    """Leased rows are due as well: when their owner dies they are still above the place where looks begin."""
    (old,) = due(world, 1, next_refresh_at=utc_now() - timedelta(hours=3))
    floors = Floors()
    assert len(claim_due(resources, floors=floors)) == 1
    world.set_token(old, lease_until=utc_now() - timedelta(seconds=1))
    assert len(claim_due(resources, floors=floors)) == 1
    (pressed,) = due(world, 1, priority=Priority.MANUAL, next_refresh_at=utc_now() - timedelta(seconds=30))
    assert [claim.connection_id for claim in claim_due(resources, floors=floors)] == [pressed.id]


def test_the_peek_of_the_clock_agrees_with_the_claim(resources, world):
    floors = Floors()
    with resources.database.session() as session:
        assert leases.oldest_due(session, floors) is None
    moment = utc_now() - timedelta(seconds=1)
    due(world, 2, next_refresh_at=moment)
    with resources.database.session() as session:
        assert leases.oldest_due(session, floors) == moment


# --- What needs thought


def test_rows_that_need_thought_do_not_hold_up_the_plain_ones(resources, world):
    paused, another, unowned, plain, more = due(world, 5)
    with resources.database.session(writing=True) as session:
        session.get_one(type(paused), paused.id).state = ConnectionState.PAUSED
        session.get_one(type(another), another.id).client_id = "another-client"
        session.commit()
    world.set_token(unowned, refresh_token_sealed=None, expires_at=utc_now())
    assert {claim.connection_id for claim in claim_due(resources)} == {plain.id, more.id}
    assert world.token(paused).next_refresh_at is None
    assert world.token(another).next_refresh_at is None
    assert world.reread(unowned).state is ConnectionState.REAUTH_REQUIRED
    assert claim_due(resources) == []


def test_a_plain_claim_says_the_same_as_a_careful_one(resources, world):
    (connection,) = due(world, 1)
    (plain,) = claim_due(resources)
    world.set_token(connection, lease_owner=None, lease_until=None)
    with resources.database.session(writing=True) as session:
        careful = leases.claim_one(session, resources.settings, connection.id, plain.trigger, None, None)
    own = ("refresh_id", "owner", "lease_until", "lease_ends", "plain")
    fields = [name for name in claims.Claim.__dataclass_fields__ if name not in own]
    assert {name: getattr(plain, name) for name in fields} == {name: getattr(careful, name) for name in fields}
    first, second = sorted(world.all(Refresh, connection_id=connection.id), key=lambda row: row.sent_at)
    kept = {"generation", "trigger", "refresh_token_fingerprint", "requested_by", "workspace_id", "failure_reason"}
    assert second.model_dump(include=kept) == {**first.model_dump(include=kept), "failure_reason": ""}


# --- Many at once


@pytest.mark.settings(host_concurrency=5, agent_reserve=0, strict_concurrency=5)
def test_eight_claimers_lease_nothing_twice_and_overfill_no_host(resources, world):
    hosts = [f"https://{name}.example" for name in ("one", "two", "three")]
    total = sum(len(due(world, 20, host)) for host in hosts)
    lock, in_flight, generations, most = threading.Lock(), {}, Counter(), Counter()

    def work(_number):
        until = time.monotonic() + 15
        while sum(generations.values()) < total and time.monotonic() < until:
            claimed = claim_due(resources, 7)
            with lock:
                assert not in_flight.keys() & {claim.token_id for claim in claimed}
                in_flight.update({claim.token_id: claim.host for claim in claimed})
                for host, count in Counter(in_flight.values()).items():
                    most[host] = max(most[host], count)
            time.sleep(0.01)
            with lock:
                for claim in claimed:
                    del in_flight[claim.token_id]
                    generations[claim.token_id] += 1
            settled(resources, claimed)

    assert at_once(8, work) == [None] * 8
    assert set(generations.values()) == {1}
    assert len(generations) == total
    assert max(most.values()) <= 5
    assert {row.outcome for row in world.all(Refresh)} == {Outcome.STORED}


def test_a_press_does_not_wait_behind_what_the_clock_made_due(resources, world, stub):
    """Nothing is queued outside the database, so the next claim takes it first."""
    scheduled = [world.connection(token_endpoint=stub.url_for("/token")) for _ in range(10)]
    pressed = world.connection(token_endpoint=stub.url_for("/token"))
    for number, connection in enumerate([*scheduled, pressed]):
        world.authorize(connection, refresh_token=f"rt-{number}")
    world.make_due(*scheduled)
    sent = []

    def handler(request):
        sent.append(request.form["refresh_token"])
        if len(sent) == 2:
            world.make_due(pressed, priority=Priority.MANUAL)
        return '{"access_token": "at-2", "expires_in": 3600}'

    stub.expect_request("/token").respond_with_handler(lambda request: as_response(handler(request)))
    assert tokens.drain(resources, 5.0, limit=2) == 11
    stub.check()
    assert sent.index("rt-10") <= 5


def as_response(body):
    from werkzeug.wrappers import Response

    return Response(body, content_type="application/json")

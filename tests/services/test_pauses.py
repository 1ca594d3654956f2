"""Paused is paused: nobody sends a token request, what was under way is kept, and resuming goes on where it was."""

import threading
from datetime import timedelta

import pytest
from werkzeug.wrappers import Response

from models import AttemptOutcome, AuditEntry, AuthorizationAttempt, ConnectionState, Priority, Refresh, Trigger
from models.types import utc_now
from oauth.vocabulary import FailureClass, GrantType, OAuthFailure
from services.audit import WORKER
from services.authorizing import grants
from services.calling.call_authorization import access
from services.calling.call_failures import CallFailure, Problem
from services.engine import leases, settle, tokens
from services.engine.hosts import Paused
from services.engine.leases import Claim, Unclaimed
from services.errors import NotFound
from services.operating import pauses
from services.setup import connections
from tests.support.together import at_once
from tests.support.world import token_reply

HOST = "provider.example"


@pytest.fixture
def connection(world):
    made = world.connection()
    world.authorize(made)
    return made


def pause(resources, *chosen):
    with resources.database.session(writing=True) as session:
        return pauses.pause(session, WORKER, [one.id for one in chosen])


def resume(resources, *chosen):
    with resources.database.session(writing=True) as session:
        return pauses.resume(session, resources.settings, WORKER, [one.id for one in chosen])


def pause_host(resources, host=HOST):
    with resources.database.session(writing=True) as session:
        return pauses.pause_host(session, WORKER, host)


def resume_host(resources, host=HOST):
    with resources.database.session(writing=True) as session:
        return pauses.resume_host(session, resources.settings, WORKER, host)


def claim(resources, connection, trigger=Trigger.MANUAL):
    with resources.database.session(writing=True) as session:
        return leases.claim_one(session, resources.settings, connection.id, trigger, None, None)


def claim_due(resources):
    with resources.database.session(writing=True) as session:
        return leases.claim_due(session, resources.settings, 100)


def answer(resources, claimed, result):
    with resources.database.session(writing=True) as session:
        settle.settle(session, resources.settings, [(claimed, result)])


# --- Connections


def test_a_paused_connection_is_refreshed_by_nobody(resources, world, connection):
    before = world.token(connection).next_refresh_at
    done = pause(resources, connection)
    assert (done.changed, world.reread(connection).state.shown) == ([connection.id], "Paused")
    world.make_due(connection)
    assert claim_due(resources) == []
    for trigger in Trigger:
        with pytest.raises(Paused, match=f"{connection.name} is paused"):
            tokens.refresh(resources, connection.id, trigger)
    assert world.all(Refresh) == []
    assert resume(resources, connection).changed == [connection.id]
    row, token = world.reread(connection), world.token(connection)
    assert (row.state, row.paused_from) == (ConnectionState.ACTIVE, None)
    assert abs(token.next_refresh_at - before) < timedelta(seconds=0.11 * 3600), "due as it would have been"


def test_what_fell_due_meanwhile_is_due_at_once_on_resuming(resources, world, connection, time_machine):
    pause(resources, connection)
    assert world.token(connection).next_refresh_at is None
    time_machine.move_to(utc_now() + timedelta(hours=30))
    resume(resources, connection)
    assert abs(world.token(connection).next_refresh_at - utc_now()) < timedelta(seconds=5)
    assert [one.connection_id for one in claim_due(resources)] == [connection.id]


@pytest.mark.parametrize("state", [ConnectionState.DEGRADED, ConnectionState.EXPIRED_RETRYING])
def test_what_was_failing_is_tried_at_once_on_resuming(resources, world, connection, session, state):
    row = session.merge(connection)
    row.state = state
    session.add(row)
    session.commit()
    pause(resources, connection)
    resume(resources, connection)
    assert world.reread(connection).state is state
    assert world.token(connection).next_refresh_at <= utc_now()


@pytest.mark.parametrize("state", [ConnectionState.REAUTH_REQUIRED, ConnectionState.MISCONFIGURED])
def test_what_needed_somebody_still_does_after_resuming(resources, world, connection, session, state):
    row = session.merge(connection)
    row.state = state
    session.add(row)
    session.commit()
    pause(resources, connection)
    resume(resources, connection)
    assert world.reread(connection).state is state
    assert world.token(connection).next_refresh_at is None


def test_a_reply_under_way_is_kept_and_the_pause_stays(resources, world, connection):
    claimed = claim(resources, connection)
    pause(resources, connection)
    answer(resources, claimed, token_reply("at-2", "rt-2"))
    row, token = world.reread(connection), world.token(connection)
    assert (row.state, row.paused_from) == (ConnectionState.PAUSED, ConnectionState.ACTIVE)
    assert (world.access_token(connection), token.next_refresh_at, token.lease_until) == ("at-2", None, None)
    resume(resources, connection)
    assert world.token(connection).next_refresh_at > utc_now()


@pytest.mark.parametrize(
    ("kind", "then"),
    [
        (FailureClass.GRANT_DEAD, ConnectionState.REAUTH_REQUIRED),
        (FailureClass.PROVIDER_DOWN, ConnectionState.DEGRADED),
    ],
)
def test_a_failure_under_way_is_remembered_for_resuming(resources, world, connection, kind, then):
    claimed = claim(resources, connection)
    pause(resources, connection)
    answer(resources, claimed, OAuthFailure("refresh", kind, "It failed."))
    row = world.reread(connection)
    assert (row.state, row.paused_from, row.failure_class) == (ConnectionState.PAUSED, then, kind)
    assert world.token(connection).next_refresh_at is None
    resume(resources, connection)
    assert world.reread(connection).state is then


def test_pausing_races_with_refreshes_and_wins(resources, world, stub):
    """Whoever comes first, at the end it is paused, no reply is lost, and nothing more is sent."""
    stub.expect_request("/token").respond_with_json({"access_token": "new", "refresh_token": "rt-2", "expires_in": 60})
    made = [world.connection(token_endpoint=stub.url_for("/token")) for _ in range(6)]
    for one in made:
        world.authorize(one)
    world.make_due(*made)
    at_once(3, lambda n: tokens.drain(resources, 1.0) if n else pause(resources, *made))
    sent = len(stub.log)
    world.make_due(*made)
    tokens.drain(resources, 0.5)
    assert len(stub.log) == sent
    for one in made:
        rows = world.all(Refresh, connection_id=one.id)
        assert world.reread(one).state is ConnectionState.PAUSED
        assert world.token(one).generation == 1 + len(rows)
        assert world.token(one).lease_until is None


def test_pausing_while_the_provider_holds_the_reply_waits_for_nothing(resources, world, stub):
    arrived, go_on = threading.Event(), threading.Event()

    def hold(_request):
        arrived.set()
        assert go_on.wait(5)
        return Response('{"access_token": "new", "expires_in": 60}', content_type="application/json")

    stub.expect_request("/token").respond_with_handler(hold)
    one = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(one)
    running = threading.Thread(target=tokens.refresh, args=(resources, one.id, Trigger.MANUAL))
    running.start()
    assert arrived.wait(5)
    pause(resources, one)
    assert world.reread(one).state is ConnectionState.PAUSED
    go_on.set()
    running.join(5)
    assert (world.access_token(one), world.reread(one).state) == ("new", ConnectionState.PAUSED)


def test_an_authorization_under_way_is_withdrawn(resources, world, connection, session):
    attempt = AuthorizationAttempt(
        workspace_id=connection.workspace_id,
        connection_id=connection.id,
        user_id=world.alice.id,
        browser_hash="x",
        connection_version=1,
        expires_at=utc_now() + timedelta(minutes=5),
    )
    session.add(attempt)
    session.commit()
    pause(resources, connection)
    ended = world.reread(attempt)
    assert (ended.outcome, ended.failure_reason) == (AttemptOutcome.FAILED, pauses.WITHDRAWN)


def test_what_has_nothing_to_pause_says_so(resources, world, connection):
    fresh = world.connection()
    pause(resources, connection)
    done = pause(resources, connection, fresh)
    assert (done.already, done.refused) == ([connection.id], {fresh.id: pauses.NOT_AUTHORIZED})
    assert resume(resources, fresh).already == [fresh.id]
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(type(fresh), fresh.id))
        session.commit()
    assert pause(resources, fresh).refused == {fresh.id: pauses.GONE}


def test_disconnecting_and_editing_win_over_a_pause(resources, world, connection):
    other = world.connection(revocation_endpoint="")
    world.authorize(other)
    pause(resources, connection, other)
    connections.disconnect(resources, WORKER, other.id)
    assert (world.reread(other).state, world.reread(other).paused_from) == (ConnectionState.DISCONNECTED, None)
    with resources.database.session(writing=True) as session:
        row = session.get_one(type(connection), connection.id)
        row.paused_from = ConnectionState.MISCONFIGURED
        grants.after_change(session, row, tokens.current_token(session, row), asks_anew=True)
        session.commit()
    row = world.reread(connection)
    assert (row.state, row.paused_from) == (ConnectionState.PAUSED, ConnectionState.ACTIVE)
    assert world.token(connection).next_refresh_at is None


def test_every_pause_and_end_of_one_is_in_the_audit_trail(resources, world, connection):
    pause(resources, connection)
    resume(resources, connection)
    actions = [entry.action for entry in world.all(AuditEntry, workspace_id=connection.workspace_id)]
    assert actions[-2:] == ["connection.paused", "connection.resumed"]


# --- Providers and everything


@pytest.mark.parametrize("host", [HOST, "*"])
def test_while_a_provider_or_everything_is_paused_nobody_asks_it(resources, world, connection, host):
    pause_host(resources, host)
    world.make_due(connection)
    assert claim_due(resources) == []
    assert all(claim(resources, connection, trigger) is Unclaimed.RESTING for trigger in Trigger)
    world.set_token(connection, expires_at=utc_now())
    with pytest.raises(CallFailure, match="paused") as stopped:
        access(resources, connection)
    assert stopped.value.failure_class is Problem.REFRESHES_PAUSED
    assert world.all(Refresh) == []
    assert resume_host(resources, host)
    assert not resume_host(resources, host), "there is nothing left to resume"
    assert isinstance(claim(resources, connection, Trigger.AGENT_FACING), Claim)


def test_a_token_that_is_still_good_goes_on_working_while_its_provider_is_paused(resources, connection):
    pause_host(resources)
    assert access(resources, connection).token.get_secret_value() == "at"


def test_what_waited_for_a_paused_provider_comes_back_spread_out(resources, world, time_machine):
    made = [world.connection() for _ in range(12)]
    for one in made:
        world.authorize(one)
    pause_host(resources)
    world.make_due(*made, priority=Priority.MANUAL)
    claim_due(resources)
    assert all(world.token(one).held for one in made)
    resume_host(resources)
    dues = {world.token(one).next_refresh_at for one in made}
    assert len(dues) > 4
    assert max(dues) - utc_now() <= timedelta(seconds=resources.settings.breaker_first)
    time_machine.move_to(max(dues) + timedelta(seconds=1))
    assert len(claim_due(resources)) == len(made)


def test_pausing_one_provider_stops_no_other(resources, world, connection):
    other = world.connection(token_endpoint="https://another.example/token")
    world.authorize(other)
    pause_host(resources)
    world.make_due(connection, other)
    assert [one.connection_id for one in claim_due(resources)] == [other.id]


def test_only_a_provider_somebody_uses_can_be_paused_or_limited(resources, world, connection, session):
    for host in ("nobody.example", ""):
        with pytest.raises(NotFound):
            pause_host(resources, host)
    with pytest.raises(NotFound):
        pauses.limit_host(session, WORKER, "*", 3)
    pauses.limit_host(session, WORKER, HOST, 1)
    assert isinstance(claim(resources, connection), Claim)
    other = world.connection()
    world.authorize(other)
    assert claim(resources, other) is Unclaimed.BUSY


def test_first_tokens_are_not_fetched_while_paused(resources, world, stub):
    stub.expect_request("/token").respond_with_json({"access_token": "new", "expires_in": 60})
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS, token_endpoint=stub.url_for("/token"))
    pause_host(resources, f"{stub.host}:{stub.port}")
    with pytest.raises(Paused, match="are paused"):
        tokens.refresh(resources, machine.id, Trigger.AUTHORIZE)
    assert len(stub.log) == 0


def test_workspaces_learn_of_a_pause_that_concerns_them(resources, world, connection):
    elsewhere = world.connection(workspace=world.globex, token_endpoint="https://another.example/token")
    world.authorize(elsewhere)
    pause_host(resources)
    entries = world.all(AuditEntry, action="provider.paused")
    assert {entry.workspace_id for entry in entries} == {None, world.acme.id}
    pause_host(resources, "*")
    entries = world.all(AuditEntry, action="everything.paused")
    assert {entry.workspace_id for entry in entries} == {None, world.acme.id, world.globex.id}

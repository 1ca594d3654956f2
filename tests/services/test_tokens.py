"""One refresh at a time, journalled before it leaves, stored by compare-and-swap: no grant is ever lost."""

import os
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError
from werkzeug.wrappers import Response

from models import AuditEntry, ClientSecret, Connection, ConnectionState, Outcome, Refresh, Token, Trigger
from models.types import utc_now
from oauth.vocabulary import FailureClass, GrantType, OAuthFailure
from services.audit import WORKER
from services.authorizing import grants
from services.engine import leases, settle, states, tokens
from services.errors import NotFound
from tests.support.together import at_once
from tests.support.world import token_reply

ROOT = Path(__file__).parents[2]


def refresh(resources, connection, trigger=Trigger.MANUAL, **more):
    tokens.refresh(resources, connection.id, trigger, **more)


def access(resources, connection, **more):
    return tokens.access(resources, connection.workspace_id, connection.id, **more)


def claim(resources, connection, trigger=Trigger.SCHEDULED):
    with resources.database.session(writing=True) as session:
        claimed = leases.claim_one(session, resources.settings, connection.id, trigger, None, None)
    assert isinstance(claimed, leases.Claim)
    return claimed


def settled(resources, claimed, result):
    with resources.database.session(writing=True) as session:
        settle.settle(session, resources.settings, [(claimed, result)])


def failure(kind, code=""):
    return OAuthFailure("refresh", kind, "It failed.", code=code)


def journal(world, connection):
    return sorted(world.all(Refresh, connection_id=connection.id), key=lambda row: row.sent_at)


# --- One request at a time (TK-07, TK-16)


def test_of_many_refreshers_one_sends_and_all_find_the_new_token(resources, world, provider):
    connection = world.connection()
    world.consent(connection)
    for spent in (1, 2, 3):
        results = at_once(8, lambda _n, spent=spent: refresh(resources, connection, spent=spent))
        assert results == [None] * 8
        assert provider.hits() == spent
        assert world.token(connection).generation == spent + 1
        assert provider.alive(world.access_token(connection))
    assert provider.control()["dead_families"] == 0


def test_sixteen_callers_at_expiry_cost_one_request_and_get_one_token(resources, world, provider):
    connection = world.connection()
    world.consent(connection, lifetime=0.01)
    provider.control(behaviours={"token": "delay:0.3"})
    time.sleep(0.05)
    results = at_once(16, lambda _n: access(resources, connection).token.get_secret_value())
    assert set(results) == {world.access_token(connection)}
    assert provider.hits() == 1
    assert provider.alive(results[0])


def test_sixteen_callers_at_expiry_cost_one_request_with_client_credentials(resources, world, provider):
    connection = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    world.authorize(connection, lifetime=0.01, refresh_token=None)
    provider.control(behaviours={"token": "delay:0.3"})
    time.sleep(0.05)
    results = at_once(16, lambda _n: access(resources, connection).token.get_secret_value())
    assert set(results) == {world.access_token(connection)}
    assert provider.hits("client_credentials") == 1
    assert provider.alive(results[0])


@pytest.mark.settings(due_fraction=0.5, retry_first=0.2)
def test_processes_and_previews_side_by_side_lose_no_grant(resources, world, provider, settings):
    """A strict provider kills a grant whose refresh token comes twice; three processes and previews share twelve."""
    provider.control(lifetime=1)
    connections = [world.connection() for _ in range(12)]
    for connection in connections:
        world.consent(connection, lifetime=1)
    names = ("secret_key", "encryption_keys", "database_url", "outbound_allow", "tick", "due_fraction", "retry_first")
    environment = {f"CARDKEY_{name.upper()}": plain(getattr(settings, name)) for name in names}
    command = [sys.executable, "-m", "tests.support.refresher", "5"]
    processes = [subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}) for _ in range(3)]
    try:
        with ThreadPoolExecutor(4) as pool:
            while any(process.poll() is None for process in processes):
                served = pool.map(lambda connection: access(resources, connection).generation, connections)
                assert all(generation > 0 for generation in served)
    finally:
        for process in processes:
            process.kill()
            process.wait(10)
    assert [process.returncode for process in processes] == [0, 0, 0]
    rows = [world.token(connection) for connection in connections]
    assert provider.control()["dead_families"] == 0
    assert "refused" not in provider.counts
    assert provider.hits() == sum(row.generation - 1 for row in rows)
    assert min(row.generation for row in rows) >= 3
    assert {row.outcome for row in world.all(Refresh)} == {Outcome.STORED}


def plain(value):
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@pytest.mark.settings(caller_wait=0.3)
def test_a_caller_waits_only_so_long_for_somebody_else(resources, world, provider):
    connection = world.connection()
    world.consent(connection, lifetime=0.01)
    claim(resources, connection)
    started = time.monotonic()
    with pytest.raises(tokens.BeingRefreshed):
        access(resources, connection)
    assert 0.3 <= time.monotonic() - started < 2
    assert provider.hits() == 0


# --- The journal comes first, the database must be writable


def test_lease_and_journal_are_committed_before_the_request_leaves(resources, world, stub):
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection, refresh_token="rt-1")
    seen = {}

    def handler(_request):
        seen["row"], seen["journal"] = world.token(connection), journal(world, connection)
        return Response('{"access_token": "at-2", "token_type": "bearer", "expires_in": 60}')

    stub.expect_request("/token").respond_with_handler(handler)
    refresh(resources, connection)
    stub.check()
    (sent,) = seen["journal"]
    assert seen["row"].lease_until > utc_now() - timedelta(seconds=1)
    assert (sent.outcome, sent.generation, sent.lease_owner) == (Outcome.SENT, 1, seen["row"].lease_owner)
    assert sent.refresh_token_fingerprint == resources.database.keyring.fingerprint(SecretStr("rt-1"))
    (closed,) = journal(world, connection)
    assert (closed.outcome, closed.closed_at is None) == (Outcome.STORED, False)
    assert world.token(connection).lease_until is None


def make_unwritable(database):
    """Let every new transaction fail on its first write, as a full disk or a standby does."""
    if database.engine.dialect.name == "sqlite":
        sa.event.listen(database.engine, "connect", lambda raw, _record: raw.execute("PRAGMA query_only=ON").close())
    else:
        with database.engine.connect() as connection:
            name = connection.engine.url.database
            connection.exec_driver_sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            connection.commit()
    database.engine.dispose()


def test_nothing_is_sent_while_the_database_cannot_be_written(resources, world, provider):
    connection = world.connection()
    world.consent(connection, lifetime=0.01)
    world.make_due(connection)
    make_unwritable(resources.database)
    for attempt in (
        lambda: access(resources, connection),
        lambda: refresh(resources, connection),
        lambda: tokens.drain(resources, 1.0),
    ):
        with pytest.raises((OperationalError, sa.exc.InternalError)):
            attempt()
    assert provider.hits() == 0


REFUSALS = {
    "restarts": (sqlite3.OperationalError, psycopg.OperationalError),
    "is full": (sqlite3.OperationalError, psycopg.errors.DiskFull),
    "may only be read": (sqlite3.OperationalError, psycopg.errors.ReadOnlySqlTransaction),
    "is in another's hands": (sqlite3.OperationalError, psycopg.errors.DeadlockDetected),
    "lost the connection": (sqlite3.InterfaceError, psycopg.InterfaceError),
}


def fail_next_write(database, table, times, how="restarts"):
    """Let the database turn the next writes to a table down, as one that restarts does."""
    left = [times]
    error = REFUSALS[how][database.engine.dialect.name == "postgresql"]

    def refuse(_connection, _cursor, statement, *_rest):
        if left[0] and statement.startswith(f"UPDATE {table}"):
            left[0] -= 1
            raise error("the database went away")

    sa.event.listen(database.engine, "before_cursor_execute", refuse)
    return left


@pytest.mark.parametrize("how", REFUSALS)
def test_a_token_is_stored_when_the_database_comes_back(resources, world, stub, how):
    """The reply is here, its refresh token is spent: the commit is tried until the lease ends (F10)."""
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection, refresh_token="rt-1")
    left = []

    def handler(_request):
        left.append(fail_next_write(resources.database, "tokens", 1, how))
        return Response('{"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 60}')

    stub.expect_request("/token").respond_with_handler(handler)
    refresh(resources, connection)
    assert left == [[0]]
    assert (world.access_token(connection), world.refresh_token(connection)) == ("at-2", "rt-2")
    assert connection_state(world, connection) is ConnectionState.ACTIVE


@pytest.mark.settings(token_deadline=0.2, lease=0.6)
def test_a_token_that_could_not_be_stored_in_time_is_never_called_connected(resources, world, stub):
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection, refresh_token="rt-1")

    def handler(_request):
        fail_next_write(resources.database, "tokens", 50)
        return Response('{"access_token": "at-2", "refresh_token": "rt-2", "expires_in": 60}')

    stub.expect_request("/token").respond_with_handler(handler)
    with pytest.raises(OperationalError):
        refresh(resources, connection)
    assert [row.outcome for row in journal(world, connection)] == [Outcome.SENT]
    assert world.refresh_token(connection) == "rt-1"


def test_a_broken_audit_table_does_not_cost_the_token(resources, world, provider):
    """TK-06: what must be stored is stored, whatever becomes of the record about it."""
    connection = world.connection()
    world.consent(connection)
    with resources.database.session(writing=True) as session:
        session.get_one(Connection, connection.id).state = ConnectionState.DEGRADED
        session.execute(sa.text("DROP TABLE audit_entries"))
        session.commit()
    refresh(resources, connection)
    assert world.token(connection).generation == 2
    assert provider.alive(world.access_token(connection))
    assert connection_state(world, connection) is ConnectionState.ACTIVE


# --- Fencing (TK-08, TK-09, TK-17)


def connection_state(world, connection):
    return world.reread(connection).state


def test_a_late_reply_never_replaces_a_newer_token(resources, world):
    connection = world.connection()
    world.authorize(connection)
    late = claim(resources, connection)
    world.authorize(connection, access_token="at-new", refresh_token="rt-new")
    settled(resources, late, token_reply("at-late", "rt-late"))
    assert (world.access_token(connection), world.refresh_token(connection)) == ("at-new", "rt-new")
    assert world.token(connection).generation == 2
    assert journal(world, connection)[0].outcome is Outcome.SUPERSEDED


def test_a_refusal_that_comes_after_a_newer_token_changes_nothing(resources, world):
    connection = world.connection()
    world.authorize(connection)
    loser = claim(resources, connection)
    world.authorize(connection, access_token="at-new")
    settled(resources, loser, failure(FailureClass.GRANT_DEAD, "invalid_grant"))
    assert connection_state(world, connection) is ConnectionState.ACTIVE
    assert world.reread(connection).failure_class is None
    assert world.token(connection).next_refresh_at is not None


def test_whoever_loses_the_race_adopts_the_winner_s_token(resources, world, stub):
    """The caller of a refresh that was overtaken gets the newer token, not the refusal."""
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection, lifetime=0.01)

    def handler(_request):
        world.authorize(connection, access_token="at-new", refresh_token="rt-new")
        return Response('{"error": "invalid_grant"}', 400)

    stub.expect_request("/token").respond_with_handler(handler)
    time.sleep(0.05)
    assert access(resources, connection).token.get_secret_value() == "at-new"


def test_who_lost_the_lease_cannot_take_it_from_the_one_who_holds_it(resources, world):
    """A suspended process wakes up with a timeout while another's request is under way."""
    connection = world.connection()
    world.authorize(connection)
    sleeper = claim(resources, connection)
    world.set_token(connection, lease_until=utc_now() - timedelta(seconds=1))
    holder = claim(resources, connection)
    settled(resources, sleeper, failure(FailureClass.UNKNOWN))
    row = world.token(connection)
    assert row.lease_owner == holder.owner
    assert row.lease_until > utc_now()
    assert connection_state(world, connection) is ConnectionState.ACTIVE
    settled(resources, holder, token_reply("at-2", "rt-2"))
    assert world.access_token(connection) == "at-2"


def test_who_lost_the_lease_still_stores_the_grant_it_got(resources, world):
    connection = world.connection()
    world.authorize(connection)
    sleeper = claim(resources, connection)
    world.set_token(connection, lease_until=utc_now() - timedelta(seconds=1))
    holder = claim(resources, connection)
    settled(resources, sleeper, token_reply("at-2", "rt-2"))
    settled(resources, holder, failure(FailureClass.GRANT_DEAD, "invalid_grant"))
    assert world.refresh_token(connection) == "rt-2"
    assert connection_state(world, connection) is ConnectionState.ACTIVE


def test_a_row_read_before_the_lease_is_read_again_under_it(resources, world):
    """Otherwise a session that had the row in memory would spend the same refresh token a second time."""
    connection = world.connection()
    world.authorize(connection, refresh_token="rt-1")
    with resources.database.session(writing=True) as session:
        session.get_one(Connection, connection.id)
        stale = tokens.current_token(session, connection)
        assert stale.generation == 1
        session.rollback()  # no transaction is open, yet the rows stay in memory
        world.authorize(connection, refresh_token="rt-2")
        with resources.database.session(writing=True) as other:
            other.get_one(Connection, connection.id).client_id = "another-client"
            other.commit()
        claimed = leases.claim_one(session, resources.settings, connection.id, Trigger.MANUAL, None, None)
    assert claimed.refresh_token.get_secret_value() == "rt-2"
    assert claimed.generation == 2
    assert claimed.registration.client_id == "another-client"


def test_a_stale_row_does_not_hide_that_the_token_has_moved_on(resources, world):
    connection = world.connection()
    world.authorize(connection)
    with resources.database.session(writing=True) as session:
        tokens.current_token(session, connection)
        session.rollback()
        world.authorize(connection)
        found = leases.claim_one(session, resources.settings, connection.id, Trigger.MANUAL, 1, None)
    assert found is leases.Unclaimed.MOVED_ON


def test_a_disconnected_grant_does_not_come_back_with_a_late_reply(resources, world):
    connection = world.connection()
    world.authorize(connection)
    late = claim(resources, connection)
    with resources.database.session(writing=True) as session:
        row = session.get_one(Connection, connection.id)
        grants.forget(session, row, tokens.current_token(session, row))
        session.commit()
    settled(resources, late, token_reply("at-late", "rt-late"))
    assert world.access_token(connection) is None
    assert world.refresh_token(connection) is None
    assert connection_state(world, connection) is ConnectionState.CONFIGURED


def test_a_deleted_connection_does_not_come_back_with_a_late_reply(resources, world):
    connection = world.connection()
    world.authorize(connection)
    late = claim(resources, connection)
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(Connection, connection.id))
        session.commit()
    settled(resources, late, token_reply("at-late", "rt-late"))
    for model in (Token, Refresh, ClientSecret):
        assert world.all(model, connection_id=connection.id) == []


def test_a_reply_for_the_client_before_an_edit_does_not_connect_the_new_one(resources, world):
    """The grant is kept for the day the old client returns, and used for nothing until then."""
    connection = world.connection()
    world.authorize(connection)
    late = claim(resources, connection)
    with resources.database.session(writing=True) as session:
        row = session.get_one(Connection, connection.id)
        row.client_id, row.version = "another-client", row.version + 1
        grants.after_change(session, row, tokens.current_token(session, row), asks_anew=True)
        session.commit()
    settled(resources, late, token_reply("at-2", "rt-2"))
    assert world.refresh_token(connection) == "rt-2"
    assert connection_state(world, connection) is ConnectionState.CONFIGURED
    assert world.token(connection).next_refresh_at is None


def test_a_refusal_of_the_settings_before_an_edit_does_not_stop_the_new_ones(resources, world):
    connection = world.connection()
    world.authorize(connection)
    world.make_due(connection)
    late = claim(resources, connection)
    with resources.database.session(writing=True) as session:
        session.get_one(Connection, connection.id).version += 1
        session.commit()
    settled(resources, late, failure(FailureClass.CLIENT_BAD, "invalid_client"))
    assert connection_state(world, connection) is ConnectionState.ACTIVE
    assert journal(world, connection)[0].outcome is Outcome.FAILED
    row = world.token(connection)
    assert row.lease_until is None
    assert row.next_refresh_at <= utc_now()


# --- Ends and retries (TK-09, TK-10, TK-11)


def test_a_revoked_grant_costs_one_request_and_then_silence(resources, world, provider):
    connection = world.connection()
    world.consent(connection, lifetime=0.01)
    provider.control(revoke_all=True)
    time.sleep(0.05)
    for _ in range(3):
        with pytest.raises(OAuthFailure) as problem:
            access(resources, connection)
        assert problem.value.failure_class is FailureClass.GRANT_DEAD
        assert tokens.drain(resources, 0.2) == 0
    assert provider.hits() == 1
    assert connection_state(world, connection) is ConnectionState.REAUTH_REQUIRED
    assert world.refresh_token(connection) is not None


def test_callers_who_waited_for_a_dead_grant_do_not_ask_again(resources, world, provider):
    connection = world.connection()
    world.consent(connection, lifetime=0.01)
    provider.control(revoke_all=True, behaviours={"token": "delay:0.3"})
    time.sleep(0.05)
    results = at_once(8, lambda _n: access(resources, connection))
    assert {result.failure_class for result in results} == {FailureClass.GRANT_DEAD}
    assert provider.hits() == 1


def test_callers_do_not_hurry_a_provider_that_is_down(resources, world, provider):
    """Back-off holds for everybody: previews in a row must not turn an outage into a storm."""
    connection = world.connection()
    world.consent(connection, lifetime=0.01)
    provider.control(behaviours={"token": "status:503"})
    time.sleep(0.05)
    results = at_once(8, lambda _n: access(resources, connection))
    assert {result.failure_class for result in results} == {FailureClass.PROVIDER_DOWN}
    assert provider.hits() == 1
    assert connection_state(world, connection) is ConnectionState.EXPIRED_RETRYING
    provider.control(behaviours={})
    world.make_due(connection)
    assert provider.alive(access(resources, connection).token.get_secret_value())


def test_a_wrong_secret_stops_at_once_and_keeps_the_tokens(resources, world, provider):
    connection = world.connection(secret="not the secret")
    world.consent(connection)
    world.make_due(connection)
    tokens.drain(resources, 1.0)
    hits = provider.hits()
    assert tokens.drain(resources, 1.0) == 0
    assert provider.hits() == hits <= 3  # automatic authentication tries the ways there are, once
    assert connection_state(world, connection) is ConnectionState.MISCONFIGURED
    assert world.refresh_token(connection) is not None


# --- Unknown outcomes


@pytest.mark.settings(token_deadline=0.3, connect_deadline=0.2, lease=1.0)
def test_an_unknown_outcome_is_tried_once_more_and_then_called_interrupted(resources, world, provider):
    """The provider rotated the token and we never saw the new one."""
    connection = world.connection()
    world.consent(connection)
    provider.control(behaviours={"token": "delay:0.6"})
    world.make_due(connection)
    tokens.drain(resources, 0.1)
    assert [row.outcome for row in journal(world, connection)] == [Outcome.UNKNOWN]
    assert connection_state(world, connection) is ConnectionState.DEGRADED
    provider.control(behaviours={})
    time.sleep(0.8)
    assert tokens.drain(resources, 0.2) == 1
    row = world.reread(connection)
    assert (row.state, row.failure_reason) == (ConnectionState.REAUTH_REQUIRED, states.INTERRUPTED)
    assert tokens.drain(resources, 0.2) == 0
    assert provider.hits() == 2


def test_a_process_that_died_after_sending_leaves_an_unknown_outcome_and_one_more_try(resources, world, provider):
    connection = world.connection()
    world.consent(connection)
    claim(resources, connection)
    world.make_due(connection, lease_until=utc_now() - timedelta(seconds=1))
    assert tokens.drain(resources, 0.5) == 1
    assert [row.outcome for row in journal(world, connection)] == [Outcome.UNKNOWN, Outcome.STORED]
    assert connection_state(world, connection) is ConnectionState.ACTIVE


def test_a_living_lease_is_left_alone(resources, world, provider):
    connection = world.connection()
    world.consent(connection)
    claim(resources, connection)
    world.make_due(connection)
    assert tokens.drain(resources, 0.2) == 0
    assert provider.hits() == 0


@pytest.mark.settings(token_deadline=0.5, connect_deadline=0.3, lease=2.0)
def test_a_reply_that_drips_ends_at_the_deadline(resources, world, stub):
    """TK-14: the deadline is for the whole call, however busily the provider sends."""
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection)

    def drip():
        for _ in range(40):
            yield b" "
            time.sleep(0.1)

    stub.expect_request("/token").respond_with_handler(lambda _request: Response(drip()))
    started = time.monotonic()
    with pytest.raises(OAuthFailure) as problem:
        refresh(resources, connection)
    assert time.monotonic() - started < 1.5
    assert problem.value.failure_class is FailureClass.UNKNOWN
    assert world.refresh_token(connection) == "rt"


# --- What a reply leaves out (TK-05)


@pytest.mark.parametrize("echo", ["", ', "refresh_token": null', ', "refresh_token": ""', ', "refresh_token": false'])
def test_an_unrotated_refresh_token_is_kept_and_works_again(resources, world, stub, echo):
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection, refresh_token="rt-1")
    stub.expect_request("/token").respond_with_data(f'{{"access_token": "at-2", "expires_in": 60{echo}}}')
    refresh(resources, connection)
    refresh(resources, connection)
    sent = [request.form["refresh_token"] for request, _reply in stub.log]
    assert sent == ["rt-1", "rt-1"]
    assert world.refresh_token(connection) == "rt-1"
    assert world.token(connection).generation == 3


def test_a_rotated_refresh_token_replaces_the_old_one(resources, world, stub):
    connection = world.connection(token_endpoint=stub.url_for("/token"))
    world.authorize(connection, refresh_token="rt-1")
    for number in (2, 3):
        body = f'{{"access_token": "at", "refresh_token": "rt-{number}", "expires_in": 60}}'
        stub.expect_oneshot_request("/token").respond_with_data(body)
        refresh(resources, connection)
    assert [request.form["refresh_token"] for request, _reply in stub.log] == ["rt-1", "rt-2"]
    assert world.refresh_token(connection) == "rt-3"


# --- Damaged rows (SS-05)


@pytest.mark.settings(host_concurrency=64)
def test_damaged_rows_stop_alone_and_the_others_go_on(resources, world, provider):
    connections = [world.connection() for _ in range(25)]
    for connection in connections:
        world.consent(connection)
    damaged, sound = connections[:20], connections[20:]
    for place, connection in enumerate(damaged):
        if place % 2:
            sealed = bytearray(world.token(connection).refresh_token_sealed)
            sealed[-1 - place % 16] ^= 1
            world.set_token(connection, refresh_token_sealed=bytes(sealed))
        else:
            damage_secret(resources, connection, place)
    world.make_due(*connections)
    assert tokens.drain(resources, 3.0) == 5
    assert provider.hits() == 5
    assert [connection_state(world, row) for row in damaged] == [ConnectionState.MISCONFIGURED] * 20
    assert [connection_state(world, row) for row in sound] == [ConnectionState.ACTIVE] * 5
    assert {world.reread(row).failure_code for row in damaged} == {"undecryptable"}
    alerts = world.all(AuditEntry, action="connection.state_changed")
    assert {row.subject_id for row in alerts if row.detail["to"] == "Misconfigured"} == {row.id for row in damaged}
    with pytest.raises(OAuthFailure, match="altered"):
        refresh(resources, damaged[1])
    assert provider.hits() == 5


def damage_secret(resources, connection, place):
    with resources.database.session(writing=True) as session:
        row = session.execute(sa.select(ClientSecret).filter_by(connection_id=connection.id)).scalar_one()
        sealed = bytearray(row.value_sealed)
        sealed[-1 - place % 16] ^= 1
        row.value_sealed = bytes(sealed)
        session.commit()


def test_a_row_that_breaks_our_own_code_costs_nobody_else_a_token(resources, world, provider):
    """What was sent beside it is stored all the same, since its refresh token is spent; then the bug is shown."""
    poison = world.connection(token_params=["no mapping"])
    others = [world.connection() for _ in range(3)]
    for connection in (poison, *others):
        world.consent(connection)
    provider.control(behaviours={"token": "delay:0.3"})
    world.make_due(poison, *others)
    with pytest.raises(AttributeError):
        tokens.drain(resources, 2.0)
    assert [world.token(connection).generation for connection in others] == [2, 2, 2]
    assert all(provider.alive(world.access_token(connection)) for connection in others)
    assert connection_state(world, poison) is ConnectionState.ACTIVE
    assert tokens.drain(resources, 0.2) == 0


# --- What a caller gets


def test_a_valid_token_is_handed_out_without_asking_anybody(resources, world, provider):
    connection = world.connection()
    world.consent(connection)
    found = access(resources, connection)
    assert (found.refreshed, found.generation, found.token_type) == (False, 1, "Bearer")
    assert provider.hits() == 0


def test_a_token_the_api_refused_is_refreshed_once_for_everybody(resources, world, provider):
    connection = world.connection()
    world.consent(connection)
    results = at_once(6, lambda _n: access(resources, connection, refused=1).generation)
    assert results == [2] * 6
    assert provider.hits() == 1
    assert access(resources, connection, refused=1).generation == 2
    assert provider.hits() == 1


def test_a_connection_that_nobody_authorized_asks_nobody(resources, world, provider):
    for grant_type in GrantType:
        with pytest.raises(NotFound, match="Authorize"):
            access(resources, world.connection(grant_type=grant_type))
    assert provider.hits() == provider.hits("client_credentials") == 0


def test_a_token_without_a_refresh_token_is_used_to_its_very_end(resources, world, provider):
    connection = world.connection()
    world.authorize(connection, lifetime=30, refresh_token=None)
    assert access(resources, connection).refreshed is False


def test_a_token_that_ran_out_without_a_refresh_token_needs_authorization(resources, world, provider):
    """Found on time by the clock, so that nobody reads Connected over a token that is gone."""
    connection = world.connection()
    world.authorize(connection, lifetime=0.2, refresh_token=None)
    assert tokens.drain(resources, 0.1) == 0
    assert connection_state(world, connection) is ConnectionState.ACTIVE
    time.sleep(0.3)
    assert tokens.drain(resources, 0.1) == 0
    assert connection_state(world, connection) is ConnectionState.REAUTH_REQUIRED
    with pytest.raises(OAuthFailure, match="no refresh token"):
        access(resources, connection)
    assert provider.hits() == 0


def test_nothing_of_another_workspace_is_handed_out(resources, world):
    connection = world.connection(workspace=world.globex)
    world.authorize(connection)
    with pytest.raises(NotFound):
        tokens.access(resources, world.acme.id, connection.id)


def test_a_tampered_access_token_stops_the_connection_and_says_so(resources, world, provider):
    connection = world.connection()
    world.consent(connection)
    sealed = bytearray(world.token(connection).access_token_sealed)
    sealed[-1] ^= 1
    world.set_token(connection, access_token_sealed=bytes(sealed))
    with pytest.raises(OAuthFailure, match="altered"):
        access(resources, connection)
    assert connection_state(world, connection) is ConnectionState.MISCONFIGURED
    assert WORKER.name in {row.actor for row in world.all(AuditEntry, subject_id=connection.id)}


def test_a_caller_gets_a_token_that_is_good_for_seconds_yet_when_no_new_one_can_be_had(resources, world, time_machine):
    """Degraded: cards go on working. Of no use is one that its API refused, or that has run out."""
    connection = world.connection(token_endpoint="http://127.0.0.1:9/token")
    world.authorize(connection, lifetime=3600)
    time_machine.move_to(utc_now() + timedelta(seconds=3570))
    found = tokens.access(resources, connection.workspace_id, connection.id)
    assert (found.token.get_secret_value(), found.refreshed) == ("at", False)
    with pytest.raises(OAuthFailure):
        tokens.access(resources, connection.workspace_id, connection.id, refused=found.generation)
    time_machine.move_to(utc_now() + timedelta(seconds=31))
    with pytest.raises(OAuthFailure):
        tokens.access(resources, connection.workspace_id, connection.id)

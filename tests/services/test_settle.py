"""Closing refreshes: many in one commit."""

from contextlib import suppress
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import Session

from models import Connection, ConnectionState, Outcome, Refresh, Trigger
from models.types import utc_now
from oauth.vocabulary import FailureClass, GrantType, OAuthFailure, Reuse, Rotation
from services.authorizing import grants
from services.engine import leases, settle, tokens
from tests.support.world import token_reply


def claim(resources, connection, trigger=Trigger.SCHEDULED, requested_by=None):
    with resources.database.session(writing=True) as session:
        return leases.claim_one(session, resources.settings, connection.id, trigger, None, requested_by)


def settled(resources, *results):
    with resources.database.session(writing=True) as session:
        settle.settle(session, resources.settings, results)


def authorized(world, count):
    connections = [world.connection() for _ in range(count)]
    for connection in connections:
        world.authorize(connection)
    return connections


def test_results_of_every_kind_are_settled_in_one_commit(resources, world):
    good, bad, gone = authorized(world, 3)
    claims = [claim(resources, connection) for connection in (good, bad, gone)]
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(Connection, gone.id))
        session.commit()
    dead = OAuthFailure("refresh", FailureClass.GRANT_DEAD, "It is over.", code="invalid_grant", status=400)
    settled(resources, (claims[2], token_reply("x")), (claims[0], token_reply("at-2", "rt-2", 60)), (claims[1], dead))
    (stored,) = world.all(Refresh, connection_id=good.id)
    (failed,) = world.all(Refresh, connection_id=bad.id)
    assert (stored.outcome, stored.lifetime) == (Outcome.STORED, 60)
    assert (failed.outcome, failed.http_status, failed.failure_code) == (Outcome.FAILED, 400, "invalid_grant")
    assert world.access_token(good) == "at-2"
    assert world.reread(bad).state is ConnectionState.REAUTH_REQUIRED
    assert world.reread(gone) is None


def test_an_unusable_reply_is_kept_sealed_and_its_words_are_not(resources, world):
    (connection,) = authorized(world, 1)
    raw = '{"acces_token": "mistyped by the provider"}'
    words = OAuthFailure("refresh", FailureClass.REPLY_UNUSABLE, "No token.", raw=SecretStr(raw))
    settled(resources, (claim(resources, connection), words))
    (row,) = world.all(Refresh)
    assert row.unseal("raw_reply", resources.database.keyring).get_secret_value() == raw
    assert b"mistyped" not in row.raw_reply_sealed
    assert "mistyped" not in row.failure_said + row.failure_reason


def test_stored_tokens_are_starred_in_what_a_failure_tells_though_they_were_not_sent(resources, world):
    (connection,) = authorized(world, 1)
    world.authorize(connection, access_token="canary at one", refresh_token="canary rt two")
    said = "which is canary&#32;at&#32;one or Y2FuYXJ5IHJ0IHR3bw=="
    failure = OAuthFailure("refresh", FailureClass.PROVIDER_DOWN, "It answered.", code="x", provider_said=said)
    settled(resources, (claim(resources, connection), failure))
    (row,) = world.all(Refresh)
    assert row.failure_said == world.reread(connection).failure_said == failure.provider_said == "which is ••• or •••"


def test_words_that_cannot_be_stored_cost_nobody_else_a_token(resources, world):
    """PostgreSQL stores no NUL: a mistake in one result must not keep the others in memory until they are lost."""
    good, other, bad = authorized(world, 3)
    results = [(claim(resources, connection), token_reply("at-2", "rt-2")) for connection in (good, other)]
    words = OAuthFailure("refresh", FailureClass.PROVIDER_DOWN, "It said \0.")
    with suppress(DBAPIError):
        settle.persist(resources, [(claim(resources, bad), words), *results])
    assert [world.access_token(connection) for connection in (good, other)] == ["at-2", "at-2"]


@pytest.mark.parametrize("careful", [False, True])
def test_a_mistake_of_ours_over_one_result_costs_nobody_else_a_token(resources, world, careful):
    """Whatever it raises, in the fast path or the careful one: it is told, after the others are stored."""
    good, other, bad = authorized(world, 3)
    if careful:
        for connection in (good, other, bad):
            world.set_token(connection, failures=1)
    world.make_due(good, other, bad)
    with resources.database.session(writing=True) as session:
        claims = leases.claim_due(session, resources.settings, 10)
    wrong = {bad.id: token_reply("at-2", "rt-2", lifetime="an hour")}
    results = [(one, wrong.get(one.connection_id) or token_reply("at-2", "rt-2")) for one in claims]
    with pytest.raises(TypeError):
        settle.persist(resources, sorted(results, key=lambda each: each[0].connection_id != bad.id))
    assert [world.access_token(connection) for connection in (good, other, bad)] == ["at-2", "at-2", "at"]
    (row,) = world.all(Refresh, connection_id=bad.id)
    assert row.outcome is Outcome.SENT, "whoever claims next finds that nothing is known of it"


def test_many_results_at_once_are_stored_like_single_ones(resources, world):
    """The fast path for what is plain, and the careful one, leave the same behind."""
    one, *many = authorized(world, 5)
    world.make_due(*many)
    with resources.database.session(writing=True) as session:
        plain = leases.claim_due(session, resources.settings, 10)
    assert all(each.plain for each in plain)
    careful = claim(resources, one)
    reply = token_reply("at-2", "rt-2", 60, scope="orders.write")
    settle.persist(resources, [(each, reply) for each in (careful, *plain)])
    rows = [world.token(connection) for connection in (one, *many)]
    own = {"id", "connection_id", "access_token_sealed", "refresh_token_sealed", "expires_at", "next_refresh_at"}
    alike = [row.model_dump(exclude={*own, "received_at"}) for row in rows]
    assert alike == [alike[0]] * 5
    assert [world.refresh_token(connection) for connection in (one, *many)] == ["rt-2"] * 5
    assert all(45 <= (row.next_refresh_at - row.received_at).total_seconds() * 1.3 <= 60 for row in rows)
    closed = world.all(Refresh)
    own = {"id", "connection_id", "lease_owner", "sent_at", "closed_at"}
    assert [row.model_dump(exclude=own) for row in closed] == [closed[0].model_dump(exclude=own)] * 5


def test_what_happens_while_a_plain_refresh_is_under_way_wins_over_it(resources, world):
    """TK-17, also where many are stored in one statement."""
    edited, paused, taken_away, gone, untouched = rows = authorized(world, 5)
    world.make_due(*rows)
    with resources.database.session(writing=True) as session:
        claims = leases.claim_due(session, resources.settings, 10)
    with resources.database.session(writing=True) as session:
        session.get_one(Connection, edited.id).client_id = "another"
        session.get_one(Connection, edited.id).version += 1
        row = session.get_one(Connection, paused.id)
        row.state, row.paused_from = ConnectionState.PAUSED, ConnectionState.ACTIVE
        away = session.get_one(Connection, taken_away.id)
        grants.forget(session, away, tokens.current_token(session, away))
        session.delete(session.get_one(Connection, gone.id))
        session.commit()
    settle.persist(resources, [(each, token_reply("at-2", "rt-2")) for each in claims])
    assert world.access_token(untouched) == "at-2"
    assert (world.refresh_token(edited), world.token(edited).next_refresh_at) == ("rt-2", None)
    assert (world.refresh_token(paused), world.token(paused).next_refresh_at) == ("rt-2", None)
    assert world.reread(paused).state is ConnectionState.PAUSED
    assert world.refresh_token(taken_away) is None
    assert world.all(Refresh, connection_id=taken_away.id)[0].outcome is Outcome.SUPERSEDED
    assert world.reread(gone) is None
    assert {world.token(row).lease_until for row in (edited, paused, taken_away, untouched)} == {None}


def test_other_failures_keep_no_reply(resources, world):
    (connection,) = authorized(world, 1)
    words = OAuthFailure("refresh", FailureClass.PROVIDER_DOWN, "Down.", raw=SecretStr("<html>"))
    settled(resources, (claim(resources, connection), words))
    assert world.all(Refresh)[0].raw_reply_sealed is None


def test_an_authorization_remembers_who_gave_it_and_for_what(resources, world):
    connection = world.connection()
    settled(resources, (claim(resources, connection, Trigger.AUTHORIZE, world.oscar.id), token_reply("at-1", "rt-1")))
    row = world.reread(connection)
    assert (row.authorized_by, row.authorized_client) == (world.oscar.id, row.client)
    assert row.authorized_at is not None
    assert not row.authorization_out_of_date


def test_a_refresh_does_not_pass_for_an_authorization(resources, world):
    (connection,) = authorized(world, 1)
    before = world.reread(connection).authorized_at
    settled(resources, (claim(resources, connection), token_reply("at-2", "rt-2")))
    assert world.reread(connection).authorized_at == before
    assert world.reread(connection).authorized_by == world.alice.id


DEAD = OAuthFailure("refresh", FailureClass.GRANT_DEAD, "It is over.", code="invalid_grant", status=400)
LOST = OAuthFailure("refresh", FailureClass.UNKNOWN, "No reply came in time.")


def habits_of(world, connection):
    token = world.token(connection)
    return token.rotation, token.reuse


def refresh(resources, connection, result):
    """One refresh from the lease to the commit, with this for an answer."""
    settled(resources, (claim(resources, connection), result))


def test_refreshes_teach_whether_refresh_tokens_are_replaced(resources, world):
    rotating, lasting = authorized(world, 2)
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    world.authorize(machine, refresh_token=None)
    refresh(resources, rotating, token_reply("at-2", "rt-2"))
    refresh(resources, lasting, token_reply("at-2", None))
    refresh(resources, machine, token_reply("at-2", None))
    rows = {row.connection_id: row.rotated for row in world.all(Refresh)}
    assert rows == {rotating.id: True, lasting.id: False, machine.id: None}
    assert habits_of(world, rotating) == (Rotation.ALWAYS, Reuse.UNSEEN)
    assert habits_of(world, lasting) == (Rotation.NEVER, Reuse.UNSEEN)
    assert habits_of(world, machine) == (Rotation.UNSEEN, Reuse.UNSEEN)
    refresh(resources, lasting, token_reply("at-3", "rt-3"))
    assert habits_of(world, lasting) == (Rotation.SOMETIMES, Reuse.UNSEEN)


def test_what_becomes_of_an_old_refresh_token_is_learned_from_the_try_after_an_interruption(resources, world):
    lenient, strict, killed = authorized(world, 3)
    for connection in (lenient, strict):
        refresh(resources, connection, LOST)
    refresh(resources, lenient, token_reply("at-2", "rt-2"))
    refresh(resources, strict, DEAD)
    assert habits_of(world, lenient) == (Rotation.ALWAYS, Reuse.ACCEPTED)
    assert habits_of(world, strict)[1] is Reuse.REFUSED
    claim(resources, killed)  # and the process is no more
    world.set_token(killed, lease_until=utc_now() - timedelta(seconds=1))
    refresh(resources, killed, token_reply("at-2", "rt-2"))
    assert habits_of(world, killed) == (Rotation.ALWAYS, Reuse.ACCEPTED)
    assert world.token(killed).interruptions == 0


def test_a_provider_is_seen_to_end_the_grant_on_reuse_only_with_both_requests_in_the_journal(resources, world):
    reused, revoked = authorized(world, 2)
    slow = claim(resources, reused)
    world.set_token(reused, lease_until=utc_now() - timedelta(seconds=1))
    again = claim(resources, reused)  # sends the same refresh token while the first request is still out
    settled(resources, (slow, token_reply("at-2", "rt-2")))
    settled(resources, (again, DEAD))
    assert habits_of(world, reused) == (Rotation.ALWAYS, Reuse.UNSEEN)
    refresh(resources, reused, DEAD)
    assert habits_of(world, reused) == (Rotation.ALWAYS, Reuse.ENDS_GRANT)
    refresh(resources, revoked, LOST)
    refresh(resources, revoked, token_reply("at-2", "rt-2"))
    refresh(resources, revoked, DEAD)
    assert habits_of(world, revoked) == (Rotation.ALWAYS, Reuse.ACCEPTED)


def test_a_refresh_that_was_stored_is_told_as_stored_although_the_answer_to_its_commit_was_lost(
    resources, world, monkeypatch
):
    (connection,) = authorized(world, 1)
    claimed = claim(resources, connection)
    real, losing = Session.commit, ["COMMIT"]

    def commit(session):
        real(session)
        if losing:
            raise OperationalError(losing.pop(), {}, Exception("the connection broke"))

    monkeypatch.setattr(Session, "commit", commit)
    settle.persist(resources, [(claimed, token_reply("at-2", "rt-2"))])
    monkeypatch.undo()
    (row,) = world.all(Refresh)
    assert (row.outcome, row.lifetime, losing) == (Outcome.STORED, 3600, [])
    assert (world.refresh_token(connection), world.token(connection).generation) == ("rt-2", 2)


def after_a_sleep(resources, world, connection):
    """Two claims of one token: the first one's process slept past its lease."""
    first = claim(resources, connection)
    world.set_token(connection, lease_until=utc_now() - timedelta(seconds=1))
    return first, claim(resources, connection)


def test_the_providers_last_word_is_kept_whichever_reply_is_stored_first(resources, world):
    one, other = authorized(world, 2)
    first, second = after_a_sleep(resources, world, one)
    settled(resources, (first, token_reply("at-2", "rt-2")))
    settled(resources, (second, token_reply("at-3", "rt-3")))
    assert (world.refresh_token(one), world.token(one).generation) == ("rt-3", 3)
    first, second = after_a_sleep(resources, world, other)
    settled(resources, (second, token_reply("at-3", "rt-3")))
    settled(resources, (first, token_reply("at-2", "rt-2")))
    assert (world.refresh_token(other), world.token(other).generation) == ("rt-3", 2)


def test_a_late_reply_does_not_undo_a_disconnect_or_take_the_place_of_a_token_in_use(resources, world):
    gone, used = authorized(world, 2)
    first, second = after_a_sleep(resources, world, gone)
    settled(resources, (first, token_reply("at-2", "rt-2")))
    with resources.database.session(writing=True) as session:
        connection = session.get_one(Connection, gone.id)
        grants.forget(session, connection, tokens.current_token(session, connection))
        session.commit()
    settled(resources, (second, token_reply("at-3", "rt-3")))
    assert world.token(gone).refresh_token_sealed is None
    first, second = after_a_sleep(resources, world, used)
    settled(resources, (first, token_reply("at-2", "rt-2")))
    third = claim(resources, used)
    settled(resources, (second, token_reply("at-3", "rt-3")))
    settled(resources, (third, token_reply("at-4", "rt-4")))
    assert world.refresh_token(used) == "rt-4"

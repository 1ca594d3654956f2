"""Closing refreshes: many in one commit."""

from pydantic import SecretStr

from models import Connection, ConnectionState, Outcome, Refresh, Trigger
from oauth.vocabulary import FailureClass, OAuthFailure
from services import leases, settle
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

"""What the verbs of authorizing promise below the browser: what is kept, what wins, what a dead process leaves."""

import uuid
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from models import AttemptOutcome, AuthorizationAttempt, ClientSecret, ConnectionState, Outcome, Refresh, Trigger
from models.authorization_attempt import STOPPED_ALONE
from models.types import utc_now
from oauth.authorization_response import AuthorizationResponse
from oauth.vocabulary import FailureClass, GrantType, OAuthFailure
from services.audit import Actor
from services.authorizing import attempts, authorization, exchanges, findings, redemption
from services.engine import leases, states, tokens
from services.engine.leases import Claim
from services.operating import housekeeping, pauses
from services.setup import connections
from tests.support.world import token_reply

BROWSER = "b" * 64


@pytest.fixture
def connection(world):
    return world.connection(issuer="")


def ask(keyring, states_given):
    """Keep a state as Authlib's client does."""

    def keep(attempt, _registration):
        state = attempts.new_state()
        states_given.append(state)
        attempts.keep_state(attempt, keyring, state, {"url": f"https://provider.example/?state={state}"})

    return keep


@pytest.fixture
def begin(resources, world, connection):
    """Press Authorize; returns the attempt and its state."""

    def press():
        given = []
        attempt = authorization.begin(
            resources,
            connection.id,
            world.alice,
            browser_hash=BROWSER,
            popup=True,
            return_to="/cards",
            ask=ask(resources.database.keyring, given),
        )
        return attempt, given[0]

    return press


@pytest.fixture
def finish(resources, world):
    """Come back with a code, which is exchanged for what is given."""

    def come_back(state, result):
        def redeem(_exchange):
            if isinstance(result, OAuthFailure):
                raise result
            return result() if callable(result) else result

        visitor = redemption.Visitor(world.alice, BROWSER)
        return redemption.finish(resources, AuthorizationResponse(state, SecretStr("a code")), visitor, redeem)

    return come_back


def test_an_attempt_keeps_state_verifier_and_code_encrypted_only(world, begin, resources):
    attempt, state = begin()
    answer = AuthorizationResponse(state, SecretStr("the very code"))
    redemption.receive(resources, answer)
    row = world.reread(attempt)
    stored = repr(row.model_dump())
    assert state not in stored
    assert "the very code" not in stored
    assert "the very code" not in repr(answer)
    assert redemption.kept(resources, attempt.id, BROWSER) == answer


def test_a_kept_answer_is_for_the_attempts_own_browser(begin, resources):
    attempt, state = begin()
    redemption.receive(resources, AuthorizationResponse(state, SecretStr("a code")))
    with pytest.raises(redemption.Unusable):
        redemption.kept(resources, attempt.id, "c" * 64)
    with pytest.raises(redemption.Unusable):
        redemption.kept(resources, uuid.uuid4(), BROWSER)


def test_the_newest_consent_wins_over_one_that_ends_later(world, begin, finish, connection):
    slow, slow_state = begin()
    _quick, quick_state = begin()

    def while_another_finishes():
        finish(quick_state, token_reply("newer", "rt_newer"))
        return token_reply("older", "rt_older")

    ended = finish(slow_state, while_another_finishes)
    assert world.access_token(connection) == "newer"
    assert (ended.id, ended.outcome) == (slow.id, AttemptOutcome.FAILED)
    assert "newer authorization" in ended.failure_reason


def test_a_reply_is_stored_although_the_database_is_away_for_a_moment(
    world, begin, finish, connection, monkeypatch, resources
):
    _attempt, state = begin()
    tries = []
    real = type(resources.database).session

    def sometimes(database, *, writing=False):
        tries.append(writing)
        if len(tries) in (2, 3):  # the first is the claim, the next would store the reply
            raise OperationalError("COMMIT", {}, Exception("the database is away"))
        return real(database, writing=writing)

    monkeypatch.setattr(type(resources.database), "session", sometimes)
    finish(state, token_reply("at", "rt"))
    monkeypatch.undo()
    assert world.access_token(connection) == "at"
    assert len(tries) == 4


def test_a_reply_is_stored_once_although_the_answer_to_its_commit_was_lost(
    world, begin, finish, connection, monkeypatch
):
    """By the second try the refresh token in it may be spent, and a newer one stored."""
    _attempt, state = begin()
    real, losing = Session.commit, []

    def commit(session):
        real(session)
        if losing:
            raise OperationalError(losing.pop(), {}, Exception("the connection broke"))

    def redeem():
        losing.append("COMMIT")
        return token_reply("at", "rt")

    monkeypatch.setattr(Session, "commit", commit)
    ended = finish(state, redeem)
    monkeypatch.undo()
    assert (losing, ended.outcome) == ([], AttemptOutcome.SUCCEEDED)
    assert (world.access_token(connection), world.token(connection).generation) == ("at", 1)
    assert [row.outcome for row in world.all(Refresh)] == [Outcome.STORED]


def test_a_withdrawn_attempt_stores_nothing(world, begin, finish, connection, resources):
    attempt, state = begin()

    def while_somebody_withdraws():
        with resources.database.session(writing=True) as session:
            attempts.withdraw(session, connection, "Disconnected meanwhile.")
            session.commit()
        return token_reply("at", "rt")

    finish(state, while_somebody_withdraws)
    assert world.access_token(connection) is None
    row = world.reread(attempt)
    assert (row.outcome, row.failure_reason) == (AttemptOutcome.FAILED, "Disconnected meanwhile.")
    assert row.next_step == "Press Authorize to try again."
    assert row.tells(row.connection_version)
    assert row.withdrawn


def test_a_refused_code_is_no_dead_authorization(world, begin, finish, connection):
    world.authorize(connection)
    _attempt, state = begin()
    ended = finish(state, OAuthFailure("token request", FailureClass.GRANT_DEAD, "dead", code="invalid_grant"))
    assert ended.failure_reason == exchanges.CODE_REFUSED
    assert world.access_token(connection) == "at"
    assert world.reread(connection).state is ConnectionState.ACTIVE


@pytest.mark.parametrize(
    ("kind", "state_after"),
    [
        (FailureClass.CLIENT_BAD, ConnectionState.MISCONFIGURED),
        (FailureClass.PROVIDER_DOWN, ConnectionState.CONFIGURED),
        (FailureClass.GRANT_DEAD, ConnectionState.CONFIGURED),
    ],
)
def test_a_first_authorization_that_fails_marks_what_only_an_edit_mends(
    world, begin, finish, connection, kind, state_after
):
    _attempt, state = begin()
    finish(state, OAuthFailure("token request", kind, "words"))
    assert world.reread(connection).state is state_after


def test_a_refresh_that_starts_meanwhile_leaves_the_authorizations_journal_alone(
    world, begin, finish, connection, resources
):
    world.authorize(connection)
    _attempt, state = begin()
    claims = []

    def while_a_refresh_is_claimed():
        with resources.database.session(writing=True) as session:
            claims.append(
                leases.claim_one(session, resources.settings, connection.id, Trigger.MANUAL, None, world.alice.id)
            )
        return token_reply("new", "rt_new")

    finish(state, while_a_refresh_is_claimed)
    assert isinstance(claims[0], Claim)
    rows = {row.trigger: row.outcome for row in world.all(Refresh, connection_id=connection.id)}
    assert rows == {Trigger.AUTHORIZE: Outcome.STORED, Trigger.MANUAL: Outcome.SENT}


def test_an_exchange_whose_process_died_is_closed_by_the_next_start(world, begin, connection, resources, time_machine):
    attempt, state = begin()

    def dies(_exchange):
        raise KeyboardInterrupt

    visitor = redemption.Visitor(world.alice, BROWSER)
    with pytest.raises(KeyboardInterrupt):
        redemption.finish(resources, AuthorizationResponse(state, SecretStr("a code")), visitor, dies)
    [row] = world.all(Refresh, connection_id=connection.id)
    assert world.reread(attempt).waiting
    time_machine.move_to(utc_now() + timedelta(seconds=resources.settings.lease + 1))
    assert (world.reread(attempt).standing, world.reread(attempt).outcome) == ("interrupted", AttemptOutcome.PENDING)
    begin()
    assert world.reread(row).outcome is Outcome.UNKNOWN
    ended = world.reread(attempt)
    assert (ended.standing, ended.outcome) == ("interrupted", AttemptOutcome.FAILED)
    with resources.database.session() as session:
        assert not states.interrupted(session, tokens.current_token(session, connection))


@pytest.mark.parametrize("meanwhile", ["", "a disconnect"])
def test_a_reply_that_comes_after_its_process_was_taken_for_dead_is_stored_unless_somebody_disconnected(
    world, begin, finish, connection, resources, time_machine, meanwhile
):
    """The code is spent, so the grant in that reply is the only one there will be."""
    attempt, state = begin()

    def after_a_long_sleep():
        time_machine.move_to(utc_now() + timedelta(seconds=resources.settings.lease + 1))
        with resources.database.session(writing=True) as session:
            assert housekeeping.unanswered(session, resources.settings) == 1
        assert world.reread(attempt).outcome is AttemptOutcome.FAILED
        if meanwhile:
            connections.disconnect(resources, Actor.person(world.alice), connection.id)
        return token_reply("late", "rt_late")

    ended = finish(state, after_a_long_sleep)
    [row] = world.all(Refresh)
    if meanwhile:
        assert (world.access_token(connection), row.outcome) == (None, Outcome.SUPERSEDED)
        assert (ended.outcome, ended.failure_reason) == (AttemptOutcome.FAILED, attempts.DISCONNECTED)
    else:
        assert (world.access_token(connection), row.outcome) == ("late", Outcome.STORED)
        assert (ended.standing, ended.failure_reason, ended.failure_class) == ("succeeded", "", None)


def test_a_pause_during_the_exchange_waits_for_its_reply(world, begin, finish, connection, resources):
    """Its code is spent: thrown away, the consent would be lost."""
    world.authorize(connection)
    _attempt, state = begin()

    def while_somebody_pauses():
        with resources.database.session(writing=True) as session:
            pauses.pause(session, Actor.person(world.alice), [connection.id])
        return token_reply("new", "rt_new")

    assert finish(state, while_somebody_pauses).outcome is AttemptOutcome.SUCCEEDED
    assert (world.access_token(connection), world.reread(connection).state) == ("new", ConnectionState.PAUSED)
    assert world.token(connection).next_refresh_at is None


def test_a_disconnect_takes_an_exchange_back_that_goes_on_after_its_attempt_would_have_run_out(
    world, begin, finish, connection, resources, time_machine
):
    _attempt, state = begin()
    time_machine.move_to(utc_now() + timedelta(seconds=resources.settings.attempt_ttl - 1))

    def while_somebody_disconnects():
        time_machine.move_to(utc_now() + timedelta(seconds=2))
        connections.disconnect(resources, Actor.person(world.alice), connection.id)
        return token_reply("at", "rt")

    assert finish(state, while_somebody_disconnects).outcome is AttemptOutcome.FAILED
    assert world.access_token(connection) is None


def test_a_first_token_whose_process_died_is_told_as_interrupted(world, resources, monkeypatch, time_machine):
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)

    def dies(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(tokens, "refresh", dies)
    with pytest.raises(KeyboardInterrupt):
        authorization.begin(
            resources, machine.id, world.alice, browser_hash=BROWSER, popup=False, return_to="", ask=lambda *_: None
        )
    monkeypatch.undo()
    time_machine.move_to(utc_now() + timedelta(seconds=resources.settings.lease + resources.settings.caller_wait + 1))
    with resources.database.session(writing=True) as session:
        housekeeping.unanswered(session, resources.settings)
    [row] = world.all(AuthorizationAttempt)
    assert (row.standing, row.outcome) == ("interrupted", AttemptOutcome.FAILED)
    assert row.failure_reason == STOPPED_ALONE


def test_a_client_secret_that_cannot_be_decrypted_stops_the_start_in_plain_words(world, connection, resources):
    [secret] = world.all(ClientSecret, connection_id=connection.id)
    with resources.database.session(writing=True) as session:
        kept = session.get_one(ClientSecret, secret.id)
        kept.value_sealed = kept.value_sealed[:-1] + bytes([kept.value_sealed[-1] ^ 1])
        session.add(kept)
        session.commit()
    attempt = authorization.begin(
        resources,
        connection.id,
        world.alice,
        browser_hash=BROWSER,
        popup=False,
        return_to="",
        ask=lambda *_: pytest.fail("nothing may be asked"),
    )
    assert (attempt.outcome, attempt.failure_class) == (AttemptOutcome.FAILED, FailureClass.LOCAL)


def test_a_grant_of_another_flow_leaves_nothing_behind(world, provider, resources):
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    world.authorize(machine, refresh_token="rt of a person")
    attempt = authorization.begin(
        resources,
        machine.id,
        world.alice,
        browser_hash=BROWSER,
        popup=False,
        return_to="",
        ask=lambda *_: pytest.fail("nobody is asked in this flow"),
    )
    assert attempt.outcome is AttemptOutcome.SUCCEEDED
    assert provider.alive(world.access_token(machine))
    assert world.refresh_token(machine) is None


def test_a_deleted_connection_cannot_be_authorized(world, resources):
    with pytest.raises(authorization.NotFound):
        authorization.begin(
            resources,
            uuid.uuid4(),
            world.alice,
            browser_hash=BROWSER,
            popup=False,
            return_to="",
            ask=lambda *_: None,
        )


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("asked", "granted", "words"),
    [
        ("a b", None, ""),
        ("a b", "b a", ""),
        ("a,b", "a b", ""),
        ("", "anything", ""),
        ("a b", "a", "without b"),
        ("a", "a b", "with b on top"),
        ("a", "c", "without a, and with c on top"),
        ("a", "", "without a"),
    ],
)
def test_a_scope_is_compared_as_a_set(world, asked, granted, words):
    connection = world.connection(scope=asked)
    world.authorize(connection)
    world.set_token(connection, scope=granted)
    found = findings.of(connection, world.token(connection))
    assert (words in found) if words else (found == "")

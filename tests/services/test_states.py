"""What a success or a failure does to a connection: one effect for each class, in words a person can act on."""

import pytest
from pydantic import SecretStr

from models import AuditEntry, Connection, ConnectionState, Priority
from models.types import utc_now
from oauth.vocabulary import FailureClass, GrantType, LifetimeRung, OAuthFailure
from services.engine import states, tokens
from tests.support.world import token_reply

ENDS = {
    FailureClass.GRANT_DEAD: ConnectionState.REAUTH_REQUIRED,
    FailureClass.CLIENT_BAD: ConnectionState.MISCONFIGURED,
    FailureClass.REQUEST_BAD: ConnectionState.MISCONFIGURED,
    FailureClass.LOCAL: ConnectionState.MISCONFIGURED,
}
RETRIED = [kind for kind in FailureClass if kind not in ENDS]


def failure(kind, **more):
    return OAuthFailure("refresh", kind, "It failed.", **more)


@pytest.fixture
def rows(session, world):
    """A connection with a token of an hour, and how to let things happen to it."""

    def make(lifetime=3600, refresh_token="rt", **more):
        connection = world.connection(**more)
        world.authorize(connection, lifetime=lifetime, refresh_token=refresh_token)
        row = session.get_one(Connection, connection.id)
        return row, tokens.current_token(session, row)

    return make


def fail(session, settings, row, token, kind, **more):
    states.fail(session, settings, row, token, failure(kind, **more))
    session.commit()


def wait(token):
    return (token.next_refresh_at - utc_now()).total_seconds()


@pytest.mark.parametrize("kind", ENDS)
def test_what_only_a_person_can_mend_ends_the_tries_and_keeps_the_tokens(session, settings, rows, kind):
    row, token = rows()
    fail(session, settings, row, token, kind, code="the_code", provider_said="What it said.")
    assert row.state is ENDS[kind]
    assert token.next_refresh_at is None
    assert token.refresh_token_sealed is not None
    assert (row.failure_class, row.failure_code, row.failure_said) == (kind, "the_code", "What it said.")
    assert row.failure_step == "refresh"


@pytest.mark.parametrize("kind", [kind for kind in RETRIED if kind is not FailureClass.THROTTLED])
def test_what_may_pass_is_tried_again_and_says_so(session, settings, rows, kind):
    row, token = rows()
    fail(session, settings, row, token, kind)
    assert row.state is ConnectionState.DEGRADED
    assert row.state.shown == "Refresh failing"
    assert token.next_refresh_at > row.failed_at
    assert token.failures == 1


def test_a_token_that_has_run_out_meanwhile_is_told_apart(session, settings, rows):
    row, token = rows(lifetime=0.001)
    fail(session, settings, row, token, FailureClass.PROVIDER_DOWN)
    assert row.state is ConnectionState.EXPIRED_RETRYING


def test_being_asked_to_slow_down_is_no_failure_while_the_token_lives(session, settings, rows):
    row, token = rows()
    fail(session, settings, row, token, FailureClass.THROTTLED, retry_after=30)
    assert row.state is ConnectionState.ACTIVE
    assert 29 < wait(token) < 34


@pytest.mark.settings(retry_first=30.0, retry_longest=3600.0)
def test_waits_double_up_to_an_hour_and_never_end(session, settings, rows):
    """A provider that is away for days never becomes a dead grant."""
    row, token = rows()
    waits = []
    for _ in range(40):
        fail(session, settings, row, token, FailureClass.PROVIDER_DOWN)
        waits.append(wait(token))
    for number, seconds in enumerate(waits):
        most = min(3600, 30 * 2**number)
        assert 0.74 * most < seconds <= most
    assert row.state is ConnectionState.DEGRADED


def test_the_provider_s_own_wait_counts_for_every_class(session, settings, rows):
    row, token = rows()
    fail(session, settings, row, token, FailureClass.PROVIDER_DOWN, retry_after=120)
    assert 119 < wait(token) < 133


def test_a_first_unknown_outcome_is_tried_again_at_once(session, settings, rows):
    row, token = rows()
    fail(session, settings, row, token, FailureClass.UNKNOWN)
    assert wait(token) <= settings.tick


def test_a_failed_first_authorization_is_left_to_the_person(session, settings, world):
    """Otherwise the scheduler would authorize a connection that nobody authorized."""
    for grant_type in GrantType:
        row = session.get_one(Connection, world.connection(grant_type=grant_type).id)
        token = tokens.current_token(session, row)
        fail(session, settings, row, token, FailureClass.PROVIDER_DOWN)
        assert row.state is ConnectionState.CONFIGURED
        assert token.next_refresh_at is None


def test_a_success_forgets_the_failure(session, settings, rows):
    row, token = rows()
    fail(session, settings, row, token, FailureClass.PROVIDER_DOWN, code="x", provider_said="y")
    states.store(session, settings, row, token, token_reply("at-2", "rt-2"))
    assert row.state is ConnectionState.ACTIVE
    assert (row.failure_class, row.failure_code, row.failure_said, row.failure_reason) == (None, "", "", "")
    assert (token.failures, token.priority, token.lease_owner) == (0, Priority.SCHEDULED, None)


def test_every_change_of_state_is_on_record_once(session, settings, rows, world):
    row, token = rows()
    before = len(world.all(AuditEntry, subject_id=row.id))
    for _ in range(3):
        fail(session, settings, row, token, FailureClass.PROVIDER_DOWN)
    states.store(session, settings, row, token, token_reply("at-2"))
    session.commit()
    details = [entry.detail for entry in world.all(AuditEntry, subject_id=row.id)]
    assert len(details) == before + 2
    assert {"from": "Connected", "to": "Refresh failing", "reason": "provider_down"} in details
    assert {"from": "Refresh failing", "to": "Connected"} in details


def test_a_token_of_unknown_lifetime_waits_for_the_api_to_refuse_it(session, settings, rows):
    _row, token = rows(lifetime=None, refresh_token=None)
    assert token.next_refresh_at is None
    assert token.lifetime_rung is LifetimeRung.UNKNOWN
    assert token.is_valid(utc_now())


def test_a_scope_that_is_not_repeated_is_kept(session, settings, rows):
    row, token = rows()
    states.store(session, settings, row, token, token_reply("at-2", scope="orders.read"))
    states.store(session, settings, row, token, token_reply("at-3"))
    assert token.scope == "orders.read"


def test_a_new_grant_keeps_nothing_of_the_one_before(session, settings, rows):
    row, token = rows()
    states.store_new_grant(session, settings, row, token, token_reply("at-2"))
    assert token.refresh_token_sealed is None
    assert token.unseal("access_token", session.info["keyring"]) == SecretStr("at-2")


def test_the_noted_failure_can_be_told_again(session, settings, rows):
    row, token = rows()
    assert states.failure_of(row) is None
    fail(session, settings, row, token, FailureClass.CLIENT_BAD, code="invalid_client", provider_said="No.")
    told = states.failure_of(row)
    assert (told.failure_class, told.code, told.provider_said, str(told), told.step) == (
        FailureClass.CLIENT_BAD,
        "invalid_client",
        "No.",
        "It failed.",
        "refresh",
    )

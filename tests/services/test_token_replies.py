"""What a refresh stores of whatever a token endpoint says: TK-01 to TK-05, TK-14, through lease, request and commit."""

import json

import pytest
from werkzeug.wrappers import Response

from models import ConnectionState, Outcome, Refresh, Trigger
from models.types import utc_now
from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure
from services.engine import timing, tokens
from tests.oauth.replies import CASES, FAILURES, SUCCESSES

ELSEWHERE = "/other-host"


@pytest.fixture
def connection(world, stub):
    how = {"token_endpoint_auth_method": ClientAuthMethod.BASIC}  # one request for each refresh
    made = world.connection(token_endpoint=stub.url_for("/token"), api_hosts=["api.example"], **how)
    world.authorize(made, access_token="old-access", refresh_token="old-refresh")
    return made


@pytest.fixture
def refreshed(resources, connection, stub):
    """Refresh once, answered with this; returns the failure, if there was one."""

    def refreshed(body, status=200, headers=None):
        content_type = (headers or {}).get("Content-Type", "application/json")
        more = {name: value for name, value in (headers or {}).items() if name != "Content-Type"}
        reply = Response(body, status=status, headers=more, content_type=content_type)
        stub.expect_oneshot_request("/token").respond_with_handler(lambda _request: reply)
        try:
            tokens.refresh(resources, connection.id, Trigger.MANUAL)
        except OAuthFailure as failure:
            return failure
        return None

    return refreshed


@pytest.mark.parametrize("case", SUCCESSES, ids=lambda case: case.name)
def test_whatever_can_be_used_is_stored_and_the_next_refresh_sends_it(world, connection, refreshed, stub, case):
    """TK-03, TK-04, TK-05: whatever its lifetime and type look like, a new refresh token is kept and is the next."""
    assert refreshed(case.body, case.status, case.headers) is None
    assert world.access_token(connection) == "new-access"
    kept = case.refresh or "old-refresh"
    assert world.refresh_token(connection) == kept
    token = world.token(connection)
    assert token.token_type == "Bearer"
    assert 0 < (token.expires_at - utc_now()).total_seconds() <= (case.lifetime or timing.DEFAULT_LIFETIME)
    assert token.next_refresh_at > utc_now()
    assert refreshed(json.dumps({"access_token": "third"}).encode()) is None
    assert [request.form["refresh_token"] for request, _reply in stub.log] == ["old-refresh", kept]


def test_twelve_lifetimes_are_among_the_replies():
    """TK-04."""
    assert sum("lifetime" in case.name for case in SUCCESSES) >= 12


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.name)
def test_whatever_cannot_be_used_leaves_the_old_token_untouched(world, resources, connection, refreshed, case):
    """TK-01, TK-02, TK-03."""
    before = world.token(connection)
    failure = refreshed(case.body, case.status, case.headers)
    too_long = len(case.body) > resources.token_limits.max_bytes  # never read to its end
    assert failure.failure_class is (FailureClass.UNKNOWN if too_long else case.failure)
    after = world.token(connection)
    for column in ("access_token_sealed", "refresh_token_sealed", "generation", "expires_at", "token_type", "scope"):
        assert getattr(after, column) == getattr(before, column), column
    assert world.access_token(connection) == "old-access"
    assert after.lease_owner is None
    [row] = world.all(Refresh, connection_id=connection.id)
    assert row.outcome is (Outcome.UNKNOWN if too_long else Outcome.FAILED)
    assert world.reread(connection).failure_reason


def test_every_reply_of_the_list_goes_through_a_refresh():
    """TK-01."""
    assert len(SUCCESSES) + len(FAILURES) == len(CASES) >= 55


@pytest.mark.parametrize("kind", ["mac", "DPoP", None])
def test_a_token_of_another_type_is_refused_by_its_name(world, connection, refreshed, kind):
    """TK-03."""
    refreshed(json.dumps({"access_token": "new", "token_type": kind}))
    stored = world.reread(connection)
    assert stored.failure_class is FailureClass.REPLY_UNUSABLE
    assert (kind or "without a name") in stored.failure_reason
    assert stored.state is not ConnectionState.REAUTH_REQUIRED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_refresh_token_follows_no_redirect(world, connection, refreshed, stub, status):
    """TK-14."""
    stub.expect_request(ELSEWHERE).respond_with_json({"access_token": "stolen"})
    failure = refreshed(b"", status, {"Location": stub.url_for(ELSEWHERE)})
    assert failure.failure_class is FailureClass.REPLY_UNUSABLE
    assert [request.path for request, _reply in stub.log] == ["/token"]
    assert world.refresh_token(connection) == "old-refresh"


def test_a_reply_that_is_too_long_is_not_read_to_its_end(world, resources, connection, refreshed):
    """TK-14: what it would have said is unknown, and what is stored stays."""
    failure = refreshed(b" " * resources.token_limits.max_bytes + b'{"access_token": "new"}')
    assert failure.failure_class is FailureClass.UNKNOWN
    assert world.access_token(connection) == "old-access"

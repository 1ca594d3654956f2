"""Why a call is refused is told truly, with the step, the kind and what helps, however connection and API stand."""

import json
from datetime import timedelta

import pytest
from werkzeug.wrappers import Response

from models import EVERYTHING, CardAuthorization, ConnectionState, ProviderHost
from models.types import utc_now
from oauth.vocabulary import UNDECRYPTABLE, FailureClass, OAuthFailure
from services.calling import calls, preview
from services.calling.call_failures import Problem
from services.engine import states, tokens

REASON = "The provider answered so that nobody can mistake it."
DEAD_IN_WORDS = {"dead": True}
LATER = utc_now() + timedelta(days=1)
CHECK_CARD, COMPARE_SCOPE = Problem.UNAUTHORIZED.next_step, Problem.FORBIDDEN.next_step


@pytest.fixture
def connection(world, provider, stub_address):
    made = world.connection(api_hosts=[stub_address])
    world.consent(made)
    return made


@pytest.fixture
def card(world, connection, stub_address):
    return world.card(connection=connection, hook_url=f"http://{stub_address}/data", template_content="fine")


@pytest.fixture
def ask(resources, world, card, stub):
    """Let the API give one answer to every call, and preview the card."""
    answers = []

    def answer(_request):
        status, body, before = answers[-1]
        before()
        return Response(json.dumps(body), status, content_type="application/json")

    stub.expect_request("/data").respond_with_handler(answer)

    def ask(status, body=None, *, before=lambda: None):
        answers.append((status, body or {"message": "what the API said"}, before))
        asked = len(stub.log)
        result = preview.run(resources, card.id, world.alice, {})
        stub.check()
        ask.calls = len(stub.log) - asked
        return result

    return ask


def change(world, row, **columns):
    with world.resources.database.session(writing=True) as session:
        stored = session.get_one(type(row), row.id)
        for name, value in columns.items():
            setattr(stored, name, value)
        session.commit()


def rest(world, connection, kind, code="", *, expired=False):
    """Let a refresh have failed as `kind`, with the next try far off where there is one."""
    with world.resources.database.session(writing=True) as session:
        row = session.get_one(type(connection), connection.id)
        token = tokens.current_token(session, row)
        if expired:
            token.expires_at = utc_now() - timedelta(minutes=1)
        failure = OAuthFailure("refresh", kind, REASON, code=code, provider_said="what the provider said")
        failure.may_hold_token = kind is FailureClass.REPLY_UNUSABLE
        states.fail(session, world.resources.settings, row, token, failure)
        if token.next_refresh_at:
            token.next_refresh_at = LATER
        session.commit()


def told(result):
    """Step, kind and what to do."""
    failure = result.failure
    return None if failure is None else (failure.failure_step, failure.failure_class, failure.next_step)


def test_a_live_grant_is_not_blamed_for_what_the_api_refuses(world, connection, provider, ask):
    assert told(ask(200)) is None
    assert told(ask(403)) == ("reply", Problem.FORBIDDEN, COMPARE_SCOPE)
    assert provider.hits() == 0
    refused = ask(401)
    assert told(refused) == ("reply", Problem.UNAUTHORIZED, CHECK_CARD), "a token of this moment was refused"
    assert (provider.hits(), ask.calls, refused.notes) == (1, 2, (calls.RETRIED,))
    change(world, connection, dead_statuses=[])
    assert told(ask(401)) == ("reply", Problem.UNAUTHORIZED, CHECK_CARD)


def test_where_nothing_can_renew_the_token_authorize_is_the_next_step(world, connection, provider, ask):
    world.set_token(connection, refresh_token_sealed=None)
    change(world, connection, dead_expression="dead")
    for status, body in ((401, None), (200, DEAD_IN_WORDS), (500, DEAD_IN_WORDS)):
        result = ask(status, body)
        step, kind, advice = told(result)
        assert (step, kind) == ("reply", Problem.UNAUTHORIZED)
        assert advice.startswith("Press Authorize on the connection. If the API refuses the new token as well")
        assert "gave nothing to renew the token with" in result.failure.failure_reason
    assert told(ask(403)) == ("reply", Problem.FORBIDDEN, COMPARE_SCOPE)
    assert (provider.hits(), told(ask(200))) == (0, None)
    assert world.reread(connection).state is ConnectionState.ACTIVE


@pytest.mark.parametrize(
    ("kind", "code", "state", "advice"),
    [
        (FailureClass.GRANT_DEAD, "invalid_grant", ConnectionState.REAUTH_REQUIRED, "Press Authorize"),
        (FailureClass.CLIENT_BAD, "invalid_client", ConnectionState.MISCONFIGURED, "Compare Client ID"),
        (FailureClass.REQUEST_BAD, "invalid_scope", ConnectionState.MISCONFIGURED, "Compare Scope"),
        (FailureClass.LOCAL, UNDECRYPTABLE, ConnectionState.MISCONFIGURED, "Whoever runs this installation"),
        (FailureClass.REPLY_UNUSABLE, "", ConnectionState.MISCONFIGURED, "Use this reply"),
    ],
)
def test_where_the_provider_has_said_no_its_reason_is_the_cause_and_not_the_card(
    world, connection, provider, ask, kind, code, state, advice
):
    rest(world, connection, kind, code)
    assert world.reread(connection).state is state
    change(world, connection, dead_statuses=[401, 410], dead_expression="dead")
    for status, body in ((401, None), (410, None), (200, DEAD_IN_WORDS), (500, DEAD_IN_WORDS)):
        result = ask(status, body)
        step, found, next_step = told(result)
        assert (step, found, result.failure.failure_code) == ("token", kind, code)
        assert advice in next_step
        assert result.failure.failure_reason.endswith(REASON)
        assert f"status {status}" in result.failure.failure_reason
        assert (result.failure.said_by, result.failure.failure_said) == ("The provider", "what the provider said")
        assert ask.calls == 1
    step, found, next_step = told(ask(403))
    assert (step, found) == ("reply", Problem.FORBIDDEN)
    assert advice in next_step.partition(" If the API still refuses: ")[0]
    assert next_step.endswith(COMPARE_SCOPE)
    change(world, connection, dead_statuses=[403])
    assert told(ask(401))[:2] == told(ask(403))[:2] == ("token", kind), "a 401 says so whatever the rule"
    for status, problem in ((404, Problem.NOT_FOUND), (500, Problem.API_BROKEN), (429, Problem.THROTTLED)):
        assert told(ask(status)) == ("reply", problem, problem.next_step)
    assert told(ask(200)) is None, "a token that is still valid is used"
    world.set_token(connection, expires_at=utc_now() - timedelta(minutes=1))
    late = ask(200)
    assert (ask.calls, told(late)[:2], late.failure.failure_reason) == (0, ("token", kind), REASON)
    assert advice in late.failure.next_step
    assert provider.hits() == 0


def test_while_refreshes_fail_in_a_way_that_passes_that_is_the_cause(world, connection, provider, ask):
    rest(world, connection, FailureClass.PROVIDER_DOWN)
    assert world.reread(connection).state is ConnectionState.DEGRADED
    assert told(ask(200)) is None
    assert told(ask(403)) == ("reply", Problem.FORBIDDEN, COMPARE_SCOPE)
    refused = ask(401)
    down = ("token", FailureClass.PROVIDER_DOWN, FailureClass.PROVIDER_DOWN.next_step)
    assert (told(refused), refused.failure.retried, refused.notes) == (down, True, (calls.NOT_RENEWED,))
    rest(world, connection, FailureClass.PROVIDER_DOWN, expired=True)
    assert world.reread(connection).state is ConnectionState.EXPIRED_RETRYING
    late = ask(200)
    assert (told(late), ask.calls) == (down, 0)
    assert provider.hits() == 0


def test_a_refresh_that_the_refusal_asks_for_tells_its_own_failure(world, connection, provider, ask):
    provider.control(behaviours={"token": "status:503"})
    result = ask(401)
    assert told(result)[:2] == ("token", FailureClass.PROVIDER_DOWN)
    assert (result.status, result.notes) == (401, (calls.NOT_RENEWED,))
    provider.control(behaviours={}, revoke_all=True)
    world.set_token(connection, next_refresh_at=utc_now())
    result = ask(401)
    assert told(result)[:2] == ("token", FailureClass.GRANT_DEAD)
    assert world.reread(connection).state is ConnectionState.REAUTH_REQUIRED


def test_a_pause_is_named_as_what_it_is_whenever_it_began(world, connection, provider, ask):
    before = world.reread(connection)
    result = ask(401, before=lambda: change(world, connection, state=ConnectionState.PAUSED, paused_from=before.state))
    resume = ("connection", Problem.PAUSED, Problem.PAUSED.next_step)
    assert (told(result), result.notes) == (resume, (calls.NOT_RENEWED,))
    assert told(ask(200)) == resume
    change(world, connection, state=before.state, paused_from=None)
    with world.resources.database.session(writing=True) as session:
        session.add(ProviderHost(host=EVERYTHING, paused_at=utc_now()))
        session.commit()
    result = ask(401)
    assert told(result) == ("token", Problem.REFRESHES_PAUSED, Problem.REFRESHES_PAUSED.next_step)
    assert result.failure.failure_reason.startswith("The API turned the token down, and a new one has to wait. All ")
    world.set_token(connection, expires_at=utc_now() - timedelta(minutes=1))
    result = ask(200)
    assert told(result)[:2] == ("token", Problem.REFRESHES_PAUSED)
    assert result.failure.failure_reason.startswith("The token has run out, and a new one has to wait. All ")
    assert (ask.calls, provider.hits()) == (0, 0)


@pytest.mark.parametrize("state", [ConnectionState.DRAFT, ConnectionState.CONFIGURED, ConnectionState.DISCONNECTED])
def test_what_nobody_has_authorized_asks_nobody(world, connection, provider, ask, state):
    change(world, connection, state=state)
    result = ask(401)
    assert told(result) == ("connection", Problem.NOT_AUTHORIZED, Problem.NOT_AUTHORIZED.next_step)
    assert (ask.calls, provider.hits()) == (0, 0)


def test_a_card_with_a_header_of_its_own_is_not_told_of_a_connection(world, connection, card, provider, ask):
    rest(world, connection, FailureClass.GRANT_DEAD)
    change(world, card, authorization=CardAuthorization.NONE)
    assert told(ask(401)) == ("reply", Problem.UNAUTHORIZED, CHECK_CARD)

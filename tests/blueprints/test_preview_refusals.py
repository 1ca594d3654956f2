"""Whoever presses Preview is told the real cause and what *he* can do, however connection and API stand."""

import json

import pytest
from werkzeug.wrappers import Response

from models import ConnectionState
from oauth.vocabulary import FailureClass, OAuthFailure
from services.calling.call_failures import Problem
from services.engine import states, tokens

CAUSES = {
    "ended": (FailureClass.GRANT_DEAD, 401, FailureClass.GRANT_DEAD.title),
    "ended, perhaps": (FailureClass.GRANT_DEAD, 403, Problem.FORBIDDEN.title),
    "misconfigured": (FailureClass.CLIENT_BAD, 401, FailureClass.CLIENT_BAD.title),
    "failing": (FailureClass.PROVIDER_DOWN, 401, FailureClass.PROVIDER_DOWN.title),
    "paused": (None, 401, Problem.PAUSED.title),
    "alive": (None, 401, Problem.UNAUTHORIZED.title),
    "no customer": (None, 404, Problem.NOT_FOUND.title),
}
"""How the connection stands, what the API answers, and the heading that tells the cause."""
ADVICE = {
    "ended": ("Press Authorize on the connection", "Ask an admin", "Ask an admin"),
    "ended, perhaps": ("If the API still refuses: Compare the Scope", "An admin", "An admin"),
    "misconfigured": ("Compare Client ID", "An admin", "An admin"),
    "failing": ("Nothing to do for now", "Press Preview again in a while", "Press Preview again in a while"),
    "paused": ("Press Resume on the connection", "Press Resume on the connection", "Ask an operator or admin"),
    "alive": ("Check that the card uses", "An admin", "An admin"),
    "no customer": ("Check the path", "Check the values above", "Check the values above"),
}
"""What an admin, an operator and an agent are told to do."""


def stand(world, connection, kind, *, paused):
    with world.resources.database.session(writing=True) as session:
        row = session.get_one(type(connection), connection.id)
        token = tokens.current_token(session, row)
        if kind is not None:
            failure = OAuthFailure("refresh", kind, "A reason on record.", provider_said="words of the provider")
            states.fail(session, world.resources.settings, row, token, failure)
        if paused:
            row.state, row.paused_from = ConnectionState.PAUSED, row.state
        session.commit()


@pytest.mark.sqlite_only
@pytest.mark.parametrize("cause", CAUSES)
def test_everybody_is_told_the_real_cause_and_what_he_may_do(world, provider, stub, stub_address, app, cause):
    kind, status, title = CAUSES[cause]
    connection = world.connection(api_hosts=[stub_address])
    world.consent(connection)
    stand(world, connection, kind, paused=cause == "paused")
    address = f"http://{stub_address}/data?email={{{{customer_email}}}}"
    card = world.card(connection=connection, hook_url=address)
    body = json.dumps({"message": "words of the api"})
    stub.expect_request("/data").respond_with_response(Response(body, status, content_type="application/json"))
    for name, advice in zip(("alice", "oscar", "ann"), ADVICE[cause], strict=True):
        client = world.client(getattr(world, name))
        shown = client.post_form(f"/cards/{card.id}/preview", headers={"HX-Request": "true"}).text
        assert title.replace("'", "&#39;") in shown
        assert f"<strong>What to do:</strong> {advice}" in shown or (
            cause == "ended, perhaps" and name == "alice" and advice in shown
        )
        assert ("words of the" in shown) is (name == "alice" and cause != "paused")
        if cause in ("ended", "misconfigured"):
            assert "because of this: A reason on record." in shown
            assert "Check that the card" not in shown
            assert "Check the values" not in shown

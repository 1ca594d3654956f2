"""Kept replies and second client secrets on a connection's page: what an admin sees and may do. P6, P29, SS-03."""

import json
import re

import pytest

from models import AttemptOutcome, AuditEntry, ClientSecret, ConnectionState, Refresh, Trigger
from models.types import utc_now
from oauth.vocabulary import ClientAuthMethod, GrantType, OAuthFailure
from services.engine import tokens
from tests.blueprints.test_cards import inputs
from tests.support import flow

ODD = {"data": {"token": "canary-access-token", "renew_token": "canary-refresh-token"}}
MAPPING = "access_token=data.token\nrefresh_token=data.renew_token"


@pytest.fixture
def alice(world, app):
    return world.client(world.alice)


@pytest.fixture
def connection(world, stub):
    how = {"token_endpoint_auth_method": ClientAuthMethod.BASIC, "revocation_endpoint": "", "issuer": ""}
    return world.connection(token_endpoint=stub.url_for("/token"), **how)


def answer(stub, body=ODD):
    stub.expect_oneshot_request("/token").respond_with_json(body)


def form(browser, connection, **changes):
    """The page's own form as a browser would send it, with changes."""
    page = browser.get(f"/connections/{connection.id}").text
    typed = {name: value for name, value in inputs(page).items() if name.startswith("connection-")}
    chosen = re.findall(r'<select [^>]*name="(connection-\w+)".*?<option selected value="([^"]*)"', page, re.DOTALL)
    return {**typed, **dict(chosen), **{f"connection-{name}": value for name, value in changes.items()}}


def use_address(browser, connection):
    page = browser.get(f"/connections/{connection.id}").text
    found = re.search(rf'action="(/connections/{connection.id}/replies/[^"]+/use)"', page)
    return found and found[1]


def test_the_reply_to_a_code_that_is_spent_is_used_once_the_mapping_is_mended(
    world, alice, app, connection, provider, stub
):
    """P6: a code can be sent once, so its reply is all there is."""
    provider.control(auto_consent=True)
    answer(stub)
    attempt = flow.walk(world, alice, connection)
    assert attempt.outcome is AttemptOutcome.FAILED
    assert world.reread(connection).state is ConnectionState.CONFIGURED
    page = alice.get(f"/connections/{connection.id}").text
    for words in ("A reply nobody could read", "cannot be sent again", "data.token", "••• text of 19 characters"):
        assert words in page
    assert "canary" not in page
    assert "canary" not in world.client(world.oscar).get(f"/connections/{connection.id}").text

    assert "still cannot be used" in alice.post_form(use_address(alice, connection), follow_redirects=True).text
    saved = alice.post_form(f"/connections/{connection.id}", form(alice, connection, reply_mapping=MAPPING))
    assert saved.status_code == 303
    assert "this reply can be used" in alice.get(f"/connections/{connection.id}").text
    said = alice.post_form(use_address(alice, connection), follow_redirects=True).text
    assert "its token is stored" in said
    assert "nobody could read" not in said
    assert "did not work" not in said
    assert world.access_token(connection) == "canary-access-token"
    assert world.refresh_token(connection) == "canary-refresh-token"
    stored = world.reread(connection)
    assert (stored.state, stored.authorized_by) == (ConnectionState.ACTIVE, world.alice.id)
    assert not stored.authorization_out_of_date
    assert world.reread(attempt).outcome is AttemptOutcome.SUCCEEDED
    assert len(stub.log) == 1


@pytest.mark.parametrize("later", ["consent", "scope", "disconnect"])
def test_what_somebody_did_since_wins_over_the_reply_to_a_code(world, alice, connection, provider, stub, later):
    provider.control(auto_consent=True)
    answer(stub)
    flow.walk(world, alice, connection)
    address = use_address(alice, connection)
    alice.post_form(f"/connections/{connection.id}", form(alice, connection, reply_mapping=MAPPING))
    if later == "consent":
        answer(stub, {"access_token": "newest", "refresh_token": "r"})
        flow.walk(world, alice, connection)
    elif later == "scope":
        alice.post_form(f"/connections/{connection.id}", form(alice, connection, reply_mapping=MAPPING, scope="more"))
    else:
        alice.post_form(f"/connections/{connection.id}/disconnect")
    assert "no longer kept" in alice.post_form(address, follow_redirects=True).text
    assert world.access_token(connection) == ("newest" if later == "consent" else None)
    assert all(row.raw_reply_sealed is None for row in world.all(Refresh, connection_id=connection.id))


def test_a_refresh_that_waits_says_so_and_can_be_given_up(world, resources, alice, connection, stub):
    world.authorize(connection)
    answer(stub)
    with pytest.raises(OAuthFailure):
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    page = alice.get(f"/connections/{connection.id}").text
    assert "nothing is sent until you decide" in page
    assert "access_token=data.token" in page
    assert 'id="refresh-now"' not in page
    question = alice.get(f"/connections/{connection.id}/replies/give-up").text
    assert "may end the authorization" in question
    alice.post_form(f"/connections/{connection.id}/replies/give-up")
    assert world.token(connection).next_refresh_at <= utc_now()
    assert use_address(alice, connection) is None


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("acess_token=data.token", "goes one of: access_token"),
        ("access_token=data.", "no JMESPath"),
        ("access_token=[data, data]", "does more"),
        ("refresh_token='written down here'", "not what it is"),
        ("access_token", "Write name=value"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_refused_at_its_field(world, alice, connection, typed, words):
    refused = alice.post_form(f"/connections/{connection.id}", form(alice, connection, reply_mapping=typed))
    assert refused.status_code == 422
    assert words in refused.text.replace("&#39;", "'")
    assert world.reread(connection).reply_mapping == {}


def test_a_second_secret_is_shown_with_its_standing_and_removed_on_its_page(world, alice, connection):
    world.authorize(connection)
    assert "connection-keep_old_secret" in form(alice, connection)  # ticked
    typed = form(alice, connection, client_secret="canary-second-secret")
    assert alice.post_form(f"/connections/{connection.id}", typed).status_code == 303
    page = alice.get(f"/connections/{connection.id}").text
    assert "2 client secrets are stored" in page
    assert "not used yet" in page
    assert "in use" in page
    assert "canary" not in page
    [address] = re.findall(r'href="(/connections/[^"]+/secrets/[^"]+/remove)"', page)
    assert "is not used yet" in alice.get(address).text
    assert "was removed" in alice.post_form(address, follow_redirects=True).text
    assert len(world.all(ClientSecret, connection_id=connection.id)) == 1
    assert "2 client secrets" not in alice.get(f"/connections/{connection.id}").text
    told = {entry.action for entry in world.all(AuditEntry, subject_id=connection.id)}
    assert {"connection.secret_added", "connection.secret_removed"} <= told


def test_a_new_secret_is_untried_until_a_request_was_made_with_it(world, resources, alice, connection, stub):
    world.authorize(connection)
    page = f"/connections/{connection.id}"
    typed = form(alice, connection, client_secret="canary-typing-error")
    del typed["connection-keep_old_secret"]
    said = alice.post_form(page, typed, follow_redirects=True).text
    assert "Configuration saved. The new client secret is untried until the next token request" in said
    assert "The client secret that is stored is not used yet: the next token request tries it." in said
    stub.expect_oneshot_request("/token").respond_with_json({"error": "invalid_client"}, status=401)
    with pytest.raises(OAuthFailure):
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    refused = alice.get(page).text
    assert "The client secret that is stored is refused by the provider." in refused
    assert "connection-keep_old_secret" not in refused
    assert "press Save configuration: Cardkey tries again at once, without new consent." in refused
    mended = alice.post_form(page, form(alice, connection, client_secret="canary-right"), follow_redirects=True).text
    assert "Configuration saved. Cardkey tries it now." in mended
    assert "Refresh failing" in mended
    assert "the settings were saved since, and Cardkey tries them now" in mended
    assert "does not accept this client" in mended, "the reason stays until the provider has answered"
    stub.expect_oneshot_request("/token").respond_with_json({"access_token": "new", "expires_in": 3600})
    assert tokens.drain(resources, 5) == 1
    fine = alice.get(page).text
    assert "Connected" in fine
    assert "The client secret that is stored" not in fine
    assert "connection-keep_old_secret" in fine
    assert "canary" not in fine


def test_without_a_grant_a_new_secret_simply_takes_the_place_of_the_old(world, alice, connection):
    assert "keep_old_secret" not in alice.get(f"/connections/{connection.id}").text
    alice.post_form(f"/connections/{connection.id}", form(alice, connection, client_secret="another"))
    assert len(world.all(ClientSecret, connection_id=connection.id)) == 1
    assert json.dumps(world.reread(connection).reply_mapping) == "{}"


def test_a_wrong_address_leaves_nothing_to_use_and_says_that_it_is_one(world, alice, stub):
    machine = world.connection(
        token_endpoint=stub.url_for("/nothing"), grant_type=GrantType.CLIENT_CREDENTIALS, issuer=""
    )
    stub.expect_request("/nothing").respond_with_data("There is nothing at /nothing here.", 404)
    page = flow.press(alice, machine)
    for address in (page, f"/connections/{machine.id}"):
        shown = alice.get(address).text
        assert "There is no token endpoint at this address: it answered with status 404." in shown
        assert "Compare the Token Endpoint" in shown
        assert "Use this reply" not in shown
        assert "nobody could read" not in shown
    assert all(row.raw_reply_sealed is None for row in world.all(Refresh, connection_id=machine.id))


def test_what_is_to_be_corrected_stands_above_what_was_kept(world, alice, connection, provider, stub):
    provider.control(auto_consent=True)
    answer(stub)
    flow.walk(world, alice, connection)
    page = alice.post_form(f"/connections/{connection.id}", form(alice, connection, token_endpoint="nowhere")).text
    assert 0 < page.index("Please correct") < page.index("nobody could read") < page.index("connection-client_id")

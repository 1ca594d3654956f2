"""Saving, disconnecting and deleting connections, and where a stored secret may go."""

import dataclasses

import pytest
from pydantic import SecretStr

from models import AuditEntry, ClientSecret, Connection, ConnectionState, Token
from models.types import utc_now
from oauth.vocabulary import ClientAuthMethod, FailureClass, GrantType, OAuthFailure, RefreshKind
from services.audit import Actor
from services.engine import advice, client_secrets, eligibility, states, tokens
from services.errors import InvalidInput, NotFound, Stale
from services.setup import connections
from services.setup.configuration import Configuration
from tests.support.world import token_reply

TYPED = Configuration(
    name="Orders",
    grant_type=GrantType.AUTHORIZATION_CODE,
    client_id="client",
    client_secret=SecretStr("a client secret"),
    authorization_endpoint="https://login.example.com/authorize",
    token_endpoint="https://login.example.com/token",
    scope="orders.read offline",
)


@pytest.fixture
def actor(world):
    return Actor.person(world.alice)


@pytest.fixture
def save(resources, session, world, actor):
    """Save a configuration that differs from the usual one in a few fields."""

    def save(existing=None, **changes):
        typed = dataclasses.replace(TYPED, **changes)
        version = existing.version if existing else 0
        policy, versions = resources.http.policy, {"existing": existing, "version": version}
        return connections.save(session, policy, actor, world.acme.id, typed, settings=resources.settings, **versions)

    return save


def errors(save, **changes):
    with pytest.raises(InvalidInput) as raised:
        save(**changes)
    return raised.value.errors


def connected(session, world, connection):
    """Give `connection` a grant, in the session's own words."""
    session.commit()
    world.authorize(connection)
    session.expire_all()


def test_a_new_connection_waits_to_be_authorized(save, session):
    saved = save()
    assert saved.state is ConnectionState.CONFIGURED
    assert saved.refresh_kind is RefreshKind.REFRESH_TOKEN
    assert tokens.current_token(session, saved).provider_host == "login.example.com"
    assert client_secrets.read(session, saved).get_secret_value() == "a client secret"


def test_every_problem_is_told_at_once_and_at_its_field(save):
    found = errors(
        save,
        name="",
        client_id="",
        client_secret=None,
        authorization_endpoint="",
        token_endpoint="http://login.example.com/token",
        scope="one\ntwo",
        issuer="example.com",
        token_params={"client_secret": "x"},
    )
    assert set(found) == {
        "name",
        "client_id",
        "client_secret",
        "authorization_endpoint",
        "token_endpoint",
        "scope",
        "issuer",
        "token_params",
    }
    assert found["token_endpoint"] == "Token Endpoint must start with https://"


def test_the_authorization_endpoint_pasted_twice_is_noticed(save):
    found = errors(save, token_endpoint=TYPED.authorization_endpoint)
    assert "pasted twice" in found["token_endpoint"]


def test_client_credentials_need_no_authorization_endpoint(save):
    saved = save(grant_type=GrantType.CLIENT_CREDENTIALS, authorization_endpoint="", audience="https://api")
    assert saved.refresh_kind is RefreshKind.REISSUE


def test_a_public_client_needs_no_secret(save, session):
    saved = save(client_secret=None, token_endpoint_auth_method=ClientAuthMethod.NONE)
    assert client_secrets.read(session, saved) is None


def test_two_connections_of_a_workspace_cannot_share_a_name(save):
    save()
    assert "already" in errors(save, name=" ORDERS ")["name"]


def test_scope_and_client_id_are_kept_exactly_as_typed(save):
    saved = save(scope=" a  b ", client_id=" id ")
    assert (saved.scope, saved.client_id) == (" a  b ", " id ")


def test_an_empty_secret_keeps_the_stored_one(save, session):
    saved = save(existing=save(), client_secret=None, scope="other")
    assert client_secrets.read(session, saved).get_secret_value() == "a client secret"


def test_a_new_secret_replaces_the_old_one(save, session, world):
    saved = save(existing=save(), client_secret=SecretStr("another"))
    assert [row.connection_id for row in world.all(ClientSecret)] == [saved.id]
    assert client_secrets.read(session, saved).get_secret_value() == "another"


def test_saving_nothing_new_changes_nothing(save):
    saved = save()
    before = saved.version
    assert save(existing=saved, client_secret=None).version == before


def test_a_stale_form_is_refused_and_told_what_stands_now(save, resources, session, world, actor):
    saved = save()
    save(existing=saved, scope="theirs")
    typed = dataclasses.replace(TYPED, scope="mine")
    policy, versions = resources.http.policy, {"existing": saved, "version": 1}
    with pytest.raises(Stale) as raised:
        connections.save(session, policy, actor, world.acme.id, typed, settings=resources.settings, **versions)
    assert raised.value.current.scope == "theirs"


@pytest.mark.parametrize("field", ["token_endpoint", "revocation_endpoint", "introspection_endpoint"])
def test_a_stored_secret_does_not_follow_an_endpoint_to_another_host(save, session, world, field):
    saved = save()
    connected(session, world, saved)
    found = errors(save, existing=saved, client_secret=None, **{field: "https://evil.example.com/x"})
    assert "another host" in found["client_secret"]
    session.rollback()
    assert world.access_token(saved) == "at"


@pytest.mark.parametrize("field", ["token_endpoint", "revocation_endpoint"])
def test_moving_an_endpoint_with_the_secret_drops_the_grant(save, session, world, field):
    saved = save()
    connected(session, world, saved)
    generation = world.token(saved).generation
    save(existing=saved, **{field: "https://new.example.com/x"})
    token = world.token(saved)
    assert token.access_token_sealed is None
    assert token.refresh_token_sealed is None
    assert token.generation > generation, "a refresh in flight must not come back"
    assert world.reread(saved).state is ConnectionState.CONFIGURED


def test_a_revocation_endpoint_on_the_token_host_asks_for_nothing(save, session, world):
    saved = save()
    connected(session, world, saved)
    save(existing=saved, client_secret=None, revocation_endpoint="https://login.example.com/revoke")
    assert world.access_token(saved) == "at"


def test_another_scope_keeps_the_grant_and_says_it_is_out_of_date(save, session, world):
    saved = save()
    connected(session, world, saved)
    saved = save(existing=saved, client_secret=None, scope="more")
    assert world.access_token(saved) == "at"
    assert saved.authorization_out_of_date


def test_a_grant_rests_while_another_client_is_configured_and_returns_with_its_own(save, session, world):
    saved = save()
    connected(session, world, saved)
    other = save(existing=saved, client_id="a typo")
    assert other.state is ConnectionState.CONFIGURED
    assert world.token(saved).next_refresh_at is None
    again = save(existing=other)
    assert again.state is ConnectionState.ACTIVE
    assert world.token(saved).next_refresh_at is not None


def test_mending_the_secret_tries_again_without_new_consent(save, session, world, settings):
    saved = save()
    connected(session, world, saved)
    refused = OAuthFailure("refresh", FailureClass.CLIENT_BAD, "It does not know the client.", code="invalid_client")
    states.fail(session, settings, saved, tokens.current_token(session, saved), refused)
    session.commit()
    assert saved.state is ConnectionState.MISCONFIGURED
    assert saved.next_step.endswith("Cardkey tries again at once, without new consent.")
    mended = save(existing=saved, client_secret=SecretStr("the right one"))
    token = world.token(saved)
    assert mended.state is ConnectionState.DEGRADED
    assert mended.failure_reason == "It does not know the client.", "until the provider has answered"
    assert token.next_refresh_at <= utc_now()
    assert (advice.next_step(mended, token), token.failures) == (advice.TRIED_NOW, 0)


@pytest.mark.parametrize(("changes", "at_once"), [({"scope": "more"}, True), ({"name": "Another name"}, False)])
def test_what_is_failing_is_tried_at_once_with_other_settings_and_keeps_its_reason(
    save, session, world, settings, changes, at_once
):
    """Somebody who mends a wrong endpoint should not have to wait for the next try, nor wonder what is wrong."""
    saved = save(grant_type=GrantType.CLIENT_CREDENTIALS)
    connected(session, world, saved)
    for _ in range(5):
        token = tokens.current_token(session, saved)
        states.fail(session, settings, saved, token, OAuthFailure("refresh", FailureClass.REPLY_UNUSABLE, "A page."))
    session.commit()
    later = save(existing=saved, grant_type=GrantType.CLIENT_CREDENTIALS, client_secret=None, **changes)
    token = world.token(saved)
    assert (later.state, later.failure_reason) == (ConnectionState.DEGRADED, "A page.")
    assert (token.next_refresh_at <= utc_now()) is at_once
    assert advice.is_untried(later, token) is at_once
    assert (token.failures == 0) is at_once


@pytest.mark.parametrize("kind", [FailureClass.CLIENT_BAD, FailureClass.REQUEST_BAD])
def test_the_next_step_asks_for_consent_only_where_it_is_needed(save, session, world, settings, kind):
    person = save()
    machine = save(name="Machine", grant_type=GrantType.CLIENT_CREDENTIALS)
    for row in (person, machine):
        states.note_failure(row, OAuthFailure("refresh", kind, "No."))
        assert row.next_step.endswith("then press Save configuration and Authorize.")
    session.commit()
    for row in (person, machine):
        world.authorize(row)
    session.expire_all()
    for row in (person, machine):
        states.note_failure(row, OAuthFailure("refresh", kind, "No."))
    assert person.next_step.endswith("press Save configuration: Cardkey tries again at once, without new consent.")
    assert machine.next_step.endswith("press Save configuration: Cardkey tries again at once.")


def test_what_is_said_of_changed_settings_holds_in_every_state(save, session, world):
    saved = save()
    connected(session, world, saved)
    assert advice.settings_note(saved, world.token(saved)) == ""
    saved = save(existing=saved, client_secret=None, scope="more")
    assert advice.settings_note(saved, world.token(saved)) == advice.STILL_USED
    saved.state = ConnectionState.REAUTH_REQUIRED
    assert advice.settings_note(saved, world.token(saved)) == advice.ENDED
    saved.state, saved.paused_from = ConnectionState.PAUSED, ConnectionState.ACTIVE
    assert "old grant" not in advice.settings_note(saved, world.token(saved))
    saved.state, saved.paused_from = ConnectionState.ACTIVE, None
    saved = save(existing=saved, client_secret=None, scope="more", client_id="another")
    assert advice.settings_note(saved, world.token(saved)) == advice.STRANGE


def test_client_credentials_are_out_of_date_until_the_next_token(save, session, world, settings):
    saved = save(grant_type=GrantType.CLIENT_CREDENTIALS)
    connected(session, world, saved)
    saved = save(existing=saved, grant_type=GrantType.CLIENT_CREDENTIALS, client_secret=None, scope="more")
    assert not saved.authorization_out_of_date, "nobody has to agree again"
    assert advice.settings_note(saved, world.token(saved)) == advice.OTHER_TOKEN
    states.store(session, settings, saved, tokens.current_token(session, saved), token_reply("at-2"))
    session.commit()
    assert advice.settings_note(saved, world.token(saved)) == ""


def test_disconnecting_takes_the_grant_and_tells_the_provider(resources, world, actor, provider):
    connection = world.connection()
    world.consent(connection)
    said = connections.disconnect(resources, actor, connection.id)
    assert "revoked" in said
    assert provider.counts["revoked"] == 1
    token = world.token(connection)
    assert (token.access_token_sealed, token.refresh_token_sealed, token.next_refresh_at) == (None, None, None)
    assert world.reread(connection).state is ConnectionState.DISCONNECTED


def test_disconnecting_works_although_the_provider_is_gone(resources, world, actor, stub, stub_address):
    connection = world.connection(
        token_endpoint=f"http://{stub_address}/token", revocation_endpoint=f"http://{stub_address}/revoke"
    )
    world.authorize(connection)
    stub.expect_request("/revoke").respond_with_data("down", status=503)
    said = connections.disconnect(resources, actor, connection.id)
    assert "could not be told" in said
    assert world.token(connection).refresh_token_sealed is None


def test_nobody_is_sent_to_the_provider_for_tokens_that_never_were(resources, world, actor):
    never, silent = world.connection(), world.connection(revocation_endpoint="")
    world.authorize(silent)
    assert "remove the access there" not in connections.delete(resources, actor, never.id)
    assert "remove the access there" in connections.delete(resources, actor, silent.id)


def test_deleting_removes_every_secret_and_lets_cards_wait(resources, world, actor):
    connection = world.connection(revocation_endpoint="")
    world.authorize(connection)
    card = world.card(connection=connection)
    connections.delete(resources, actor, connection.id)
    assert world.all(Connection) == []
    assert world.all(Token) == []
    assert world.all(ClientSecret) == []
    assert world.reread(card).connection_id is None
    assert "connection.deleted" in [entry.action for entry in world.all(AuditEntry)]


def test_deleting_twice_is_told_as_gone(resources, world, actor):
    connection = world.connection(revocation_endpoint="")
    connections.delete(resources, actor, connection.id)
    with pytest.raises(NotFound):
        connections.delete(resources, actor, connection.id)


def test_every_change_is_in_the_audit_trail(save, world):
    save(existing=save(), client_secret=SecretStr("another"), token_endpoint="https://new.example.com/token")
    actions = {entry.action for entry in world.all(AuditEntry)}
    assert {
        "connection.created",
        "connection.secret_set",
        "connection.configured",
        "connection.host_changed",
    } <= actions
    assert "another" not in str([entry.detail for entry in world.all(AuditEntry)])


def test_a_resting_grant_is_neither_used_nor_refreshed(save, session, world, resources):
    saved = save()
    connected(session, world, saved)
    save(existing=saved, client_id="another client")
    with pytest.raises(NotFound, match="Press Authorize"):
        tokens.access(resources, world.acme.id, saved.id)
    assert "another client" in eligibility.refusal(world.reread(saved), world.token(saved))


def test_saving_keeps_why_authorization_is_needed(save, session, world):
    saved = save()
    connected(session, world, saved)
    saved.state, saved.failure_reason = ConnectionState.REAUTH_REQUIRED, "The provider ended the authorization."
    session.add(saved)
    session.commit()
    saved = save(existing=saved, client_secret=None, scope="more")
    assert (saved.state, saved.failure_reason) == (
        ConnectionState.REAUTH_REQUIRED,
        "The provider ended the authorization.",
    )

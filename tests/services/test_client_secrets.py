"""Two client secrets while one is exchanged for the other: which is sent, how often. P29, TK-10, SS-08."""

import base64
import time
from urllib.parse import unquote_plus

import pytest
from pydantic import SecretStr
from werkzeug.wrappers import Response

from models import AuditEntry, ClientSecret, Connection, ConnectionState, Trigger
from models.types import utc_now
from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure
from services.audit import Actor
from services.engine import client_secrets, tokens
from services.errors import Refused
from services.setup import connections, destinations
from services.setup.configuration import Configuration

OLD, NEW = "old client+secret", "new client/secret"


class Provider:
    """A token endpoint that takes some secrets, by some methods, and remembers what it was sent."""

    def __init__(self, stub):
        self.accepted, self.methods, self.sent = {OLD}, {"basic", "post"}, []
        stub.expect_request("/token").respond_with_handler(self.answer)

    def answer(self, request):
        method, secret = "post", request.form.get("client_secret")
        if "Authorization" in request.headers:
            pair = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
            method, secret = "basic", unquote_plus(pair.partition(":")[2])
        self.sent.append((method, secret))
        if secret in self.accepted and method in self.methods:
            return Response('{"access_token": "a", "expires_in": 3600}', content_type="application/json")
        return Response('{"error": "invalid_client"}', 401, content_type="application/json")


@pytest.fixture
def endpoint(stub):
    return Provider(stub)


@pytest.fixture
def actor(world):
    return Actor.person(world.alice)


@pytest.fixture
def connection(world, stub, endpoint):
    made = world.connection(secret=OLD, token_endpoint=stub.url_for("/token"), revocation_endpoint="")
    world.authorize(made)
    return made


def configuration(row, **changes):
    """A connection as typed once more, but for `changes`."""
    fields = {name: getattr(row, name) for name in Configuration.__dataclass_fields__ if hasattr(row, name)}
    return Configuration(**{**fields, **changes})


@pytest.fixture
def save(world, resources, actor):
    """Save the connection with a new secret."""

    def save(connection, secret=NEW, keep=True, **changes):
        now = world.reread(connection)
        typed = configuration(now, client_secret=SecretStr(secret), keep_old_secret=keep, **changes)
        with resources.database.session(writing=True) as session:
            connections.save(
                session,
                resources.http.policy,
                actor,
                now.workspace_id,
                typed,
                existing=session.merge(now),
                version=now.version,
                settings=resources.settings,
            )

    return save


def shown(world, resources, connection):
    with resources.database.session() as session:
        return client_secrets.shown(session, connection, tokens.current_token(session, connection))


def standing(world, resources, connection):
    return [(secret.standing, secret.removable) for secret in shown(world, resources, connection)]


def refresh(resources, connection):
    try:
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    except OAuthFailure as failure:
        return failure
    return None


def test_the_old_secret_is_used_until_the_provider_wants_the_new_one(world, resources, connection, endpoint, save):
    """P29: nothing is lost between the day a secret is made at the provider and the day the old one ends."""
    assert refresh(resources, connection) is None
    save(connection)
    assert standing(world, resources, connection) == [("not used yet", True), ("in use", False)]
    endpoint.sent.clear()
    assert refresh(resources, connection) is None
    assert endpoint.sent == [("basic", OLD)]
    assert world.all(AuditEntry, action="connection.secret_worked") == []

    endpoint.accepted = {NEW}
    endpoint.sent.clear()
    assert refresh(resources, connection) is None
    assert endpoint.sent == [("basic", OLD), ("basic", NEW)]
    assert standing(world, resources, connection) == [("in use", False), ("no longer used", True)]
    assert len(world.all(AuditEntry, action="connection.secret_worked")) == 1
    endpoint.sent.clear()
    assert refresh(resources, connection) is None
    assert endpoint.sent == [("basic", NEW)]

    endpoint.accepted = {OLD}  # the provider rolls back
    assert refresh(resources, connection) is None
    assert standing(world, resources, connection) == [("not used yet", True), ("in use", False)]


def test_a_secret_that_never_worked_is_called_refused_and_not_kept(world, resources, connection, endpoint, save):
    """Whoever mends a mistyped secret must not find the mistake called the one in use, nor stored beside it."""
    assert standing(world, resources, connection) == [("in use", False)], "it brought the token, though nobody noted it"
    save(connection, "a typing error", keep=False)
    assert standing(world, resources, connection) == [("not used yet", False)]
    assert refresh(resources, connection).failure_class is FailureClass.CLIENT_BAD
    [mistyped] = shown(world, resources, connection)
    assert (mistyped.standing, mistyped.worked, mistyped.refused) == ("refused by the provider", False, True)
    assert client_secrets.to_keep([mistyped]) is None
    save(connection, OLD, keep=True)
    [stored] = world.all(ClientSecret, connection_id=connection.id)
    assert stored.id != mistyped.id
    assert standing(world, resources, connection) == [("not used yet", False)]
    assert refresh(resources, connection) is None
    assert standing(world, resources, connection) == [("in use", False)]


def test_of_two_that_are_refused_the_one_that_worked_is_told_apart(world, resources, connection, endpoint, save):
    assert refresh(resources, connection) is None
    save(connection, "a typing error")
    endpoint.accepted = set()
    refresh(resources, connection)
    assert standing(world, resources, connection) == [("refused by the provider", True), ("no longer accepted", False)]
    worked = client_secrets.to_keep(shown(world, resources, connection))
    assert worked.worked, "its provider may take it back"
    assert worked.refused, "so it is not kept unless somebody wants it"


def test_a_client_that_may_not_use_the_flow_says_nothing_against_its_secret(
    world, resources, connection, endpoint, save, stub
):
    assert refresh(resources, connection) is None
    stub.clear()
    stub.expect_request("/token").respond_with_json({"error": "unauthorized_client"}, status=400)
    refresh(resources, connection)
    assert standing(world, resources, connection) == [("in use", False)]


def test_when_neither_is_accepted_it_stops_after_one_round(world, resources, connection, endpoint, save):
    """TK-10."""
    refresh(resources, connection)
    save(connection)
    endpoint.accepted, endpoint.sent = set(), []
    failure = refresh(resources, connection)
    assert failure.failure_class is FailureClass.CLIENT_BAD
    assert "other client secret was tried" in str(failure)
    assert endpoint.sent == [("basic", OLD), ("basic", NEW)]
    stored = world.reread(connection)
    assert stored.state is ConnectionState.MISCONFIGURED
    assert "other client secret" in stored.failure_reason
    assert tokens.drain(resources, 1) == 0
    assert len(endpoint.sent) == 2


def test_a_client_that_may_not_do_this_is_not_tried_with_another_secret(
    world, resources, connection, endpoint, save, stub
):
    refresh(resources, connection)
    save(connection)
    stub.clear()
    stub.expect_request("/token").respond_with_json({"error": "unauthorized_client"}, status=400)
    assert refresh(resources, connection).code == "unauthorized_client"
    assert len(stub.log) == 1


def test_both_are_starred_in_what_the_provider_says(resources, connection, endpoint, save, stub):
    refresh(resources, connection)
    save(connection)
    stub.clear()
    words = f"neither {OLD} nor {NEW} will do"
    stub.expect_request("/token").respond_with_json({"error": "invalid_client", "error_description": words}, status=401)
    failure = refresh(resources, connection)
    assert failure.provider_said == "neither ••• nor ••• will do"


def test_without_keeping_it_the_old_secret_is_gone_at_once(world, connection, endpoint, save):
    save(connection, keep=False)
    assert len(world.all(ClientSecret, connection_id=connection.id)) == 1
    assert [entry.action for entry in world.all(AuditEntry) if "secret" in entry.action] == ["connection.secret_set"]


def test_there_are_never_more_than_two_and_the_one_in_use_is_among_them(world, resources, connection, endpoint, save):
    refresh(resources, connection)
    save(connection)
    save(connection, "a third one")
    assert len(world.all(ClientSecret, connection_id=connection.id)) == 2
    assert standing(world, resources, connection) == [("not used yet", True), ("in use", False)]
    assert refresh(resources, connection) is None
    save(connection, OLD)  # typed once more: nothing changes
    assert standing(world, resources, connection) == [("not used yet", True), ("in use", False)]


def test_another_host_gets_neither(world, connection, endpoint, save):
    """SS-08."""
    save(connection)
    save(connection, "typed for the new host", token_endpoint="https://other.example/token")
    [left] = world.all(ClientSecret, connection_id=connection.id)
    value = left.unseal("value", world.resources.database.keyring)
    assert value.get_secret_value() == "typed for the new host"
    assert not world.token(connection).access_token_sealed


def test_only_the_secret_that_is_not_needed_can_be_removed(world, resources, connection, endpoint, save, actor):
    refresh(resources, connection)
    save(connection)
    newer, used = sorted(world.all(ClientSecret, connection_id=connection.id), key=lambda row: row.set_at, reverse=True)
    with pytest.raises(Refused, match="worked last"):
        connections.remove_secret(resources, actor, connection.id, used.id)
    connections.remove_secret(resources, actor, connection.id, newer.id)
    connections.remove_secret(resources, actor, connection.id, newer.id)
    assert [row.id for row in world.all(ClientSecret, connection_id=connection.id)] == [used.id]
    assert len(world.all(AuditEntry, action="connection.secret_removed")) == 1
    with pytest.raises(Refused):
        connections.remove_secret(resources, actor, connection.id, used.id)


def test_a_spare_secret_that_is_damaged_stops_nothing(world, resources, connection, endpoint, save):
    """SS-05."""
    refresh(resources, connection)
    save(connection)
    with resources.database.session(writing=True) as session:
        for row in client_secrets.rows(session, connection):
            if row.id != world.token(connection).client_secret_id:
                row.value_sealed = row.value_sealed[:-1] + b"\x00"
        session.commit()
    assert refresh(resources, connection) is None


def test_a_secret_set_after_the_grant_opens_no_host_while_an_older_one_is_there(world, resources, connection, save):
    """ADR 18: whoever may add a secret need not know the one that the grant was given with."""
    save(connection)
    with resources.database.session() as session:
        row = session.get_one(Connection, connection.id)
        for secret, refused in ((NEW, True), (OLD, False)):
            typed = configuration(row, client_secret=SecretStr(secret))
            words = destinations.new_host_problem(session, row, "https://new-host.example/x", typed)
            assert bool(words) is refused, secret


def test_the_first_round_with_an_unknown_method_tries_each_method_for_each_secret(
    world, resources, connection, endpoint, save
):
    world.set_token(connection, auth_method=None)
    save(connection, scope="another")
    endpoint.accepted, endpoint.methods = {NEW}, {"post"}
    assert refresh(resources, connection) is None
    assert endpoint.sent[-1] == ("post", NEW)
    assert world.token(connection).auth_method is ClientAuthMethod.POST
    assert world.token(connection).expires_at > utc_now()


@pytest.mark.sqlite_only
@pytest.mark.settings(token_deadline=1.0, lease=3.0)
def test_trying_methods_takes_no_longer_than_one_request_may(resources, world, stub):
    """Or the lease would end, and somebody else would send the same refresh token meanwhile (TK-08)."""

    def slow(_request):
        time.sleep(0.7)
        return Response('{"error": "invalid_client"}', 401, content_type="application/json")

    stub.expect_request("/token").respond_with_handler(slow)
    made = world.connection(secret=OLD, token_endpoint=stub.url_for("/token"))
    world.authorize(made)
    world.set_token(made, auth_method=None)
    began = time.monotonic()
    with pytest.raises(OAuthFailure) as caught:
        tokens.refresh(resources, made.id, Trigger.MANUAL)
    assert time.monotonic() - began < 1.5
    assert caught.value.failure_class is FailureClass.UNKNOWN, "the last one may have been accepted"

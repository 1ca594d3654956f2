"""Saving cards with their connection, and where a stored secret of a card may go."""

import dataclasses
import uuid

import pytest
from pydantic import SecretStr

from models import Card, CardAuthorization, CardHeader, Connection
from oauth.vocabulary import GrantType
from services.audit import Actor
from services.engine import client_secrets
from services.errors import InvalidInput, NotFound, Stale
from services.setup import cards, connections
from services.setup.cards import TypedCard, TypedConnection
from services.setup.headers import TypedHeader
from tests.services.test_connections import TYPED as CONFIGURATION

TYPED = TypedCard(
    title="Orders",
    hook_url="https://api.example.com/orders?email={{customer_email}}",
    method="GET",
    authorization=CardAuthorization.NONE,
    connection_id=None,
    authorization_header=None,
    headers=(),
    template_content="<p>{{ customer.name }}</p>",
)
OAUTH = dataclasses.replace(
    TYPED, authorization=CardAuthorization.OAUTH, connection=TypedConnection(CONFIGURATION, version=0)
)


UNSTORED = {"client_secret", "keep_old_secret"}


@pytest.fixture
def actor(world):
    return Actor.person(world.alice)


@pytest.fixture
def save(resources, session, world, actor):
    """Save a card that differs from `typed` in a few fields."""

    def save(typed=TYPED, existing=None, version=None, **changes):
        typed = dataclasses.replace(typed, **changes)
        if version is None:
            version = existing.version if existing else 0
        return cards.save(session, resources, actor, world.acme.id, typed, existing=existing, version=version)

    return save


def errors(save, *args, **changes):
    with pytest.raises(InvalidInput) as raised:
        save(*args, **changes)
    return raised.value.errors


def using(connection, secret=None):
    """A card's form with an existing connection chosen and its fields unchanged, or its secret typed again."""
    typed = dataclasses.replace(
        CONFIGURATION,
        **{name: getattr(connection, name) for name in CONFIGURATION.__dict__ if name not in UNSTORED},
        client_secret=SecretStr(secret) if secret else None,
    )
    return dataclasses.replace(
        OAUTH, connection_id=connection.id, connection=TypedConnection(typed, connection.version)
    )


def authorized(session, world, card):
    """Give the card's connection a grant."""
    session.commit()
    connection = world.all(Connection, id=card.connection_id)[0]
    world.authorize(connection)
    session.expire_all()
    return session.get_one(Connection, connection.id)


def test_a_card_and_its_new_connection_are_saved_together(save, session):
    card = save(OAUTH)
    connection = session.get_one(Connection, card.connection_id)
    assert connection.api_hosts == ["api.example.com"]
    assert client_secrets.read(session, connection).get_secret_value() == "a client secret"


def test_problems_of_card_and_connection_are_told_together(save):
    broken = TypedConnection(dataclasses.replace(CONFIGURATION, client_id=""), 0)
    found = errors(
        save,
        OAUTH,
        title="",
        hook_url="http://api.example.com",
        template_content="{% if %}",
        headers=[TypedHeader("Host", SecretStr("x"), False)],
        connection=broken,
    )
    assert set(found) == {"title", "hook_url", "template_content", "headers-0-name", "connection-client_id"}
    assert found["hook_url"] == "Hook URL must start with https://"


def test_a_broken_card_saves_no_connection_either(save, session, world):
    errors(save, OAUTH, title="")
    session.rollback()
    assert world.all(Connection) == []


@pytest.mark.parametrize(
    "hook_url",
    ["https://{{customer_email}}.example.com/", "https://api.example.com/{{nobody}}", "https://10.0.0.1/", ""],
)
def test_a_hook_url_that_cannot_be_called_is_refused(save, hook_url):
    assert "hook_url" in errors(save, hook_url=hook_url)


def test_a_foreign_connection_looks_absent(save, world):
    foreign = world.connection(workspace=world.globex)
    with pytest.raises(NotFound):
        save(using(foreign))
    with pytest.raises(NotFound):
        save(OAUTH, connection_id=uuid.uuid4())


def test_a_new_api_host_asks_for_the_secret_and_keeps_the_grant(save, session, world):
    connection = authorized(session, world, save(OAUTH))
    found = errors(save, using(connection), title="More", hook_url="https://other.example.com/x")
    assert "new host" in found["connection-client_secret"]
    found = errors(save, using(connection, "a guess"), title="More", hook_url="https://other.example.com/x")
    assert "not the Client secret that is stored" in found["connection-client_secret"]
    save(using(connection, "a client secret"), title="More", hook_url="https://other.example.com/x")
    assert world.access_token(connection) == "at"
    assert world.reread(connection).api_hosts == ["api.example.com", "other.example.com"]


def test_a_secret_changed_first_does_not_open_a_new_host_for_the_old_grant(save, session, world):
    connection = authorized(session, world, save(OAUTH))
    card = world.all(Card)[0]
    save(using(connection, "the attacker's own"), existing=session.get_one(Card, card.id))
    connection = session.get_one(Connection, connection.id)
    save(using(connection, "the attacker's own"), title="Evil", hook_url="https://evil.example.com/x")
    assert world.token(connection).access_token_sealed is None


def changed(connection, secret=None, **fields):
    """The connection's part of a form with a few fields changed."""
    return dataclasses.replace(using(connection, secret).connection.configuration, **fields)


@pytest.fixture
def change(resources, session, world, actor):
    """Save a connection on its own page, without its secret."""

    def change(connection, **fields):
        connection = session.get_one(Connection, connection.id)
        typed, version = changed(connection, **fields), connection.version
        policy, versions = resources.http.policy, {"existing": connection, "version": version}
        return connections.save(session, policy, actor, world.acme.id, typed, settings=resources.settings, **versions)

    return change


def test_a_grant_put_to_rest_meanwhile_does_not_wake_up_with_a_new_host(save, change, session, world):
    connection = authorized(session, world, save(OAUTH))
    change(connection, client_id="another")
    resting = session.get_one(Connection, connection.id)
    assert "new host" in errors(save, using(resting), hook_url="https://evil.example.com/x")["connection-client_secret"]
    change(connection, client_id="client")
    assert world.access_token(connection) == "at"
    assert world.reread(connection).api_hosts == ["api.example.com"]


def test_a_resting_grant_is_dropped_when_nobody_vouches_for_a_new_host(save, change, session, world):
    connection = authorized(session, world, save(OAUTH))
    change(connection, client_id="another", client_secret=SecretStr("the attacker's own"))
    resting = session.get_one(Connection, connection.id)
    save(using(resting, "the attacker's own"), title="Evil", hook_url="https://evil.example.com/x")
    change(connection, client_id="client")
    assert world.access_token(connection) is None


def test_a_secret_that_needs_no_person_brings_no_token_for_a_new_host(save, session, world):
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS, api_hosts=["api.example.com"])
    assert "new host" in errors(save, using(machine), hook_url="https://evil.example.com/")["connection-client_secret"]


def test_nor_does_one_whose_flow_is_changed_before_after_or_with_the_host(save, change, session, world):
    person = world.connection()
    evil, machine = "https://evil.example.com/", {"grant_type": GrantType.CLIENT_CREDENTIALS}
    both = dataclasses.replace(using(person), connection=TypedConnection(changed(person, **machine), person.version))
    assert "client_secret" in str(errors(save, both, hook_url=evil))
    save(using(person), hook_url=evil)
    with pytest.raises(InvalidInput) as raised:
        change(person, **machine)
    assert raised.value.errors == {"client_secret": connections.ALONE}


def test_a_host_no_card_calls_any_more_is_forgotten(save, session, actor, world):
    card = save(OAUTH)
    connection = session.get_one(Connection, card.connection_id)
    cards.delete(session, actor, card)
    assert world.reread(connection).api_hosts == []


def test_a_stored_authorization_header_does_not_follow_the_hook_url(save):
    header = {"authorization": CardAuthorization.HEADER}
    card = save(**header, authorization_header=SecretStr("Bearer s3cret"))
    assert save(**header, existing=card, title="Same host").authorization_header_sealed
    assert "host" in errors(save, **header, existing=card, hook_url="https://evil.example.com/")["authorization_header"]


def test_a_stored_secret_header_follows_neither_another_host_nor_another_name(save, world):
    card = save(headers=[TypedHeader("X-Api-Key", SecretStr("s3cret"), False)])
    row = world.all(CardHeader)[0]
    assert row.secret, "the name says that it is a secret"
    kept = TypedHeader("X-Api-Key", None, False, row.id)
    card = save(existing=card, title="Same", headers=[kept])
    assert world.all(CardHeader)[0].value_sealed == row.value_sealed
    assert "headers-0-value" in errors(save, existing=card, hook_url="https://evil.example.com/", headers=[kept])
    renamed = dataclasses.replace(kept, name="X-Other")
    assert "headers-0-value" in errors(save, existing=card, headers=[renamed])


def test_another_cards_header_cannot_be_taken_over(save, world):
    save(headers=[TypedHeader("X-Api-Key", SecretStr("s3cret"), False)])
    row = world.all(CardHeader)[0]
    other = save(
        title="Other", hook_url="https://evil.example.com/", headers=[TypedHeader("X-Api-Key", None, True, row.id)]
    )
    stolen = world.all(CardHeader, card_id=other.id)
    assert [header.value_sealed for header in stolen] == [None]


def test_unticking_secret_does_not_show_a_stored_value(save, world):
    card = save(headers=[TypedHeader("X-Custom", SecretStr("s3cret"), True)])
    row = world.all(CardHeader)[0]
    save(existing=card, headers=[TypedHeader("X-Custom", None, False, row.id)])
    assert world.all(CardHeader)[0].secret


def test_leaving_the_authorization_header_removes_its_value(save):
    card = save(authorization=CardAuthorization.HEADER, authorization_header=SecretStr("Bearer s3cret"))
    assert save(existing=card).authorization_header_sealed is None


def test_a_stale_card_is_refused(save):
    card = save()
    save(existing=card, title="Theirs")
    with pytest.raises(Stale):
        save(existing=card, version=1, title="Mine")

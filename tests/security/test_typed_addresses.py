"""No address, header or grant that must not be is saved, whoever types it. AC-11, AC-13, EG-07, EG-08."""

import re

import pytest

from models import Card, CardHeader, Connection
from oauth.vocabulary import GrantType
from tests.blueprints.test_cards import FORM
from tests.outbound.conftest import RawServer, answer
from tests.outbound.test_addresses import FORMS as HIDDEN_WAYS_IN

pytestmark = pytest.mark.sqlite_only

ALONE = {name.removeprefix("connection-"): value for name, value in FORM.items() if name.startswith("connection-")}
ENDPOINTS = ("authorization_endpoint", "token_endpoint", "revocation_endpoint", "introspection_endpoint")
ISSUERS = ("javascript:alert(1)", "http://evil.example", "provider.example", "https://a\nb", "//a", "https://a?b=c")


@pytest.fixture
def alice(app, world):
    return world.client(world.alice)


@pytest.fixture
def canary():
    server = RawServer(lambda connection, _request: connection.sendall(answer(b"inside")))
    yield server
    server.close()


def connection_form(**changes):
    """The form of a connection, with some fields changed."""
    return {f"connection-{name}": value for name, value in {**ALONE, **changes}.items()}


def error_at(page, field):
    """Whether the page marks this field as wrong."""
    return any(
        f'name="{field}"' in tag and 'aria-invalid="true"' in tag
        for tag in re.findall(r"<(?:input|textarea|select) [^>]*>", page)
    )


def bad_addresses(port):
    """Every way in that hides an address of this machine, and whatever else is no address to be called."""
    return [text.replace("{canary}", str(port)) for text in HIDDEN_WAYS_IN if text.strip()]


def test_there_are_forty_bad_addresses_and_more():
    """AC-11."""
    assert len({text for text in HIDDEN_WAYS_IN if text.strip()}) >= 80


@pytest.mark.parametrize("field", ENDPOINTS)
def test_no_bad_address_of_a_connection_is_saved(alice, world, canary, field):
    """AC-11, EG-08: 422, the error at the field, and nobody was called."""
    stored = world.connection()
    for address in bad_addresses(canary.port):
        for url, version in (("/connections/new", "0"), (f"/connections/{stored.id}", "1")):
            reply = alice.post_form(url, connection_form(**{field: address, "version": version}))
            assert reply.status_code == 422, (url, address, reply.status_code)
            assert error_at(reply.text, f"connection-{field}"), (url, address)
    assert len(world.all(Connection)) == 1
    assert getattr(world.reread(stored), field) == getattr(stored, field)
    assert canary.connections == 0


def test_no_bad_address_of_a_card_is_saved(alice, world, canary):
    """AC-11, EG-08."""
    stored = world.card()
    form = {**FORM, "authorization": "none"}
    for address in bad_addresses(canary.port):
        for url, version in (("/cards/new", "0"), (f"/cards/{stored.id}", "1")):
            reply = alice.post_form(url, {**form, "hook_url": address, "version": version})
            assert (reply.status_code, error_at(reply.text, "hook_url")) == (422, True), (url, address)
    assert len(world.all(Card)) == 1
    assert world.reread(stored).hook_url == stored.hook_url
    assert canary.connections == 0


@pytest.mark.parametrize("issuer", ISSUERS)
def test_an_issuer_that_is_no_address_is_refused_at_its_field(alice, world, issuer):
    """AC-11: it is compared and never called, so only its form matters."""
    reply = alice.post_form("/connections/new", connection_form(issuer=issuer))
    assert (reply.status_code, error_at(reply.text, "connection-issuer")) == (422, True)
    assert world.all(Connection) == []


# Flows that do not exist: AC-13


@pytest.mark.parametrize("grant", ["password", "implicit", "token", "urn:ietf:params:oauth:grant-type:device_code", ""])
def test_no_other_grant_can_be_chosen(alice, world, grant):
    """AC-13."""
    for url, form in (("/connections/new", connection_form(grant_type=grant)), ("/cards/new", FORM)):
        reply = alice.post_form(url, {**form, "connection-grant_type": grant})
        assert reply.status_code == 422, url
        assert error_at(reply.text, "connection-grant_type"), url
    assert world.all(Connection) == world.all(Card) == []


def test_a_stored_connection_cannot_be_given_another_grant(alice, world):
    """AC-13."""
    stored = world.connection()
    form = connection_form(grant_type="password", version="1")
    assert alice.post_form(f"/connections/{stored.id}", form).status_code == 422
    assert world.reread(stored).grant_type is GrantType.AUTHORIZATION_CODE


# Headers that are not an admin's to set: EG-07

REFUSED = (
    "Host Authorization Content-Length Transfer-Encoding Connection Keep-Alive TE Trailer Upgrade Expect Via Forwarded "
    "Proxy-Authorization Proxy-Connection Proxy-Anything Cookie X-Forwarded-For Metadata-Flavor Metadata "
    "X-aws-ec2-metadata-token"
).split()


def test_there_are_twenty_headers_to_refuse():
    """EG-07."""
    assert len(set(REFUSED)) == 20


@pytest.mark.parametrize("name", REFUSED)
def test_a_header_that_is_not_the_admins_to_set_is_refused_at_its_field(alice, world, name):
    """EG-07."""
    for written in (name, name.lower(), name.upper()):
        row = {"headers-0-name": written, "headers-0-value": "x"}
        reply = alice.post_form("/cards/new", {**FORM, "authorization": "none", **row})
        assert (reply.status_code, error_at(reply.text, "headers-0-name")) == (422, True), written
    assert world.all(Card) == world.all(CardHeader) == []


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", "a\x1bb", "a\u2028b"])
@pytest.mark.parametrize("name", ["X-Shop", "X-Api-Key"])
def test_a_header_value_of_several_lines_is_refused_at_its_field(alice, world, name, value):
    """EG-07: an ordinary one and a secret one."""
    row = {"headers-0-name": name, "headers-0-value": value}
    reply = alice.post_form("/cards/new", {**FORM, "authorization": "none", **row})
    assert (reply.status_code, error_at(reply.text, "headers-0-value")) == (422, True)
    assert world.all(Card) == []

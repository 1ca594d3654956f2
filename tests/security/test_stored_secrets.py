"""Secrets in the database: in no form to be read, bound to their rows, and sent only where they were given for.

SS-01, SS-08, EG-04, AC-10, AC-11.
"""

import gzip

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from models import (
    AuditEntry,
    CardAuthorization,
    CardHeader,
    CardPreview,
    ClientSecret,
    Connection,
    ConnectionState,
    Record,
    Token,
    Trigger,
)
from oauth.vocabulary import GrantType, OAuthFailure
from services.calling import preview
from services.calling.call_failures import Problem
from services.engine import introspection, tokens
from tests.blueprints.test_cards import FORM
from tests.outbound.conftest import RawServer, answer
from tests.security.test_canaries import forms
from tests.support import flow

ENDPOINTS = ("token_endpoint", "revocation_endpoint", "introspection_endpoint")
"""Where a secret is sent."""

PLANTED = {
    "client secret": "canary-client-secret-51c7",
    "access token": "canary-access-token-9be2",
    "refresh token": "canary-refresh-token-d40a",
    "secret header": "canary-header-value-77f1",
    "authorization header": "Bearer canary-authorization-3a6c",
    "rendered card": "canary-rendered-card-e815",
}


@pytest.fixture
def alice(app, world):
    return world.client(world.alice)


def change(world, row, **columns):
    """Edit a row by hand."""
    with world.resources.database.session(writing=True) as session:
        kept = session.get_one(type(row), row.id)
        for name, value in columns.items():
            setattr(kept, name, value)
        session.add(kept)
        session.commit()


def dump(resources):
    """Every value of every column, as text or bytes."""
    found = {}
    with resources.database.session() as session:
        for table in Record.metadata.sorted_tables:
            for number, row in enumerate(session.execute(text(f"SELECT * FROM {table.name}"))):
                for name, value in row._mapping.items():
                    raw = bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
                    found[f"{table.name}.{name} #{number}"] = raw
    return found


def opened(raw):
    """A value as it stands, and unpacked where it is a gzip member."""
    return [raw, gzip.decompress(raw)] if raw[:2] == b"\x1f\x8b" else [raw]


def hits(planted, values):
    return [
        f"{name} in {place}"
        for place, raw in values.items()
        for content in opened(raw)
        for name, secret in planted.items()
        for form in (*forms(secret), gzip.compress(secret.encode(), mtime=0)[10:-8])
        if form in content
    ]


def fill(world, resources):
    """One of each kind of secret."""
    connection = world.connection(secret=PLANTED["client secret"])
    world.authorize(connection, access_token=PLANTED["access token"], refresh_token=PLANTED["refresh token"])
    card = world.card(connection=connection, headers={"X-Api-Key": PLANTED["secret header"]})
    other = world.card(authorization=CardAuthorization.HEADER)
    frame = CardPreview(workspace_id=world.acme.id, card_id=card.id, user_id=world.alice.id)
    keyring = resources.database.keyring
    frame.seal("html", SecretStr(PLANTED["rendered card"]), keyring)
    world._add(frame)
    with resources.database.session(writing=True) as session:
        stored = session.get_one(type(other), other.id)
        stored.seal("authorization_header", SecretStr(PLANTED["authorization header"]), keyring)
        session.add(stored)
        session.commit()


def test_no_secret_can_be_read_in_a_dump_of_the_database(world, resources):
    """SS-01: as it is, in hex, in base64 at each offset, as part of an address, packed."""
    fill(world, resources)
    values = dump(resources)
    assert hits(PLANTED, values) == []
    assert sum(place.split(" ")[0].endswith("_sealed") for place in values) >= len(PLANTED)


def test_a_secret_in_a_dump_would_be_found(world, resources):
    """So that the test above is known to be able to fail."""
    fill(world, resources)
    world.card(title=PLANTED["access token"].encode().hex())
    world.card(title="x" + PLANTED["refresh token"])
    found = hits(PLANTED, dump(resources))
    assert sorted(line.split(" in ")[0] for line in found) == ["access token", "refresh token"]


@pytest.mark.parametrize(("model", "column"), [(Token, "refresh_token_sealed"), (ClientSecret, "value_sealed")])
def test_swapped_secrets_stop_both_connections_and_nothing_is_sent(world, resources, provider, model, column):
    """SS-01: of two workspaces, and of two rows of one."""
    mine, ours, theirs = world.connection(), world.connection(), world.connection(workspace=world.globex)
    for connection in (mine, ours, theirs):
        world.consent(connection)
    rows = {connection.id: world.all(model, connection_id=connection.id)[0] for connection in (mine, ours, theirs)}
    sealed = [getattr(rows[connection.id], column) for connection in (mine, ours, theirs)]
    for connection, value in zip((mine, ours, theirs), (sealed[1], sealed[2], sealed[0]), strict=True):
        change(world, rows[connection.id], **{column: value})
    world.make_due(mine, ours, theirs)
    tokens.drain(resources, 1.0)
    assert provider.hits() == 0
    for connection in (mine, ours, theirs):
        assert world.reread(connection).state is ConnectionState.MISCONFIGURED
        alerts = world.all(AuditEntry, action="connection.state_changed", subject_id=connection.id)
        assert [entry.detail["to"] for entry in alerts][-1] == "Misconfigured"
        with pytest.raises(OAuthFailure, match="altered"):
            tokens.refresh(resources, connection.id, Trigger.MANUAL)
    assert provider.hits() == 0


def test_swapped_access_tokens_reach_no_api(world, resources, stub, stub_address):
    """SS-01."""
    first, second = (world.connection(api_hosts=[stub_address]) for _ in range(2))
    for connection in (first, second):
        world.authorize(connection)
    one, other = world.token(first), world.token(second)
    change(world, one, access_token_sealed=other.access_token_sealed)
    change(world, other, access_token_sealed=one.access_token_sealed)
    for connection in (first, second):
        card = world.card(connection=connection, hook_url=f"http://{stub_address}/data")
        assert preview.run(resources, card.id, world.alice, {}).failure is not None
    assert stub.log == []


def test_swapped_header_secrets_reach_no_api(world, resources, stub, stub_address):
    """SS-01."""
    cards = [world.card(hook_url=f"http://{stub_address}/data", headers={"X-Api-Key": key}) for key in ("one", "two")]
    rows = [world.all(CardHeader, card_id=card.id)[0] for card in cards]
    for row, other in (rows, reversed(rows)):
        change(world, row, value_sealed=other.value_sealed)
    for card in cards:
        failure = preview.run(resources, card.id, world.alice, {}).failure
        assert failure.failure_class is Problem.SECRET_UNREADABLE
    assert stub.log == []


# Where a secret may go, by way of the pages: SS-08


def saved_as(connection, **changes):
    """A connection's form as it stands, with some fields changed; the secret is not typed again."""
    fields = {name.removeprefix("connection-"): value for name, value in FORM.items() if name.startswith("connection-")}
    kept = {name: str(getattr(connection, name)) for name in fields if hasattr(connection, name) and name != "pkce"}
    kept["grant_type"] = connection.grant_type.value
    kept["token_endpoint_auth_method"] = connection.token_endpoint_auth_method.value
    kept["revocation_endpoint"], kept["issuer"] = connection.revocation_endpoint, connection.issuer
    typed = {**fields, **kept, "client_secret": "", "version": str(connection.version), **changes}
    return {f"connection-{name}": value for name, value in typed.items()}


@pytest.mark.parametrize("field", ENDPOINTS)
def test_a_page_moves_no_stored_secret_to_another_host(world, alice, resources, provider, stub, field):
    """SS-08: refused without the secret; with it the grant is gone, and the other host is sent nothing of the old."""
    connection = world.connection()
    world.consent(connection)
    address = f"/connections/{connection.id}"
    evil = {field: stub.url_for("/evil")}
    reply = alice.post_form(address, saved_as(connection, **evil))
    assert reply.status_code == 422
    assert "another host" in reply.text
    assert world.access_token(connection)
    reply = alice.post_form(address, saved_as(connection, **evil, client_secret="the attacker's own"))
    assert reply.status_code == 303
    assert world.access_token(connection) is world.refresh_token(connection) is None
    card = world.card(connection=connection)
    alice.post_form(f"/cards/{card.id}/preview", {"customer_email": "ada@example.com"})
    alice.post_form(f"{address}/refresh")
    tokens.drain(resources, 0.2)
    introspection.run(resources, 0.2)
    alice.post_form(f"{address}/disconnect")
    assert [request for request, _reply in stub.log if "Authorization" in request.headers] == []
    assert stub.log == []


@pytest.mark.parametrize("grant_type", list(GrantType))
def test_a_page_moves_no_token_to_another_api(world, alice, provider, stub, stub_address, grant_type):
    """SS-08."""
    connection = world.connection(grant_type=grant_type)
    world.authorize(connection, refresh_token=None)
    card = world.card(connection=connection)
    form = {
        **FORM,
        **saved_as(connection),
        "connection_id": str(connection.id),
        "shown_connection": str(connection.id),
        "hook_url": f"http://{stub_address}/evil",
        "version": "1",
    }
    reply = alice.post_form(f"/cards/{card.id}", form)
    assert (reply.status_code, "new host" in reply.text) == (422, True)
    change(world, card, hook_url=f"http://{stub_address}/evil")
    assert "Preview" in alice.post_form(f"/cards/{card.id}/preview").text
    assert stub.log == []


@pytest.mark.parametrize("column", ENDPOINTS)
@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/", "https://127.0.0.1:{port}/", "//127.0.0.1:{port}/"])
def test_a_bad_address_written_into_the_database_by_hand_is_not_called(
    world, alice, resources, provider, column, address
):
    """AC-11, EG-08: not by a refresh, nor by a revocation, nor to ask when a token ends."""
    inside = RawServer(lambda connection, _request: connection.sendall(answer(b"inside")))
    connection = world.connection()
    world.consent(connection)
    change(world, connection, **{column: address.format(port=inside.port)})
    world.make_due(connection)
    tokens.drain(resources, 0.5)
    world.set_token(connection, introspection_due=True)
    introspection.run(resources, 0.5)
    alice.post_form(f"/connections/{connection.id}/disconnect")
    inside.close()
    assert inside.connections == 0
    assert provider.hits() == (0 if column == "token_endpoint" else 1)


def test_a_redirect_of_an_api_takes_no_token_along(world, resources, provider, stub, stub_address):
    """EG-04, SS-08."""
    connection = world.connection(api_hosts=[stub_address])
    world.consent(connection)
    elsewhere = f"http://localhost:{stub.port}/evil"
    stub.expect_request("/data").respond_with_data("", status=302, headers={"Location": elsewhere})
    card = world.card(connection=connection, hook_url=f"http://{stub_address}/data")
    result = preview.run(resources, card.id, world.alice, {})
    assert result.failure.failure_class is Problem.REDIRECT
    assert [request.path for request, _reply in stub.log] == ["/data"]


# Edits between Authorize and the callback, by way of the page: AC-10


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "another client"},
        {"client_secret": "another secret"},
        {"scope": "everything"},
        {"issuer": "https://another.example"},
        {"pkce": ""},
        {"token_endpoint": "the stub's", "client_secret": "typed again"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_edit_on_the_way_stops_the_flow(world, alice, provider, stub, changes):
    """AC-10: what was agreed to is not what would be asked for."""
    provider.control(auto_consent=True)
    connection = world.connection()
    page, callback = flow.answer(alice, connection)
    if "token_endpoint" in changes:
        changes = {**changes, "token_endpoint": stub.url_for("/token")}
    reply = alice.post_form(f"/connections/{connection.id}", saved_as(connection, **changes))
    assert reply.status_code == 303, reply.text
    alice.get(callback)
    assert "settings changed" in alice.get(page).text
    assert provider.counts.get("token_authorization_code", 0) == 0
    assert stub.log == []
    assert world.access_token(connection) is None
    assert isinstance(world.reread(connection), Connection)

"""The whole way through the portal, against authorization servers nobody here wrote: one person, plain HTTP."""

import re
from html import unescape
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from models import ConnectionState, Outcome, Refresh, Trigger
from oauth.vocabulary import FailureClass, GrantType, OAuthFailure
from outbound import Limits
from services.engine import tokens
from tests.real_servers.person import agree, answer_in
from tests.real_servers.servers import CODE_BASIC, CODE_BODY, MACHINE_BASIC, MACHINE_BODY, REDIRECT_URI

LIMITS = Limits(deadline=20, connect=5, max_bytes=256 * 1024)


@pytest.fixture
def settings(settings_for, database_url, server):
    """The portal may call the server, which may take its time on a busy machine."""
    return settings_for(
        outbound_allow=server.address, token_deadline=20.0, connect_deadline=5.0, lease=40.0, caller_wait=30.0
    )


@pytest.fixture
def connect(world, server):
    """A connection of one of the server's clients."""

    def connect(client, **columns):
        flow = GrantType.AUTHORIZATION_CODE if client["person"] else GrantType.CLIENT_CREDENTIALS
        return world.connection(
            secret=client["client_secret"],
            grant_type=flow,
            client_id=client["client_id"],
            scope="read",
            api_hosts=[server.address],
            **{"issuer": server.issuer, **server.endpoints, **columns},
        )

    return connect


@pytest.fixture
def admin(app, world):
    """An admin's browser, in which a page of the portal has been opened."""
    client = world.client(world.alice)
    assert client.get("/connections").status_code == 200
    return client


@pytest.fixture
def authorize(admin):
    """Press Authorize, go to the provider, agree or refuse, come back; returns the page it ends on."""

    def authorize(connection, **kwargs):
        pressed = admin.post_form(f"/connections/{connection.id}/authorize", {})
        assert pressed.status_code == 303
        page = admin.get(pressed.location).get_data(as_text=True)
        onward = re.search(r'href="([^"]+)"[^>]*data-onward', page)
        if onward is None:
            return page
        back = urlsplit(agree(unescape(onward[1]), REDIRECT_URI, **kwargs))
        assert back.path == "/auth/provider/callback"
        called_back = admin.get(f"{back.path}?{back.query}")
        assert called_back.status_code == 303
        assert "code" not in answer_in(called_back.location)
        return admin.get(called_back.location).get_data(as_text=True)

    return authorize


@pytest.fixture
def orders(resources, server):
    """The API's status for a token."""

    def status(token):
        headers = {"Authorization": f"Bearer {token}"}
        return resources.http.send_now("GET", server.api, headers=headers, limits=LIMITS).status

    return status


@pytest.mark.parametrize(
    "client", [CODE_BASIC, CODE_BODY, MACHINE_BASIC, MACHINE_BODY], ids=lambda client: client["client_id"]
)
def test_a_connection_is_authorized_and_stays_fresh(resources, world, connect, authorize, orders, client):
    connection = connect(client)
    assert "is authorized" in authorize(connection)
    seen = set()
    for _ in range(4):
        access = world.access_token(connection)
        assert orders(access) == 200
        assert tokens.access(resources, connection.workspace_id, connection.id).token.get_secret_value() == access
        seen.add((access, world.refresh_token(connection)))
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    assert len(seen) == 4
    assert len({refresh for _, refresh in seen}) == (4 if client["person"] else 1)
    assert world.reread(connection).state is ConnectionState.ACTIVE
    journal = world.all(Refresh, connection_id=connection.id)
    assert {row.outcome for row in journal} == {Outcome.STORED}
    assert world.token(connection).generation == 5


def test_whatever_is_due_is_drained_at_once(resources, world, connect, authorize):
    connections = [connect(CODE_BASIC, name=f"Shop {number}") for number in range(3)]
    for connection in connections:
        authorize(connection)
    world.make_due(*connections)
    assert tokens.drain(resources, seconds=30) == 3
    assert [world.token(connection).generation for connection in connections] == [2, 2, 2]


def test_a_refusal_ends_on_a_page_that_says_so_and_changes_nothing(world, connect, authorize):
    connection = connect(CODE_BASIC)
    page = authorize(connection, refuse=True)
    assert "Access was refused" in page
    assert world.access_token(connection) is None
    assert "is authorized" in authorize(connection)


def test_a_grant_that_was_revoked_needs_authorization_and_gets_it(resources, world, connect, authorize):
    """Somebody else uses the refresh token: the server ends the whole authorization."""
    connection = connect(CODE_BASIC)
    authorize(connection)
    stolen = world.refresh_token(connection)
    tokens.refresh(resources, connection.id, Trigger.MANUAL)
    ours = world.token(connection)
    with resources.database.session(writing=True) as session:
        row = session.get_one(type(ours), ours.id)
        row.seal("refresh_token", SecretStr(stolen), resources.database.keyring)
        session.add(row)
        session.commit()
    with pytest.raises(OAuthFailure) as caught:
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    assert caught.value.failure_class is FailureClass.GRANT_DEAD
    assert world.reread(connection).state is ConnectionState.REAUTH_REQUIRED
    assert "is authorized" in authorize(connection)
    assert world.reread(connection).state is ConnectionState.ACTIVE


def test_another_issuer_or_none_stops_before_the_code_is_sent(server, world, connect, authorize):
    connection = connect(CODE_BASIC, issuer="https://issuer.example")
    words = "another authorization server" if server.issuer else "does not say which authorization server"
    assert words in authorize(connection)
    assert world.access_token(connection) is None


def test_disconnecting_revokes_at_the_server(resources, world, connect, authorize, admin, orders):
    connection = connect(CODE_BASIC)
    authorize(connection)
    access = world.access_token(connection)
    assert orders(access) == 200
    assert admin.post_form(f"/connections/{connection.id}/disconnect", {}).status_code == 303
    assert world.access_token(connection) is None
    assert orders(access) in (401, 403)

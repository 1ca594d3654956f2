"""What the protocol's tests share: a registration, and a client that may call the stub."""

from dataclasses import replace

import pytest
from pydantic import SecretStr

from oauth.session import TokenClient
from oauth.vocabulary import GrantType, Registration
from outbound import Client, Limits, Policy


@pytest.fixture
def http(stub_address):
    """A guarded client that may call the stub and nothing else."""
    client = Client(Policy.parse(stub_address))
    yield client
    client.close()


@pytest.fixture
def limits():
    """Small, and patient enough for a busy machine."""
    return Limits(deadline=10, connect=5, max_bytes=64 * 1024)


@pytest.fixture
def registration(stub):
    """A client with a plain id and secret; tests replace what they are about."""
    return Registration(
        grant_type=GrantType.CLIENT_CREDENTIALS,
        client_id="client",
        client_secret=SecretStr("plain-secret"),
        authorization_endpoint=stub.url_for("/authorize"),
        token_endpoint=stub.url_for("/token"),
        revocation_endpoint=stub.url_for("/revoke"),
    )


@pytest.fixture
def ask(http, limits, registration):
    """Ask the stub for a token; keyword arguments replace parts of the registration."""

    def ask(params=None, *, worked=None, **changes):
        client = TokenClient(http, replace(registration, **changes), limits, step="refresh", worked=worked)
        return http.run(client.obtain(params or {"grant_type": "client_credentials"}))

    return ask

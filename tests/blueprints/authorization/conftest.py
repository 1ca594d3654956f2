"""What the tests of Authorize share: a provider that agrees by itself, over real HTTP."""

import pytest

from models import ConnectionState

CODE = "token_authorization_code"


@pytest.fixture(autouse=True)
def agreeing(provider):
    provider.control(auto_consent=True)


@pytest.fixture
def connection(world):
    return world.connection()


@pytest.fixture
def alice(world, app):
    return world.client(world.alice)


def change(world, row, **columns):
    with world.resources.database.session(writing=True) as session:
        kept = session.get_one(type(row), row.id)
        kept.sqlmodel_update(columns)
        session.add(kept)
        session.commit()


def page_of(browser, address):
    reply = browser.get(address)
    return reply.status_code, reply.get_data(as_text=True)


def untouched(world, connection):
    return world.access_token(connection) is None and world.reread(connection).state is ConnectionState.CONFIGURED

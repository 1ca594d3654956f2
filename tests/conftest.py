"""What every test may ask for: real databases, Valkey, provider and portal, fresh for each test and quick to make."""

import base64
import os
import secrets
import signal

import pytest
import redis as redis_client
from jinja2 import FileSystemBytecodeCache

from config import Settings
from services.resources import Resources
from tests.real_servers.missing import pytest_terminal_summary  # noqa: F401  # names servers that could not be had
from tests.support import provider as rehearsal
from tests.support import valkey
from tests.support.browserless import Client
from tests.support.databases import KINDS, PostgreSQLDatabases, SQLiteDatabases
from tests.support.world import World

MAKERS = {"sqlite": SQLiteDatabases, "postgresql": PostgreSQLDatabases}
QUICK = {
    "tick": 0.05,
    "token_deadline": 5.0,
    "connect_deadline": 2.0,
    "lease": 8.0,
    "caller_wait": 8.0,
    "call_deadline": 4.0,
    "drain_time": 5.0,
    "retry_first": 1.0,
}
"""The ladder of times, shrunk; everything else is as it comes."""


def pytest_configure():
    """A run that is told to end ends like one that is interrupted: what it started is ended too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_generate_tests(metafunc):
    """Run whatever touches the database on both kinds, unless it is marked otherwise."""
    if "database_kind" in metafunc.fixturenames:
        only_sqlite = metafunc.definition.get_closest_marker("sqlite_only")
        kinds = ("sqlite",) if only_sqlite else KINDS
        metafunc.parametrize("database_kind", kinds)


@pytest.fixture(scope="session", autouse=True)
def clean_environment():
    """Nobody's own settings reach a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CARDKEY_")]:
            patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def keys():
    """Keys as an operator would make them."""
    encryption = base64.b64encode(secrets.token_bytes(32)).decode()
    return {"secret_key": secrets.token_urlsafe(48), "encryption_keys": f"k1:{encryption}"}


@pytest.fixture(scope="session")
def databases(tmp_path_factory):
    """Where databases of each kind come from."""
    makers = {kind: maker(tmp_path_factory.mktemp(kind)) for kind, maker in MAKERS.items()}
    yield makers
    for maker in makers.values():
        maker.close()


@pytest.fixture
def database_url(database_kind, databases):
    """A fresh migrated database, dropped afterwards."""
    url = databases[database_kind].create()
    yield url
    databases[database_kind].drop(url)


@pytest.fixture
def empty_database_url(database_kind, databases):
    """A fresh database without a table, dropped afterwards."""
    url = databases[database_kind].create_empty()
    yield url
    databases[database_kind].drop(url)


@pytest.fixture(scope="session")
def redis_url():
    """A real Valkey on a Unix socket."""
    with valkey.serve() as url:
        yield url


@pytest.fixture
def redis(redis_url):
    """A client of the Valkey, which is empty."""
    client = redis_client.Redis.from_url(redis_url)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(scope="session")
def _provider():
    with rehearsal.serve() as provider:
        yield provider


@pytest.fixture
def provider(_provider):
    """The rehearsal provider, as it is at its start; `resources` may call it."""
    rehearsal.reset(_provider)
    return _provider


@pytest.fixture
def stub(httpserver):
    """An HTTP server that answers as the test says; `resources` may call it."""
    return httpserver


@pytest.fixture
def stub_address(stub):
    """`host:port` of the stub."""
    return f"{stub.host}:{stub.port}"


@pytest.fixture
def settings_for(request, tmp_path, keys):
    """A maker of settings: quick times, strong keys, and leave to call the provider and the stub of this test.

    Names are those of `Settings`; what is given replaces the test's own.
    """

    def make(**overrides):
        allowed = []
        if "provider" in request.fixturenames:
            allowed.append(request.getfixturevalue("provider").address)
        if "stub" in request.fixturenames:
            allowed.append(request.getfixturevalue("stub_address"))
        own = {"data_dir": tmp_path, "outbound_allow": ",".join(allowed), **QUICK, **keys}
        if "database_kind" in request.fixturenames:
            own["database_url"] = request.getfixturevalue("database_url")
        if "redis_url" in request.fixturenames:
            own["redis_url"] = request.getfixturevalue("redis_url")
        return Settings(_env_file=None, **{**own, **overrides})

    return make


@pytest.fixture
def settings(request, settings_for, database_url):
    """The settings of `resources`; `@pytest.mark.settings(lease=1.0)` changes some of them for a test or a module."""
    overrides = {}
    for mark in reversed(list(request.node.iter_markers("settings"))):
        overrides |= mark.kwargs
    return settings_for(**overrides)


@pytest.fixture
def resources(settings):
    """What verbs need, on a fresh migrated database; with Redis only if the test asks for it."""
    opened = Resources.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def session(resources):
    """A writing session. On SQLite it holds the write lock from its first statement until it commits."""
    with resources.database.session(writing=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def compiled_templates(tmp_path_factory):
    """Templates as code: each test has a portal of its own, and compiling them anew took half of its time."""
    return FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))


@pytest.fixture
def app(settings, resources, compiled_templates):
    """The portal around `resources`."""
    from app import build

    portal = build(settings, resources)
    portal.jinja_env.bytecode_cache = compiled_templates
    portal.test_client_class = Client
    portal.testing = False  # errors become pages, as people see them
    return portal


@pytest.fixture
def client(app):
    """A browser in which nobody has signed in."""
    return app.test_client()


@pytest.fixture
def world(request, resources):
    """Two workspaces with people; connections and cards are added by the test."""
    provider = request.getfixturevalue("provider") if "provider" in request.fixturenames else None
    made = World(resources, provider)
    if "app" in request.fixturenames:
        made.app = request.getfixturevalue("app")
    return made

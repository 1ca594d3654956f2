"""One server of each kind for the whole run; every test here runs against each."""

import os

import pytest

from tests.real_servers.missing import MARK
from tests.real_servers.servers import SERVERS, NotInstalled


@pytest.fixture(scope="session", params=SERVERS)
def server(request, tmp_path_factory):
    """A running authorization server that nobody here wrote."""
    name = request.param
    running = SERVERS[name](tmp_path_factory.mktemp(name))
    try:
        started = running.__enter__()
    except NotInstalled as problem:
        if os.environ.get("CI"):
            pytest.fail(f"{MARK}{name}: {problem}", pytrace=False)
        pytest.skip(f"{MARK}{name}: {problem}")
    yield started
    running.__exit__(None, None, None)

"""A real browser, a page as the portal makes it, and an attacker who listens."""

import threading
from dataclasses import dataclass, field

import pytest
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from blueprints.guards import CSP
from rendering.frame import FRAME_CSP, document
from tests.support import browser

PARENT = (
    '<!doctype html><title>Portal</title><h1 id="own">Orders</h1>'
    '<iframe {sandbox} title="Card" src="/frame" width="900" height="600"></iframe>'
)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """The Chromium of this machine."""
    return {**browser_type_launch_args, **browser.launch_options()}


@dataclass
class Attacker:
    """A server elsewhere that hears whatever reaches it."""

    url: str = ""
    heard: list[str] = field(default_factory=list)

    def __call__(self, environ, start_response):
        self.heard.append(Request(environ).path)
        return Response("heard", headers={"Access-Control-Allow-Origin": "*"})(environ, start_response)


@dataclass
class Portal:
    """A page with a card's frame, under the portal's own policies or, to see that the tests can fail, under none."""

    url: str = ""
    card: str = ""
    guarded: bool = True

    def __call__(self, environ, start_response):
        framed = Request(environ).path == "/frame"
        body = document(self.card) if framed else PARENT.format(sandbox="sandbox" if self.guarded else "")
        policy = {"Content-Security-Policy": FRAME_CSP if framed else CSP} if self.guarded else {}
        headers = {"X-Content-Type-Options": "nosniff", **policy}
        return Response(body, content_type="text/html; charset=utf-8", headers=headers)(environ, start_response)


def _serve(host, application):
    server = make_server("127.0.0.1", 0, application, threaded=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    application.url = f"http://{host}:{server.server_port}"
    yield application
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def _attacker():
    yield from _serve("localhost", Attacker())


@pytest.fixture(scope="session")
def _portal():
    yield from _serve("127.0.0.1", Portal())


@pytest.fixture
def attacker(_attacker):
    """The attacker, who has heard nothing yet."""
    _attacker.heard.clear()
    return _attacker


@pytest.fixture
def portal(_portal):
    """The portal's page; the test puts a card into it."""
    _portal.card, _portal.guarded = "", True
    return _portal

"""PU-01: the page behind learns within two seconds whatever the pages' opener policies do to the window's opener.

The portal runs in this process, so that each page can be given another policy than its own.
"""

import threading
from contextlib import contextmanager

import pytest
from flask import request
from playwright.sync_api import expect
from werkzeug.serving import make_server

from app import build
from services.resources import Resources
from tests.support.world import World

HEADER = "Cross-Origin-Opener-Policy"
NONE, SAME, POPUPS = "unsafe-none", "same-origin", "same-origin-allow-popups"
MIXES = (
    (NONE, NONE, NONE),
    (POPUPS, NONE, NONE),
    (NONE, SAME, NONE),
    (NONE, NONE, SAME),
    (SAME, NONE, NONE),
    (POPUPS, NONE, POPUPS),
    (POPUPS, SAME, POPUPS),
)
"""Policies of the page with the button, of the provider, and of the page after the callback."""


@contextmanager
def served(app, server):
    server.app = app
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


@pytest.fixture
def portal(request, settings_for, database_url, provider):
    """Address and world of a portal with these policies."""
    main, theirs, after = request.param
    server = make_server("127.0.0.1", 0, lambda *_: [], threaded=True)
    server.daemon_threads = True
    settings = settings_for(public_url=f"http://127.0.0.1:{server.server_port}")
    resources = Resources.open(settings)
    app = build(settings, resources)
    app.after_request(lambda response: with_policy(response, main, after))
    provider.control(behaviours={"coop": theirs})
    with served(app, server):
        yield settings.public_url, World(resources, provider)
    resources.close()


def with_policy(response, main, after):
    """One policy for the window's pages, another for the page with the button."""
    own = request.blueprint == "authorization" and request.method == "GET"
    response.headers[HEADER] = after if own else main
    return response


@pytest.mark.sqlite_only
@pytest.mark.parametrize("portal", MIXES, indirect=True, ids=" / ".join)
def test_the_page_behind_learns_whatever_severs_the_opener(new_context, portal):
    address, world = portal
    connection = world.connection()
    page = new_context().new_page()
    page.goto(f"{address}/login")
    page.get_by_label("Email").fill(world.alice.email)
    page.get_by_label("Password").fill(world.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/cards")
    page.goto(f"{address}/connections/{connection.id}")
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Authorize", exact=True).click()
    window = opened.value
    window.get_by_role("button", name="Sign in").click()
    allow = window.get_by_role("button", name="Allow")
    expect(page.get_by_text("Waiting for localhost")).to_be_visible()
    allow.click()
    window.wait_for_url("**/authorization/*")
    expect(page.locator("#status").get_by_text("Connected")).to_be_visible(timeout=2_000)

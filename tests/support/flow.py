"""The authorization code flow as a browser without a screen walks it: press, agree at the provider, come back."""

import re
import urllib.error
import urllib.request
import uuid
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

from models import AuthorizationAttempt
from tests.support.browserless import path_of

CALLBACK = "/auth/provider/callback"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args):
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def press(browser, connection, **form) -> str:
    """Press Authorize; returns the path of the attempt's page."""
    reply = browser.post_form(f"/connections/{connection.id}/authorize", form)
    assert reply.status_code == 303, reply.get_data(as_text=True)
    return path_of(reply.location)


def onward(browser, page: str) -> str:
    """The link to the provider on the attempt's page."""
    body = browser.get(page).get_data(as_text=True)
    found = re.search(r'<a [^>]*href="([^"]+)"[^>]*data-onward', body)
    assert found, body
    return unescape(found[1])


def agree(address: str) -> str:
    """Go there, with the provider agreeing at once; returns path and query of the callback."""
    try:
        reply = _opener.open(address, timeout=10)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        body = reply.read().decode()
    assert reply.status == 303, body
    return path_of(reply.headers["Location"])


def query(address: str) -> dict[str, str]:
    """The parameters of an address, each once."""
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query, keep_blank_values=True).items()}


def callback(**params) -> str:
    """A callback with these parameters."""
    return f"{CALLBACK}?{urlencode(params)}"


def start(browser, connection, **form) -> tuple[str, str]:
    """Press Authorize; returns the attempt's page and the address at the provider."""
    page = press(browser, connection, **form)
    return page, onward(browser, page)


def answer(browser, connection, **form) -> tuple[str, str]:
    """Press and agree; returns the attempt's page and the callback, which has not been visited yet."""
    page, address = start(browser, connection, **form)
    return page, agree(address)


def walk(world, browser, connection, **form) -> AuthorizationAttempt:
    """The whole way; returns the attempt as it is stored afterwards."""
    page, back = answer(browser, connection, **form)
    browser.get(back)
    return attempt_of(world, page)


def attempt_of(world, page: str) -> AuthorizationAttempt:
    """The stored attempt of a page."""
    return world.all(AuthorizationAttempt, id=uuid.UUID(page.rpartition("/")[2]))[0]


def same_browser(browser):
    """Another client with the same cookies."""
    twin = browser.application.test_client()
    twin._cookies = dict(browser._cookies)
    return twin

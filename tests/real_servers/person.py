"""Somebody who signs in and agrees at an authorization server, by plain HTTP."""

from html.parser import HTMLParser
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests

MOST_STEPS = 12
ANSWERS = {"username": "sam", "password": "sam", "login": "sam"}


class Form(HTMLParser):
    """The first form of a page: where it goes, what it holds."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields, self._inside, self._done = "", {}, False, False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "form" and not self._done:
            self._inside, self.action = True, given.get("action") or ""
        if self._inside and tag in ("input", "button") and given.get("name"):
            self.fields[given["name"]] = given.get("value") or ""

    def handle_endtag(self, tag):
        if tag == "form" and self._inside:
            self._inside, self._done = False, True


def agree(url, redirect_uri, *, refuse=False):
    """Walk from an authorization request to the redirect back; returns that address, which is not called."""
    browser = requests.Session()
    browser.trust_env = False
    reply = browser.get(url, allow_redirects=False, timeout=20)
    for _ in range(MOST_STEPS):
        here = reply.url
        if reply.is_redirect:
            target = urljoin(here, reply.headers["Location"])
            if target.startswith(redirect_uri):
                return target
            reply = browser.get(target, allow_redirects=False, timeout=20)
            continue
        assert reply.status_code == 200, f"{reply.status_code}: {reply.text[:500]}"
        reply = _submit(browser, here, reply.text, refuse)
    raise AssertionError(f"no end after {MOST_STEPS} steps, at {reply.url}")


def _submit(browser, here, page, refuse):
    form = Form(page)
    fields = {name: ANSWERS.get(name, value) for name, value in form.fields.items()}
    asked_to_agree = "allow" in fields or fields.get("prompt") == "consent"
    if asked_to_agree and refuse:
        fields.pop("allow", None)
        if fields.get("prompt") == "consent":
            return browser.get(f"{here.rstrip('/')}/abort", allow_redirects=False, timeout=20)
    return browser.post(
        urljoin(here, form.action), fields, headers={"Referer": here}, allow_redirects=False, timeout=20
    )


def answer_in(address):
    """The parameters of the redirect back."""
    pairs = parse_qsl(urlsplit(address).query)
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)

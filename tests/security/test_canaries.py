"""Planted secrets turn up in no log, page, job, Redis or database (LG-01, QW-02, SS-01, SS-03, SS-06).

A whole installation at DEBUG, walked by a browser; then everything it said, sent and kept is searched.
"""

import base64
import gzip
import json
import re
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest
import redis as redis_client
from playwright.sync_api import expect
from sqlmodel import select

from embedded import additions
from models import AuthorizationAttempt, Token
from services.authorizing import attempts
from tests.support import browser as chromium
from tests.support import stack as installation
from tests.support.admin import CODE, Admin

SHORTEST = 12
PLANTED = {
    "password": "a lamp of walnut wood",
    "header value": "canary-header-2f7c1d5e9a",
    "authorization header": "Bearer canary-authorization-8b1f4e",
    "client secret": "practice-secret-code",
    "typed secret": "canary-typed-6e0a99c1d2",
}


def forms(value: str) -> set[bytes]:
    """A secret in every form in which it may turn up."""
    raw = value.encode()
    found = {raw, quote(value, safe="").encode(), quote_plus(value).encode(), json.dumps(value)[1:-1].encode()}
    found |= {raw.hex().encode(), base64.b16encode(raw)}
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + raw)
        found.add(encoded[4 * bool(before) : len(encoded) - 4])
    return {form for form in found if len(form) >= SHORTEST}


def hits(secrets: dict[str, str], places: dict[str, bytes]) -> list[str]:
    """Which secret stands where; gzip members are opened."""
    found = []
    for place, content in places.items():
        opened = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
        for name, value in secrets.items():
            found += [f"{name} in {place}" for form in forms(value) if form in opened]
    return sorted(set(found))


class Monitor(threading.Thread):
    """Everything Redis is told, as it is told."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.heard: list[str] = []
        self._client = redis_client.Redis.from_url(url)

    def run(self) -> None:
        with suppress(redis_client.ConnectionError), self._client.monitor() as monitor:  # until Redis ends
            for command in monitor.listen():
                self.heard.append(command["command"])


class Pages:
    """What the portal showed, each time somebody looked, and what the provider answered to it."""

    def __init__(self, page, base: str) -> None:
        self.bodies: dict[str, bytes] = {}
        self.callback: dict[str, list[str]] = {}
        self._page, self._callback_url = page, f"{base}/auth/provider/callback"
        page.context.on("request", self._note)

    def look(self) -> None:
        """Keep the page as it is now, its attributes included."""
        place = f"page {urlsplit(self._page.url).path} #{len(self.bodies)}"
        self.bodies[place] = self._page.content().encode()

    def _note(self, request) -> None:
        if request.url.startswith(self._callback_url):
            self.callback = parse_qs(urlsplit(request.url).query)


@pytest.fixture
def fresh(tmp_path):
    with installation.serve(tmp_path, log_level="DEBUG") as running:
        yield running


def state_data_of(fresh) -> str:
    """What the attempt that waits keeps for its callback, as JSON."""
    resources = fresh.resources
    with resources.database.session() as session:
        attempt = session.exec(select(AuthorizationAttempt)).one()
    return json.dumps(attempts.read_state(attempt, resources.database.keyring))


def tokens_of(fresh) -> dict[str, str]:
    """What is stored as tokens right now, in plain."""
    keyring = fresh.resources.database.keyring
    with fresh.resources.database.session() as session:
        token = session.exec(select(Token)).one()
    return {
        f"{name} #{token.generation}": token.unseal(name, keyring).get_secret_value()
        for name in ("access_token", "refresh_token")
    }


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything kept on disk but the keys."""
    kept = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "keys"]
    return {f"file {path.relative_to(folder)}": path.read_bytes() for path in kept}


def processes_of(fresh) -> dict[str, bytes]:
    """Command lines of what runs."""
    return {f"command line of {name}": Path(f"/proc/{pid}/cmdline").read_bytes() for name, pid in fresh.pids().items()}


def redis_of(url: str) -> dict[str, bytes]:
    client = redis_client.Redis.from_url(url)
    return {f"Redis key {key!r}": client.dump(key) or b"" for key in client.scan_iter()}


def make_and_authorize(fresh, admin: Admin, pages: Pages) -> dict[str, str]:
    """A card with a secret header, first refused, then saved and authorized; returns the flow's own secrets."""
    page = admin.page
    admin.fill_in_example(CODE)
    page.get_by_role("button", name="Add header").click()
    page.get_by_label("Name", exact=True).fill("X-Api-Key")
    page.get_by_label("Value", exact=True).fill(PLANTED["header value"])
    page.get_by_label("Title").fill("")
    page.get_by_role("button", name="Save configuration").last.click()
    expect(page.get_by_text("Give the card a title").first).to_be_visible()
    pages.look()
    page.get_by_label("Title").fill("Orders")
    admin.save()
    with page.expect_popup() as opened:
        page.get_by_role("button", name="Authorize", exact=True).click()
    opened.value.get_by_role("button", name="Sign in").wait_for()
    verifier = re.search(r'"code_verifier": "([^"]+)"', state_data_of(fresh))[1]
    admin.agree(opened.value)
    admin.see_state("Connected")
    return {"verifier": verifier, "code": pages.callback["code"][0], "state": pages.callback["state"][0]}


def fail_and_look_around(fresh, admin: Admin, pages: Pages) -> None:
    """A refresh whose refusal repeats what was sent, a refused secret, and every page."""
    page = admin.page
    fresh.provider.control(behaviours={"token": "echo"})
    admin.open_connection()
    expect(page.locator("#status")).to_contain_text("You sent", timeout=installation.LIFETIME * 2000)
    pages.look()
    fresh.provider.control(behaviours={})
    page.get_by_label("Client secret").fill(PLANTED["typed secret"])
    page.get_by_label("Client ID").fill("")
    page.get_by_role("button", name="Save configuration").click()
    expect(page.get_by_text("Enter the Client ID").first).to_be_visible()
    pages.look()
    for address in ("/cards", "/connections", "/operations", "/audit", "/members", "/settings", "/metrics", "/readyz"):
        page.goto(address)
        pages.look()


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads command lines from /proc")
def test_planted_secrets_turn_up_nowhere(fresh, tmp_path, playwright):
    url = additions({"CARDKEY_DATA_DIR": str(tmp_path)})["CARDKEY_REDIS_URL"]
    monitor = Monitor(url)
    monitor.start()
    engine = playwright.chromium.launch(**chromium.launch_options())
    page = engine.new_context(base_url=fresh.url).new_page()
    pages, admin = Pages(page, fresh.url), Admin(page)
    admin.set_up(fresh.setup_link)
    secrets = {**PLANTED, **make_and_authorize(fresh, admin, pages), **tokens_of(fresh)}
    admin.preview()
    pages.look()
    pages.bodies["the card's frame"] = page.frames[-1].content().encode()
    fail_and_look_around(fresh, admin, pages)
    secrets |= tokens_of(fresh)
    assert hits({name: value for name, value in secrets.items() if name != "state"}, pages.bodies) == []

    secrets |= {f"cookie {cookie['name']}": cookie["value"] for cookie in page.context.cookies()}
    secrets["set-up link"] = fresh.setup_link.partition("token=")[2]
    engine.close()
    said = fresh.log.replace(fresh.setup_link, "")
    everywhere = {
        "what the processes said": said.encode(),
        **files_of(tmp_path),
        **redis_of(url),
        **processes_of(fresh),
    }
    everywhere["what Redis was told"] = "\n".join(monitor.heard).encode()
    assert hits(secrets, everywhere) == []
    assert monitor.heard, "the monitor heard nothing, so it proves nothing"
    assert any("cardkey.sqlite3" in place for place in everywhere)
    assert "GET /auth/provider/callback" in said, "the callback was logged, and without its query"


def test_the_search_finds_what_is_planted():
    places = {"gzip": gzip.compress(b"x" + base64.b64encode(b"ab" + b"canary-header-2f7c1d5e9a" + b"z"))}
    assert hits({"it": "canary-header-2f7c1d5e9a"}, places) == ["it in gzip"]
    assert hits({"it": "a+b/c=d&canary"}, {"url": b"?x=a%2Bb%2Fc%3Dd%26canary"}) == ["it in url"]

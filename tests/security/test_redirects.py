"""AC-12: no redirect ever leaves the site."""

import html
import re
from urllib.parse import urljoin, urlsplit

import pytest

from blueprints import web
from models import Membership, Role

pytestmark = pytest.mark.sqlite_only

CORPUS = [
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "\x00//evil.example",
    "/\x0b/evil.example",
    "/%09/evil.example",
    "/%2f%2fevil.example",
    "/%5cevil.example",
    "http:evil.example",
    "https:/evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,x",
    "//evil.example@127.0.0.1:8000",
    "http://127.0.0.1:8000@evil.example",
    "/.//evil.example",
    "/..//evil.example",
    "/./\\evil.example",
    "//evil.example/%2e%2e",
    "／／evil.example",
    "/／evil.example",
    "。evil.example",
    "/。/evil.example",
    "//[::ffff:1.2.3.4]",
    "//0x7f000001",
    "?next=//evil.example",
    "#//evil.example",
    "evil.example",
    "",
    "/cards\r\nSet-Cookie: a=b",
    "/cards\r\nLocation: https://evil.example",
    "mailto:a@evil.example",
    "/" + "a" * 5000,
]


def lands_on_our_host(location, base):
    """Where a browser would go: backslashes count as slashes, tabs and line ends as nothing."""
    cleaned = location.translate({ord(char): None for char in "\t\r\n"}).strip().replace("\\", "/")
    return urlsplit(urljoin(base, cleaned)).netloc == urlsplit(base).netloc


def test_only_paths_of_ours_are_kept(settings):
    base = f"{settings.public_url}/login"
    kept = [target for target in CORPUS if web.safe_next(target) is not None]
    assert all(lands_on_our_host(target, base) for target in kept)
    assert web.safe_next("/cards?page=2") == "/cards?page=2"


def test_the_sign_in_page_carries_no_foreign_address(app, world, settings):
    client, signed_in = app.test_client(), world.client(world.alice)
    for target in CORPUS:
        page = client.get("/login", query_string={"next": target})
        assert page.status_code == 200, target
        kept = re.search(r'name="next" value="([^"]*)"', page.text)
        assert kept is None or lands_on_our_host(html.unescape(kept[1]), f"{settings.public_url}/login"), target
        again = signed_in.get("/login", query_string={"next": target})
        assert again.status_code == 303, target
        assert lands_on_our_host(again.headers["Location"], f"{settings.public_url}/login"), target


@pytest.mark.parametrize("target", CORPUS[:12])
def test_sign_in_leads_nowhere_else(app, world, settings, target):
    form = {"email": "alice@acme.example", "password": world.password, "next": target}
    answer = app.test_client().post_form("/login", form)
    assert answer.status_code == 303
    assert lands_on_our_host(answer.headers["Location"], f"{settings.public_url}/login")
    assert "Set-Cookie: a=b" not in str(answer.headers)


def test_no_other_parameter_leads_anywhere_else(app, world, settings):
    world._add(Membership(workspace_id=world.globex.id, user_id=world.alice.id, role=Role.ADMIN))
    names = ("next", "return_to", "url", "redirect", "redirect_uri", "target", "to", "continue")
    for target in CORPUS:
        client, values = world.client(world.alice), dict.fromkeys(names, target)
        for answer in (
            client.post_form("/workspace", {"workspace_id": str(world.globex.id), **values}),
            client.post_form("/settings", {"time_zone": "", **values}),
            client.get("/", query_string=values),
            client.post_form("/logout", values),
            client.get("/settings", query_string=values),
        ):
            assert answer.status_code == 303, (answer.request.path, target)
            assert lands_on_our_host(answer.headers["Location"], settings.public_url + "/"), target


def test_one_comes_back_to_where_one_was_asked_to_sign_in(app, world):
    client = app.test_client()
    asked = client.get("/settings/workspace?a=b")
    assert asked.headers["Location"] == "/login?next=/settings/workspace?a%3Db"
    form = {"email": "alice@acme.example", "password": world.password, "next": "/settings/workspace?a=b"}
    assert client.post_form("/login", form).headers["Location"] == "/settings/workspace?a=b"

"""WB-05: whatever is sent, the answer is a clear refusal or a page, never a failure of ours, and nothing half done."""

import io

import pytest
from gunicorn.http.errors import InvalidChunkSize

from models import Role, SingleUseLink, User, UserSession
from services.people import links
from services.people.links import LinkPurpose
from tests.security.test_races import CONNECTION

LONG = "x" * 200_000
VALUES = [
    "",
    " ",
    "\x00",
    "a\x00b@example.com",
    "\ud800",
    "\udfff tail",
    "\ufffe\uffff",
    "\u202egnirts",
    "\r\nSet-Cookie: a=b",
    "🦊" * 300,
    "İıſẞ",
    "' OR 1=1 --",
    '"><script>alert(1)</script>',
    "{{ 7 * 7 }}{% raw %}",
    "../../etc/passwd",
    "-1",
    "1e999",
    "NaN",
    "9" * 5000,
    "%00%ff",
    LONG,
]
FORMS = {
    "/login": ("email", "password", "next"),
    "/setup": ("token", "workspace_name", "email", "password", "time_zone"),
    "/join/{join}": ("password", "time_zone"),
    "/password/{password}": ("password",),
    "/workspace": ("workspace_id",),
    "/settings": ("time_zone",),
    "/settings/password": ("present", "password"),
    "/settings/workspace": ("name", "time_zone"),
    "/settings/workspaces": ("workspace_name",),
    "/members/invite": ("email", "role"),
    "/members/{ann}": ("role",),
}


def encoded(value):
    """As a browser, or somebody with worse in mind, would put it on the wire."""
    return value.encode("utf-8", "surrogatepass")


@pytest.fixture
def addresses(world, resources, settings):
    with resources.database.session(writing=True) as session:
        join = links.make(
            session,
            settings,
            LinkPurpose.INVITATION,
            workspace_id=world.acme.id,
            email="new@acme.example",
            role=Role.AGENT,
        )
        password = links.make(session, settings, LinkPurpose.PASSWORD, user_id=world.ann.id)
        session.commit()
    return {"join": join, "password": password, "ann": world.ann.id}


def send(client, address, fields):
    from urllib.parse import quote_from_bytes

    pairs = [("csrf_token", client.csrf()), *fields.items()]
    body = "&".join(f"{name}={quote_from_bytes(encoded(value))}" for name, value in pairs)
    return client.post(address, data=body, content_type="application/x-www-form-urlencoded")


@pytest.mark.parametrize("form", FORMS)
def test_no_value_in_any_field_breaks_a_form(app, world, addresses, form):
    signed_out = form in ("/login", "/setup", "/join/{join}", "/password/{password}")
    address = form.format(**addresses)
    app.config["RATELIMIT_ENABLED"] = False
    for field in FORMS[form]:
        for value in VALUES:
            client = app.test_client() if signed_out else world.client(world.alice)
            answer = send(client, address, {field: value})
            assert answer.status_code < 500, (field, value[:40], answer.status_code)
            assert "Set-Cookie: a=b" not in str(answer.headers)
            assert "<script>alert(1)" not in answer.text


def test_no_value_in_an_address_breaks_a_page(app, world):
    alice = world.client(world.alice)
    for value in VALUES:
        text = value[:3000].encode("utf-8", "surrogatepass")
        for path in ("/audit", "/setup", "/login", "/settings", "/members"):
            answer = alice.get(path, query_string={b"page": text, b"token": text, b"next": text})
            assert answer.status_code < 500, (path, value[:40])


@pytest.mark.parametrize("path", ["/join/%00", "/join/%ED%A0%80", "/password/%F0%9F%A6%8A", "/members/%00", "/%00"])
def test_odd_addresses_are_not_found_or_refused(app, world, path):
    assert 400 <= world.client(world.alice).get(path).status_code < 500


@pytest.mark.sqlite_only
def test_a_form_larger_than_256_kb_is_refused(client):
    answer = client.post_form("/login", {"email": "a@b.example", "password": "x" * 300_000})
    assert answer.status_code == 413
    assert "256 KB" in answer.text


@pytest.mark.sqlite_only
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_more_than_two_hundred_fields_are_refused(client, content_type):
    fields = {f"field{number}": "" for number in range(250)}
    assert client.post_form("/login", fields, content_type=content_type).status_code == 413


@pytest.mark.sqlite_only
def test_one_name_two_hundred_times_is_as_many_fields(client):
    assert client.post_form("/login", {"email": [""] * 250}).status_code == 413


@pytest.mark.sqlite_only
def test_a_hundred_thousand_names_are_refused_at_once(client):
    body = "&".join(f"{number:x}=" for number in range(100_000))[:255_000]
    answer = client.post("/login", data=body, content_type="application/x-www-form-urlencoded")
    assert answer.status_code in (400, 413)


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "multipart/form-data; boundary=", "x/y;;;="]
)
def test_other_kinds_of_body_are_refused(client, content_type):
    assert 400 <= client.post("/login", data=b"\xff\x00{", content_type=content_type).status_code < 500


class BrokenChunks(io.RawIOBase):
    """A body as gunicorn reads it whose second chunk says no size."""

    def readable(self):
        return True

    def readinto(self, _buffer):
        raise InvalidChunkSize(b"zz")


@pytest.mark.sqlite_only
@pytest.mark.parametrize("address", ["/login", "/auth/provider/callback"])
def test_a_body_in_broken_chunks_is_refused(client, address):
    answer = client.post(
        address,
        content_type="application/x-www-form-urlencoded",
        environ_overrides={"wsgi.input": BrokenChunks(), "wsgi.input_terminated": True},
    )
    assert answer.status_code == 400


@pytest.mark.sqlite_only
@pytest.mark.parametrize("place", ["/login password", "/login email", "/members/invite email"])
def test_a_file_is_no_text(app, world, place):
    address, field = place.split()
    client = app.test_client() if address == "/login" else world.client(world.alice)
    text = {"csrf_token": client.csrf(), "email": "a@b.example", "password": "a password", "role": "agent"}
    answer = client.post(address, data={**text, field: (io.BytesIO(b"x"), "x.txt")}, content_type="multipart/form-data")
    assert answer.status_code == 422


@pytest.mark.sqlite_only
@pytest.mark.parametrize("sent", ['{"email": 5, "password": [1]}', "[1]", "5", "[" * 5000 + "]" * 5000])
def test_json_is_no_form(client, sent):
    token = {"X-CSRFToken": client.csrf()}
    answer = client.post("/login", data=sent, content_type="application/json", headers=token)
    assert 400 <= answer.status_code < 500


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("headers-\u00b2-name", "x"),
        (f"headers-{'9' * 5000}-name", "x"),
        ("headers--1-name", "x"),
        ("headers-0-", "x"),
        ("headers-0-value-kept", "x"),
        ("remove_header", "9" * 5000),
        ("remove_header", "\u00b2"),
        ("version", "9" * 5000),
        ("connection-version", "\u00b2"),
    ],
)
def test_odd_numbers_in_a_cards_form_break_nothing(app, world, name, value):
    alice = world.client(world.alice)
    for address in ("/cards/new", "/cards/fields"):
        assert alice.post_form(address, {"title": "Orders", name: value}).status_code < 500


def test_a_browser_may_call_itself_anything(app, world):
    form = {"email": "alice@acme.example", "password": world.password}
    for name in ("\x00nul", "\x1b[31m", "é" * 5000, ""):
        answer = app.test_client().post_form("/login", form, headers={"User-Agent": name})
        assert answer.status_code == 303, name[:10]
    assert len(world.all(UserSession)) == 4


def test_two_of_a_name_are_refused_at_the_field_whatever_the_letters(app, world):
    alice = world.client(world.alice)
    assert alice.post_form("/settings/workspaces", {"workspace_name": "Ärger"}).status_code == 303
    for name in ("Ärger", " Ärger "):
        answer = alice.post_form("/settings/workspaces", {"workspace_name": name})
        assert answer.status_code == 422
        assert "There is a workspace of that name already." in answer.text


def test_two_connections_of_a_name_are_refused_whatever_the_letters(app, world):
    alice = world.client(world.alice)
    world.connection(name="\u0130\u0131\u017f\u1e9e")
    answer = alice.post_form("/connections/new", {**CONNECTION, "connection-name": "\u0130\u0131\u017f\u1e9e"})
    assert answer.status_code == 422
    assert "This workspace has a connection of that name already." in answer.text


def test_unknown_fields_have_no_effect(app, world):
    oscar = world.client(world.oscar)
    extra = {"is_owner": "true", "role": "admin", "user_id": str(world.alice.id), "workspace_id": str(world.globex.id)}
    assert oscar.post_form("/settings", {"time_zone": "UTC", "email": "boss@acme.example", **extra}).status_code == 303
    stored = world.reread(world.oscar)
    assert (stored.email, stored.is_owner) == ("oscar@acme.example", False)
    assert oscar.get("/members").status_code == 403
    assert world.reread(world.alice).time_zone == ""
    assert len(world.all(User)) == 4
    assert world.all(SingleUseLink) == []

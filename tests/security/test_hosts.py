"""AC-05: the portal's address comes from its settings and from nothing a request says."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.sqlite_only

FORGED = [
    {"X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"},
    {"X-Forwarded-Host": "evil.example, 127.0.0.1:8000"},
    {"Forwarded": "host=evil.example;proto=https"},
    {"X-Original-Host": "evil.example"},
    {"X-Forwarded-Port": "4444"},
    {"X-Forwarded-Prefix": "//evil.example"},
    {"X-Rewrite-Url": "//evil.example/"},
]


@pytest.mark.parametrize("headers", FORGED)
def test_forged_forwarding_headers_change_no_address(app, world, headers):
    alice = world.client(world.alice)
    connection = world.connection()
    for path in ("/", "/login", "/members", f"/connections/{connection.id}", "/settings"):
        answer = alice.get(path, headers=headers)
        assert answer.status_code < 400, path
        assert "evil.example" not in answer.text
        assert "evil.example" not in str(answer.headers)
        assert "4444" not in answer.headers.get("Location", "")


@pytest.mark.parametrize("headers", FORGED)
def test_links_to_hand_on_carry_the_public_url(app, world, settings, headers):
    answer = world.client(world.alice).post_form(
        "/members/invite", {"email": "new@acme.example", "role": "agent"}, headers=headers
    )
    assert answer.status_code == 200
    assert f'value="{settings.public_url}/join/' in answer.text
    assert "evil.example" not in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1:1", "127.0.0.1.evil.example:8000", "evil.example#127.0.0.1:8000", "[::2]"]
)
def test_other_hosts_are_refused(client, host):
    answer = client.get("/login", headers={"Host": host})
    assert answer.status_code in (400, 307)
    if answer.status_code == 307:
        assert answer.headers["Location"].startswith("http://127.0.0.1:8000/")


def test_another_local_name_leads_to_the_public_url(client):
    answer = client.get("/login?next=/cards", headers={"Host": "localhost:8000"})
    assert answer.status_code == 307
    assert answer.headers["Location"] == "http://127.0.0.1:8000/login?next=/cards"


def test_a_trusted_proxy_cannot_bring_another_host(settings_for, resources):
    from app import build
    from tests.support.browserless import Client

    portal = build(settings_for(trusted_proxies=1), resources)
    portal.test_client_class = Client
    client = portal.test_client()
    assert client.get("/login", headers={"X-Forwarded-Host": "evil.example"}).status_code == 400
    assert client.get("/login", headers={"X-Forwarded-Host": "127.0.0.1:8000"}).status_code == 200


def test_health_answers_under_any_host(client):
    assert client.get("/healthz", headers={"Host": "10.0.0.9:8000"}).status_code == 200


def test_the_web_server_believes_no_header_about_the_path():
    """Asked of gunicorn itself, which reads these two by default when they come from this machine."""
    program = "import gunicorn_conf; from gunicorn.config import Config; c = Config(); "
    program += "c.set('forwarder_headers', gunicorn_conf.forwarder_headers); print(c.forwarder_headers)"
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "CARDKEY_SECRET_KEY": secrets.token_urlsafe(48)},
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert told.stdout.strip() == "[]"

"""Redirects: none unless asked for, three at most, each checked, and nothing secret travels. EG-04."""

import pytest

from outbound import BadAddress, Blocked, RedirectRefused
from outbound.redirects import next_request
from tests.outbound.conftest import answer

SECRETS = {"Authorization": "Bearer secret-1", "X-Api-Key": "secret-2", "X-My-Own": "secret-3", "Cookie": "secret-4"}
HEADERS = {**SECRETS, "Accept": "application/json"}


def towards(location, status="302 Found"):
    return answer(b"moved", status, Location=location)


def test_no_redirect_is_followed_unless_asked_for(serve, canary, client_for, limits):
    server = serve(towards(canary.url))
    reply = client_for(server.address, canary.address).send_now("POST", server.url, body=b"x", limits=limits)
    assert (reply.status, reply.text) == (302, "moved")


@pytest.mark.parametrize(("allowed", "requests"), [(0, 1), (1, 2), (3, 4), (10, 4)])
def test_three_redirects_are_followed_at_most(serve, client_for, limits, allowed, requests):
    server = serve(towards("/again?x=1"))
    reply = client_for(server.address).send_now("GET", server.url, limits=limits, redirects=allowed)
    assert reply.status == 302
    assert len(server.requests) == requests


def test_a_redirect_on_the_same_server_keeps_the_headers(serve, client_for, limits):
    def speak(connection, request):
        connection.sendall(answer(b"here") if "/there" in request else towards("there"))
        return True

    server = serve(speak)
    reply = client_for(server.address).send_now("GET", server.url, headers=HEADERS, limits=limits, redirects=1)
    assert (reply.text, reply.url) == ("here", server.url + "there")
    assert "secret-1" in server.requests[1]


@pytest.mark.parametrize("there", ["another port", "another name"])
def test_another_origin_gets_no_secret_and_never_gets_one_again(serve, client_for, limits, there):
    home = serve(answer(b"home again"))
    other = serve(towards(home.url))
    first = serve(towards(other.url if there == "another port" else f"http://localhost:{other.port}/"))
    client = client_for(first.address, other.address, f"localhost:{other.port}", home.address)
    reply = client.send_now("GET", first.url, headers=HEADERS, limits=limits, redirects=3)
    assert reply.text == "home again"
    for request in (other.requests[0], home.requests[0]):
        assert "secret" not in request
        assert "Accept: application/json" in request


def test_a_change_of_scheme_is_a_change_of_origin():
    sent = next_request("GET", HEADERS, None, 302, "http://localhost:8000/", "https://localhost:8000/")
    assert sent == ("GET", {"Accept": "application/json"}, None)


@pytest.mark.parametrize(
    "location",
    [
        "https://127.0.0.1:{canary}/",
        "http://localhost:{canary}/",
        "//127.0.0.1:{canary}/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]:{canary}/",
        "https://2130706433/",
        "https://user@api.example.com/",
        "https://[bad/",
        "https://api.example.com:99999/",
        "ftp://api.example.com/",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "https://api.example.com/\x01",
        "https://api.example.com/caf\u00e9",
        "https://api.example.com\\@127.0.0.1:{canary}/",
    ],
)
def test_every_hop_is_checked_like_the_first(serve, canary, client_for, limits, location):
    server = serve(towards(location.replace("{canary}", str(canary.port))))
    with pytest.raises((BadAddress, Blocked)):
        client_for(server.address).send_now("GET", server.url, limits=limits, redirects=3)


def test_https_is_never_left(client_for):
    from outbound import Policy
    from outbound.redirects import target_of

    with pytest.raises(RedirectRefused):
        target_of("https://api.example.com/", "http://localhost:8000/", Policy.parse("localhost:8000"))


@pytest.mark.parametrize("status", ["307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_body_is_never_sent_to_another_origin(serve, canary, client_for, limits, status):
    server = serve(towards(canary.url, status))
    client = client_for(server.address, canary.address)
    with pytest.raises(RedirectRefused):
        client.send_now("POST", server.url, body=b"client_secret=x", limits=limits, redirects=3)


@pytest.mark.parametrize(
    ("method", "status", "then"),
    [("POST", 301, "GET"), ("POST", 303, "GET"), ("HEAD", 302, "HEAD"), ("PUT", 307, "PUT"), ("GET", 308, "GET")],
)
def test_method_and_body_change_as_the_status_says(method, status, then):
    url = "https://api.example.com/"
    sent_method, headers, body = next_request(method, {"Content-Type": "x/y"}, b"x", status, url, url + "new")
    assert sent_method == then
    assert (body, "Content-Type" in headers) == ((b"x", True) if status in (307, 308) else (None, False))

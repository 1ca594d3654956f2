"""Names: resolved once, every answer checked, connected to what was checked. EG-02."""

import asyncio
import socket
import time

import pytest

from outbound import Limits, Unreachable
from outbound import client as client_module
from tests.outbound.conftest import answer

NAME = "api.example.com"


@pytest.fixture
def names(monkeypatch):
    """A name server of the test's own: lists of answers, one for each question. Returns the questions."""
    asked = []

    def set_up(*answers):
        queue = list(answers)

        async def lookup(host, port):
            asked.append((host, port))
            found = queue.pop(0) if len(queue) > 1 else queue[0]
            if isinstance(found, Exception):
                raise found
            return [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in found]

        monkeypatch.setattr(client_module, "lookup", lookup)
        return asked

    return set_up


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["1.1.1.1", "127.0.0.1"],
        ["127.0.0.1", "1.1.1.1"],
        ["2606:4700::1111", "fd00::1"],
        ["169.254.169.254"],
        ["fe80::1%eth0"],
    ],
)
def test_one_internal_answer_refuses_the_name(names, canary, client_for, limits, answers):
    names(answers)
    client = client_for(f"other.example.com:{canary.port}")
    with pytest.raises(Unreachable) as caught:
        client.send_now("GET", f"https://{NAME}/", limits=limits)
    assert NAME in str(caught.value)
    assert not any(address in str(caught.value) for address in answers)


def test_names_that_are_internal_absent_or_closed_look_the_same(names, client_for, limits):
    """EG-09: one text and one kind of failure for twenty names inside, one that nobody has, and a port that is shut."""
    with socket.socket() as shut:
        shut.bind(("127.0.0.1", 0))  # never listens, so whoever calls is turned away
        port = shut.getsockname()[1]
        seen, took = set(), []
        outside = client_for(f"{NAME}:{port}")
        for number, address in enumerate([*(f"10.0.0.{host}" for host in range(1, 21)), None, "127.0.0.1"]):
            names([address] if address else OSError("no such name"))
            inside = number < 20
            client = client_for() if inside else outside
            url = f"https://{NAME}/" if inside else f"https://{NAME}:{port}/"
            began = time.monotonic()
            with pytest.raises(Unreachable) as caught:
                client.send_now("GET", url, limits=limits)
            took.append(time.monotonic() - began)
            seen.add((str(caught.value), caught.value.maybe_sent))
    assert len(seen) == 1
    assert max(took) - min(took) < 0.2


def test_a_name_is_asked_for_once_and_the_answer_is_what_is_connected_to(names, serve, canary, client_for, limits):
    """The second answer is the canary's: whoever asked again would connect to it."""
    asked = names(["127.0.0.2"], ["127.0.0.1"])
    server = serve(answer(b"first"), at=("127.0.0.2", canary.port))
    url = f"http://localhost:{canary.port}/"
    assert client_for(f"localhost:{canary.port}").send_now("GET", url, limits=limits).text == "first"
    assert asked == [("localhost", canary.port)]
    assert server.connections == 1


def test_every_new_connection_checks_the_name_anew(names, client_for, limits):
    asked = names(["1.1.1.1", "10.0.0.1"], ["10.0.0.1"])
    client = client_for()
    for _ in range(2):
        with pytest.raises(Unreachable):
            client.send_now("GET", f"https://{NAME}/", limits=limits)
    assert len(asked) == 2


def test_the_server_is_asked_by_its_name(names, serve, client_for, limits):
    server = serve(answer(b"x"))
    names(["127.0.0.1"])
    client_for(f"localhost:{server.port}").send_now("GET", f"http://localhost:{server.port}/", limits=limits)
    assert f"Host: localhost:{server.port}\r\n" in server.requests[0]


@pytest.mark.parametrize("problem", [OSError("no such name"), socket.gaierror(-2, "unknown")])
def test_a_name_that_does_not_exist_was_not_sent_to(names, client_for, limits, problem):
    names(problem)
    with pytest.raises(Unreachable) as caught:
        client_for().send_now("GET", f"https://{NAME}/", limits=limits)
    assert not caught.value.maybe_sent


def test_a_name_that_cannot_be_encoded_does_not_exist(client_for, limits):
    with pytest.raises(Unreachable):
        client_for("a..b:443").send_now("GET", "https://a..b/", limits=limits)


def test_a_slow_name_server_holds_nobody_else_up(serve, client_for, limits, monkeypatch):
    def slow(host, *args, _real=socket.getaddrinfo, **kwargs):
        if host == NAME:
            time.sleep(3)
            raise socket.gaierror(-3, "later")
        return _real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    server = serve(answer(b"x"))
    client = client_for(f"localhost:{server.port}")

    async def all_at_once():
        waiting = [
            asyncio.ensure_future(client.send("GET", f"https://{NAME}/", limits=Limits(0.2, 0.1, 10)))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        begun = time.monotonic()
        reply = await client.send("GET", f"http://localhost:{server.port}/", limits=limits)
        took = time.monotonic() - begun
        await asyncio.gather(*waiting, return_exceptions=True)
        return reply.text, took

    text, took = client.run(all_at_once())
    assert text == "x"
    assert took < 2

"""One call over real connections: whole deadline, size, what is kept and what is not. TK-14, EG-06."""

import asyncio
import gzip
import os
import threading
import time
import zlib
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from outbound import Limits, OutboundFailure, Reply, Timeout, TooLarge, Unreachable
from tests.outbound.conftest import answer

MEBIBYTE = 1024 * 1024


def resident():
    """Bytes of memory in use by this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def call(client_for, limits):
    """Call a server of this test."""

    def call(server, *, within=limits, method="GET", **kwargs):
        return client_for(server.address).send_now(method, server.url, limits=within, **kwargs)

    return call


def endless(connection, head, piece, pause=0.0):
    """Send `piece` over and over until the other side has gone."""
    connection.sendall(head)
    for _ in range(10_000_000):
        connection.sendall(piece)
        time.sleep(pause)


def silent(connection, _request):
    """Say nothing until the other side has gone."""
    connection.recv(1)


def test_a_reply_comes_back_whole(serve, call):
    server = serve(answer(b"caf\xe9", "201 Created", Content_Type="text/plain; charset=latin-1", X_A="b"))
    reply = call(server, method="POST", headers={"X-Mine": "1"}, body=b"a=b")
    assert (reply.status, reply.text, reply.headers["x-a"], reply.url) == (201, "café", "b", server.url)
    assert 0 < reply.elapsed < 10
    assert server.requests[0].startswith("POST / HTTP/1.1\r\n")
    assert "X-Mine: 1\r\n" in server.requests[0]
    assert server.requests[0].endswith("\r\n\r\na=b")


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(silent, id="silence"),
        pytest.param(lambda c, _: endless(c, b"HTTP/1.1 200 OK\r\nX-A: ", b"x", 0.05), id="a head that drips"),
        pytest.param(lambda c, _: endless(c, b"HTTP/1.1 200 OK\r\n\r\n", b"x", 0.05), id="a body that drips"),
        pytest.param(
            lambda c, _: endless(c, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
            id="chunks that drip",
        ),
        pytest.param(lambda c, _: endless(c, b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05), id="continue, continue"),
    ],
)
def test_the_deadline_is_for_the_whole_call(serve, call, speak):
    begun = time.monotonic()
    with pytest.raises(Timeout) as caught:
        call(serve(speak), within=Limits(deadline=0.5, connect=0.2, max_bytes=64 * 1024))
    assert time.monotonic() - begun < 3
    assert caught.value.maybe_sent


def standing_still(client, url, *, stops, stands, deadline):
    """One call by a client whose loop stands still in mid-request, as all of a process that is stopped does."""

    async def stand_still():
        await asyncio.sleep(stops)
        time.sleep(stands)  # noqa: ASYNC251  # that is the point

    async def both():
        within = Limits(deadline=deadline, connect=0.2, max_bytes=MEBIBYTE)
        return (await asyncio.gather(client.send("GET", url, limits=within), stand_still()))[0]

    return client.run(both())


def test_a_reply_that_came_while_the_process_stood_still_is_read(serve, client_for):
    """There may be the only valid refresh token in it."""
    body = b"x" * 300_000

    def speak(connection, _request):
        time.sleep(0.2)
        connection.sendall(answer(body))
        return True

    server = serve(speak)
    reply = standing_still(client_for(server.address), server.url, stops=0.1, stands=1.3, deadline=0.6)
    assert reply.text.encode() == body


def test_a_process_that_stood_still_waits_no_longer_for_what_does_not_come(serve, client_for):
    server = serve(silent)
    begun = time.monotonic()
    with pytest.raises(Timeout):
        standing_still(client_for(server.address), server.url, stops=0.1, stands=1.3, deadline=0.6)
    assert time.monotonic() - begun < 1.4 + 3


def test_a_call_after_a_timed_out_one_gets_its_own_reply(serve, client_for, limits):
    def speak(connection, request):
        if "/slow" in request:
            time.sleep(0.5)
        connection.sendall(answer(request.split()[1].encode()))
        return True

    server = serve(speak)
    client = client_for(server.address)
    with pytest.raises(Timeout):
        client.send_now("GET", server.url + "slow", limits=Limits(0.2, 0.1, 1000))
    time.sleep(0.5)
    assert client.send_now("GET", server.url + "quick", limits=limits).text == "/quick"


def bomb(coding):
    """64 MB of nothing, compressed to some KB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    return b"".join([*(packer.compress(bytes(MEBIBYTE)) for _ in range(64)), packer.flush()])


LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n"


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(lambda c, _: endless(c, b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536), id="endless"),
        pytest.param(lambda c, _: endless(c, LONG, b"x" * 65536), id="64 MB announced"),
        pytest.param(
            lambda c, _: endless(
                c, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n"
            ),
            id="endless chunks",
        ),
        pytest.param(answer(bomb("gzip"), Content_Encoding="gzip"), id="gzip bomb"),
        pytest.param(answer(bomb("deflate"), Content_Encoding="deflate"), id="deflate bomb"),
    ],
)
def test_a_long_body_is_cut_off_without_taking_memory(serve, call, speak):
    server = serve(speak)
    before, peak, done = resident(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(TooLarge):
        call(server)
    done.set()
    watcher.join()
    assert peak[0] - before < 50 * MEBIBYTE


def test_a_body_of_just_the_limit_is_fine_and_one_byte_more_is_not(serve, call, limits):
    assert len(call(serve(answer(b"x" * limits.max_bytes))).body) == limits.max_bytes
    with pytest.raises(TooLarge):
        call(serve(answer(b"x" * (limits.max_bytes + 1))))


def test_a_compressed_body_is_unpacked(serve, call):
    assert call(serve(answer(gzip.compress(b"hello"), Content_Encoding="gzip"))).body == b"hello"


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="hangs up"),
        pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", id="not HTTP"),
        pytest.param(b"HTTP/1.1 abc OK\r\n\r\n", id="odd status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", id="half a body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", id="negative length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="odd chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope", id="broken gzip"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-A: " + b"x" * 20_000 + b"\r\n\r\n", id="long header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 5_000 + b"\r\n", id="many headers"),
    ],
)
def test_a_broken_reply_may_have_been_acted_on(serve, call, reply):
    def speak(connection, _request):
        connection.sendall(reply)

    with pytest.raises(Unreachable) as caught:
        call(serve(speak), method="POST", body=b"x")
    assert caught.value.maybe_sent
    assert str(caught.value).endswith(".")


def test_a_closed_port_was_certainly_not_sent_to(serve, client_for, limits):
    server = serve(answer())
    server.close()
    with pytest.raises(Unreachable) as caught:
        client_for(server.address).send_now("POST", server.url, body=b"x", limits=limits)
    assert not caught.value.maybe_sent


def test_a_post_is_never_sent_twice(serve, call):
    server = serve(lambda _connection, _request: False)
    with pytest.raises(Unreachable):
        call(server, method="POST", body=b"x")
    assert len(server.requests) == 1


def test_cookies_are_not_kept(serve, client_for, limits):
    server = serve(answer(Set_Cookie="a=b; Path=/"))
    client = client_for(server.address)
    for _ in range(2):
        client.send_now("GET", server.url, limits=limits)
    assert not any("cookie:" in request.lower() for request in server.requests)


def test_a_connection_is_used_again(serve, client_for, limits):
    server = serve(answer(b"x"))
    client = client_for(server.address)
    for _ in range(3):
        client.send_now("GET", server.url, limits=limits)
    assert server.connections == 1


def test_proxies_and_logins_of_the_environment_are_ignored(serve, client_for, limits, monkeypatch, tmp_path):
    proxy, server = serve(answer(b"proxy")), serve(answer(b"direct"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    assert client_for(server.address, proxy.address).send_now("GET", server.url, limits=limits).text == "direct"
    assert proxy.connections == 0
    assert "authorization" not in server.requests[0].lower()


def test_threads_share_one_client(serve, client_for, limits):
    server = serve(answer(b"x"))
    client = client_for(server.address)
    texts = []
    threads = [
        threading.Thread(target=lambda: texts.append(client.send_now("GET", server.url, limits=limits).text))
        for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["x"] * 16


def test_a_forked_child_leaves_its_parents_connection_alone(serve, client_for, limits):
    server = serve(answer(b"x"))
    client = client_for(server.address)
    client.send_now("GET", server.url, limits=limits)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if client.send_now("GET", server.url, limits=limits).text == "x" else 2
            client.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert client.send_now("GET", server.url, limits=limits).text == "x"
    assert server.connections == 2


def test_a_closed_client_begins_anew(serve, client_for, limits):
    server = serve(answer(b"x"))
    client = client_for(server.address)
    for _ in range(2):
        assert client.send_now("GET", server.url, limits=limits).text == "x"
        client.close()


def test_closing_ends_what_is_under_way(serve, client_for):
    server = serve(silent)
    client = client_for(server.address)
    ended = []

    def call():
        try:
            client.send_now("GET", server.url, limits=Limits(5, 1, 1000))
        except CancelledError as error:
            ended.append(type(error).__name__)

    thread = threading.Thread(target=call)
    thread.start()
    while not server.requests:
        time.sleep(0.01)
    client.close()
    thread.join(2)
    assert ended == ["CancelledError"]


@pytest.mark.parametrize(
    "charset", ["undefined", "idna", "punycode", "hex", "a\0b", "nonsense", "unicode_escape", None, "x" * 999]
)
def test_an_odd_charset_never_stops_the_text(charset):
    reply = Reply(200, {}, b"\xef\xbb\xbfcaf\xc3\xa9 \\u0041 " + b"-" * 200_000, "", 0.0, charset)
    begun = time.process_time()
    assert reply.text.startswith("café \\u0041 ")
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("charset", "body"), [("utf-16", "é"), ("windows-1252", "€"), ("Shift_JIS", "日本"), ("gb18030", "中")]
)
def test_a_usual_charset_is_followed(charset, body):
    assert Reply(200, {}, body.encode(charset), "", 0.0, charset).text == body


def test_a_failure_names_the_host_and_nothing_of_path_or_query(client_for, limits):
    for url in (
        "https://127.0.0.1/secret?token=secret",
        "https://user:secret@h.example/",
        "https://h.example:22/secret",
    ):
        with pytest.raises(OutboundFailure) as caught:
            client_for().send_now("GET", url, limits=limits)
        assert "secret" not in str(caught.value)

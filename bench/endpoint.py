"""`python -m bench.endpoint SOCKET [CERTIFICATE]`: a token endpoint and an API that are faster than whoever asks them.

Raw HTTP/1.1 with connections kept, on plain TCP and, with a certificate, on TLS beside it. Every refresh token is good
for one use, and every use is recorded: what this process counted is the truth the engine is held against. The first
line of its output gives both ports; the harness talks to it in JSON lines over `SOCKET`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

ACCESS_FILLER = "Zm9yIHRoZSBsZW5ndGggb2YgYW4gb3JkaW5hcnkgSldU" * 17
"""Access tokens have about 800 characters, as signed ones commonly do."""
REFRESH_FILLER = "bm90IGEgc2VjcmV0"
LIFETIME = 3600
NOBODY = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n"
INVALID_GRANT = NOBODY + b'{"error":"invalid_grant"}'
CUSTOMER = json.dumps({"customer": {"name": "Ada Lovelace", "orders": [{"id": n, "total": n * 7} for n in range(20)]}})
API_REPLY = (
    f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(CUSTOMER)}\r\n\r\n{CUSTOMER}".encode()
)


def refresh_token(number: int, use: int) -> str:
    """The refresh token of a grant after so many uses."""
    return f"r-{number}-{use}-{REFRESH_FILLER}"


def read_token(token: str) -> tuple[int, int]:
    """Grant and use that a refresh token of ours stands for."""
    _, number, use, _ = token.split("-")
    return int(number), int(use)


def token_reply(number: int, use: int) -> bytes:
    """A whole reply with the tokens after so many uses."""
    body = (
        f'{{"access_token":"a-{number}-{use}-{ACCESS_FILLER}","token_type":"Bearer","expires_in":{LIFETIME},'
        f'"refresh_token":"{refresh_token(number, use)}"}}'
    )
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class Book:
    """Every grant's uses, and what was asked for besides."""

    def __init__(self) -> None:
        """Without grants."""
        self.uses = array("I")
        self.arrived = array("d")
        self.requests = self.refused = self.bare = self.calls = 0
        self.latency = 0.0
        self.in_flight = self.most_in_flight = 0
        self.moments: array[float] | None = None
        """When each reply left, while somebody wants to know."""

    def grow(self, count: int) -> None:
        """Have so many grants, all unused."""
        more = count - len(self.uses)
        self.uses.extend([0] * more)
        self.arrived.extend([0.0] * more)

    def token_request(self, body: bytes) -> bytes:
        """The answer to a form."""
        begin = body.find(b"refresh_token=r-")
        if begin < 0:
            self.bare += 1
            return token_reply(0, 0)
        _, number_text, use_text, _ = body[begin + 14 :].split(b"-", 3)
        number, use = int(number_text), int(use_text)
        self.requests += 1
        if number >= len(self.uses) or use != self.uses[number]:
            self.refused += 1
            return INVALID_GRANT
        self.uses[number] = use + 1
        self.arrived[number] = time.time()
        return token_reply(number, use + 1)


class Line(asyncio.Protocol):
    """One connection: requests in, replies out, in order since nobody sends two at once."""

    def __init__(self, book: Book) -> None:
        """Nothing has come yet."""
        self.book = book
        self.buffer = b""
        self.transport: asyncio.Transport | None = None
        self.call_later = asyncio.get_running_loop().call_later

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody is there."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is whole."""
        buffer = self.buffer + data if self.buffer else data
        head_end = buffer.find(b"\r\n\r\n")
        if head_end < 0:
            self.buffer = buffer
            return
        body_start = head_end + 4
        length = _length(buffer[:head_end])
        if len(buffer) < body_start + length:
            self.buffer = buffer
            return
        self.buffer = buffer[body_start + length :]
        book = self.book
        book.in_flight += 1
        book.most_in_flight = max(book.most_in_flight, book.in_flight)
        if buffer.startswith(b"POST"):
            reply = book.token_request(buffer[body_start : body_start + length])
        else:
            book.calls += 1
            reply = API_REPLY
        if book.latency:
            self.call_later(book.latency, self._answer, reply)
        else:
            self._answer(reply)

    def _answer(self, reply: bytes) -> None:
        book = self.book
        book.in_flight -= 1
        if book.moments is not None:
            book.moments.append(time.time())
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(reply)


def _length(head: bytes) -> int:
    begin = head.find(b"ontent-Length:")
    if begin < 0:
        begin = head.find(b"ontent-length:")
    return int(head[begin + 14 :].split(b"\r\n", 1)[0]) if begin >= 0 else 0


class Control:
    """What the harness may ask: a line of JSON with `do` and its arguments, and one of JSON comes back."""

    def __init__(self, book: Book) -> None:
        """Over `book`."""
        self.book = book

    def grow(self, count: int) -> None:
        """Have so many grants at least."""
        self.book.grow(count)

    def behave(self, latency: float) -> None:
        """Answer after `latency` seconds."""
        self.book.latency = latency

    def stand(self) -> dict[str, int]:
        """All counts."""
        names = ("requests", "refused", "bare", "calls", "in_flight", "most_in_flight")
        return {name: getattr(self.book, name) for name in names}

    def watch(self) -> None:
        """Note from now on when replies leave, and the most in flight."""
        self.book.moments = array("d")
        self.book.most_in_flight = 0

    def watched(self) -> list[float]:
        """When they left; noted no more."""
        moments, self.book.moments = self.book.moments, None
        return list(moments or ())

    def save(self, path: str) -> None:
        """Write uses and the last arrival of every grant to a file."""
        with open(path, "wb") as file:  # noqa: PTH123  # arrays write to real files only
            self.book.uses.tofile(file)
            self.book.arrived.tofile(file)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the harness hangs up."""
        while line := await reader.readline():
            asked: dict[str, Any] = json.loads(line)
            verb: Callable[..., Any] = getattr(self, asked.pop("do"))
            writer.write(json.dumps(verb(**asked)).encode() + b"\n")
            await writer.drain()
        writer.close()


async def main(path: str, certificate: str = "") -> None:
    """Serve until the harness closes our standard input."""
    loop, book = asyncio.get_running_loop(), Book()
    plain = await loop.create_server(lambda: Line(book), "127.0.0.1", 0, backlog=4096)
    ports = [plain.sockets[0].getsockname()[1]]
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        secure = await loop.create_server(lambda: Line(book), "127.0.0.1", 0, ssl=context, backlog=4096)
        ports.append(secure.sockets[0].getsockname()[1])
    await asyncio.start_unix_server(Control(book).serve, path)
    print(json.dumps(ports), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

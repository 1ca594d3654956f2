"""`python -m bench.faults.provider SOCKET`: a token endpoint that can be held at any phase of a request.

Raw HTTP/1.1 on asyncio, since half a body, a reset or an endless reply is what it is there for.
It says on which port it listens in the first line of its output.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import gzip
import json
import ssl
import struct
import sys
import time
from socket import SO_LINGER, SOL_SOCKET
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from bench.faults.ledger import CLIENT_SECRET, HOSTS, Grant, Ledger, Mode

RECEIVED, ACTED, HALF = "received", "acted", "half"
"""P1: nothing done yet. P2: tokens replaced, nothing replied. P3: half of the body is sent."""
Headers = dict[str, str]


class Dropped(Exception):
    """The connection is to be closed without another word."""


class Provider:
    """The endpoint, and what the harness wants of it at the moment."""

    def __init__(self) -> None:
        """Nothing is held."""
        self.ledger = Ledger()
        self.phase = ""
        self.held: set[int] = set()
        self.gate = asyncio.Event()
        self.drops = False
        self.delay = 0.0
        self.lifetime = 3600.0
        self.scripts: dict[int, list[dict[str, Any]]] = {}
        self.replies = self.strays = 0
        self.in_flight = self.most_in_flight = 0
        self.api: dict[int, int] = {}
        """Statuses the API answers with, by grant, whatever token comes."""
        self.api_hits: dict[int, int] = {}
        self.news = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while await self._one(reader, writer):
                pass
        except (
            Dropped,
            ConnectionError,
            asyncio.IncompleteReadError,
            TimeoutError,
            ssl.SSLError,
            asyncio.CancelledError,
        ):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return False
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if path.startswith("/token") and method == "POST":
            await self._token(dict(parse_qsl(body.decode())), headers, writer)
        elif path.startswith("/api/"):
            await self._api(path, headers, writer)
        else:
            self.strays += 1
            await send(writer, 404, b"{}")
        return True

    async def _token(self, form: dict[str, str], headers: Headers, writer: asyncio.StreamWriter) -> None:
        grant = self.ledger.of_token(form.get("refresh_token") or form.get("code", ""))
        if grant is None or client_of(form, headers) != grant.mode:
            await send(writer, 400, b'{"error": "invalid_grant"}')
            return
        grant.hits.append(time.time())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self._answer(grant, form, writer)
        finally:
            self.in_flight -= 1

    async def _answer(self, grant: Grant, form: dict[str, str], writer: asyncio.StreamWriter) -> None:
        await self._reach(RECEIVED, grant)
        if self.delay:
            await asyncio.sleep(self.delay)
        script = self._script_of(grant)
        if script is not None and not script.get("acts"):
            await play(script, grant, writer)
            return
        renews = form.get("grant_type") == "refresh_token"
        good = grant.use(form["refresh_token"]) if renews else grant.redeem(form["code"])
        status, body = (200, self._tokens(grant)) if good else (400, b'{"error": "invalid_grant"}')
        if renews:
            await self._reach(ACTED, grant)
        if script is not None:
            await play(script, grant, writer)
            return
        await send(writer, status, body, half=lambda: self._reach(HALF, grant))
        grant.replied = time.time()
        self.replies += 1
        async with self.news:
            self.news.notify_all()

    async def _reach(self, phase: str, grant: Grant) -> None:
        """Announce a phase; wait there if the harness wants it so."""
        if self.phase != phase:
            return
        self.held.add(grant.number)
        async with self.news:
            self.news.notify_all()
        await self.gate.wait()
        self.held.discard(grant.number)
        if self.drops:
            raise Dropped

    def _script_of(self, grant: Grant) -> dict[str, Any] | None:
        wanted = self.scripts.get(grant.number)
        if not wanted:
            return None
        return wanted[0] if wanted[0].get("repeats") else wanted.pop(0)

    def _tokens(self, grant: Grant) -> bytes:
        fields = {"access_token": grant.access, "token_type": "Bearer", "expires_in": self.lifetime}
        if grant.mode is not Mode.STATIC:
            fields["refresh_token"] = grant.token
        return json.dumps(fields).encode()

    async def _api(self, path: str, headers: Headers, writer: asyncio.StreamWriter) -> None:
        number = int(path.removeprefix("/api/").partition("?")[0])
        grant = self.ledger.grants[number]
        self.api_hits[number] = self.api_hits.get(number, 0) + 1
        fits = headers.get("authorization") == f"Bearer {grant.access}"
        status = self.api.get(number) or (200 if fits else 401)
        await send(writer, status, json.dumps({"customer": {"name": f"Customer {number}"}}).encode())


def client_of(form: dict[str, str], headers: Headers) -> str:
    """Who the client says it is; empty when its secret is not the one it was given."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        name, _, secret = base64.b64decode(value).decode().partition(":")
        name, secret = unquote_plus(name), unquote_plus(secret)
    else:
        name, secret = form.get("client_id", ""), form.get("client_secret", "")
    return name if secret == CLIENT_SECRET else ""


async def send(
    writer: asyncio.StreamWriter, status: int, body: bytes, headers: Headers | None = None, half: Any = None
) -> None:
    """One reply; `half` is awaited in the middle of the body."""
    given = {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    middle = len(body) // 2
    writer.write(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body[:middle])
    if half is not None:
        await writer.drain()
        await half()
    writer.write(body[middle:])
    await writer.drain()


async def play(script: dict[str, Any], grant: Grant, writer: asyncio.StreamWriter) -> None:
    """A reply as the harness wrote it: `{access}` and `{refresh}` stand for the grant's tokens."""
    how = script.get("how", "")
    body = base64.b64decode(script.get("body", ""))
    body = body.replace(b"{access}", grant.access.encode()).replace(b"{refresh}", grant.token.encode())
    if how == "hang":
        await asyncio.sleep(script.get("seconds", 3600))
        raise Dropped
    if how == "late":
        await asyncio.sleep(script["seconds"])
    if how == "reset":
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        raise Dropped
    if how in ("drip", "endless"):
        await _without_end(how, writer)
    if how == "big":
        await _big(writer)
    if how == "bomb":
        packed = await asyncio.get_running_loop().run_in_executor(None, bomb)
        body, script = packed, {"headers": {"Content-Encoding": "gzip"}}
    await send(writer, script.get("status", 200), body, script.get("headers"))
    grant.replied = time.time()
    if how == "close":
        raise Dropped


async def _big(writer: asyncio.StreamWriter) -> None:
    """64 MB, honestly announced."""
    piece, count = b" " * 65536, 1024
    writer.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(piece) * count}\r\n\r\n".encode())
    for _ in range(count):
        writer.write(piece)
        await writer.drain()
    raise Dropped


@functools.cache
def bomb() -> bytes:
    """128 MB in 128 KB; packed in a thread, so that nobody else waits."""
    return gzip.compress(b" " * (128 * 1024 * 1024), 6)


async def _without_end(how: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece, pause = (b"1\r\n \r\n", 1.0) if how == "drip" else (b"10000\r\n" + b" " * 65536 + b"\r\n", 0.0)
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


class Control:
    """The harness' side: one line of JSON asks, one answers."""

    def __init__(self, provider: Provider) -> None:
        """Of one provider."""
        self._provider = provider
        self._servers: list[asyncio.Server] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the harness."""
        while line := await reader.readline():
            asked = json.loads(line)
            answer = getattr(self, f"do_{asked.pop('do')}")(**asked)
            if asyncio.iscoroutine(answer):
                answer = await answer
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def do_add(self, mode: str, count: int) -> list[dict[str, Any]]:
        """New grants."""
        added = self._provider.ledger.add(Mode(mode), count)
        return self._provider.ledger.record([grant.number for grant in added])

    def do_renew(self, numbers: list[int]) -> list[dict[str, Any]]:
        """Consent anew to grants that were lost."""
        for number in numbers:
            self._provider.ledger.grants[number].renew()
        return self._provider.ledger.record(numbers)

    def do_end(self, numbers: list[int]) -> bool:
        """The people take their consent back."""
        for number in numbers:
            self._provider.ledger.grants[number].ended = "revoked"
        return True

    def do_forget_uses(self) -> bool:
        """Count uses and requests from here."""
        for grant in self._provider.ledger.grants:
            grant.uses.clear()
            grant.hits.clear()
            grant.codes.clear()
        self._provider.most_in_flight = 0
        self._provider.api_hits.clear()
        return True

    def do_behave(self, **wishes: float) -> bool:
        """`delay` of replies, `lifetime` of tokens."""
        for name, value in wishes.items():
            setattr(self._provider, name, value)
        return True

    def do_script(self, numbers: list[int], replies: list[dict[str, Any]]) -> bool:
        """Replies for the next requests of some grants; none: as usual."""
        for number in numbers:
            self._provider.scripts[number] = [dict(reply) for reply in replies]
        return True

    def do_api(self, numbers: list[int], status: int) -> bool:
        """What the API answers for some grants; 0: as usual."""
        for number in numbers:
            self._provider.api[number] = status
        return True

    def do_hold(self, phase: str) -> bool:
        """Hold every request that comes to `phase`."""
        self._provider.gate.clear()
        self._provider.drops = False
        self._provider.phase = phase
        return True

    async def do_wait_held(self, count: int, seconds: float) -> list[int]:
        """Wait until `count` are held, or so long; which grants are."""
        provider = self._provider
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), provider.news:
                await provider.news.wait_for(lambda: len(provider.held) >= count)
        return sorted(provider.held)

    async def do_release(self, drop: bool = False, replies: int = 0, seconds: float = 5.0) -> float:
        """Let go what is held, or close it all; wait for so many replies. Returns the time of the last of them."""
        provider = self._provider
        target = provider.replies + replies
        provider.drops, provider.phase = drop, ""
        provider.gate.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), provider.news:
                await provider.news.wait_for(lambda: provider.replies >= target)
        return time.time()

    def do_end_access(self, numbers: list[int]) -> bool:
        """The access tokens of some grants stop working; the grants live on."""
        for number in numbers:
            self._provider.ledger.grants[number].access = ""
        return True

    async def do_listen(self, certificate: str) -> int:
        """Serve with TLS too; on which port."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
        server = await asyncio.start_server(self._provider.serve, "127.0.0.1", 0, ssl=context)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def do_record(self, numbers: list[int]) -> list[dict[str, Any]]:
        """The truth about some grants."""
        return self._provider.ledger.record(numbers)

    def do_hits(self, numbers: list[int]) -> list[list[float]]:
        """When requests for some grants arrived."""
        return [self._provider.ledger.grants[number].hits for number in numbers]

    def do_judge(self, pairs: list[tuple[int, str]]) -> list[str]:
        """What the next refresh with each stored token would meet; empty: it would be taken."""
        return [self._provider.ledger.grants[number].verdict(token) for number, token in pairs]

    def do_stand(self) -> dict[str, Any]:
        """Counts of everything."""
        provider = self._provider
        grants = provider.ledger.grants
        return {
            "held": len(provider.held),
            "in_flight": provider.in_flight,
            "most_in_flight": provider.most_in_flight,
            "hits": sum(len(grant.hits) for grant in grants),
            "replies": provider.replies,
            "strays": provider.strays,
            "api_hits": provider.api_hits,
        }


async def main(control_path: str) -> None:
    """Serve until the harness closes our input."""
    provider = Provider()
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0, backlog=2000)
    control = await asyncio.start_unix_server(Control(provider).serve, control_path, limit=2**26)
    port = server.sockets[0].getsockname()[1]
    others = [f"127.0.0.{number}" for number in range(2, HOSTS + 1)]
    more = await asyncio.start_server(provider.serve, others, port, backlog=200)
    print(port, flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    control.close()
    server.close()
    more.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

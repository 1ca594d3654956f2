"""The guarded HTTP client: asynchronous inside, with a synchronous face; one event loop and pool a process."""

from __future__ import annotations

import asyncio
import atexit
import os
import socket
import threading
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from outbound.addresses import Policy, check_url, origin
from outbound.failures import (
    Blocked,
    CertificateProblem,
    OutboundFailure,
    RedirectRefused,
    Timeout,
    TooLarge,
    Unreachable,
)

T = TypeVar("T")
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
MOST_REDIRECTS = 3
SECRET_HEADERS = frozenset({"authorization", "cookie", "x-api-key", "api-key"})
CHUNK = 64 * 1024
CLOSING_SECONDS = 5


@dataclass(frozen=True)
class Limits:
    """Limits of one call."""

    deadline: float
    """Seconds for everything: name, connection, sending, reading."""
    connect: float
    """Seconds of it for the connection."""
    max_bytes: int
    """Bytes of the body, after decompression."""


@dataclass(frozen=True)
class Reply:
    """What came back. `headers` compare without case; `elapsed` is in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    elapsed: float
    charset: str | None = None

    @property
    def text(self) -> str:
        """The body as text; undecodable bytes become replacement characters."""
        try:
            return self.body.decode(self.charset or "utf-8-sig", "replace")
        except LookupError:
            return self.body.decode("utf-8-sig", "replace")


class GuardedResolver(AbstractResolver):
    """Resolves once and checks every answer; aiohttp then connects to just what it is given."""

    def __init__(self, policy: Policy) -> None:
        """`policy` says which internal addresses are allowed."""
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Every address of `host`. Raises Blocked if one of them may not be reached, OSError if there is none."""
        answers = await lookup(host, port)
        results = []
        for address_family, address in answers:
            self._policy.check_address(host, port, address)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=address_family,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    async def close(self) -> None:
        """Nothing is kept open."""


async def lookup(host: str, port: int) -> list[tuple[int, str]]:
    """(family, address) pairs from the system's resolver: the network edge that tests replace."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(int(family), str(address[0])) for family, _type, _proto, _name, address in infos]


class Client:
    """Sends requests under one policy. Threads may share it; a forked child gets a loop of its own."""

    def __init__(self, policy: Policy, *, user_agent: str = "Cardkey") -> None:
        """Open nothing yet."""
        self.policy = policy
        self._user_agent = user_agent
        self._lock = threading.Lock()
        self._owner = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        limits: Limits,
        redirects: int = 0,
    ) -> Reply:
        """One call, on the client's own loop. Raises OutboundFailure.

        No redirect is followed unless `redirects` (3 at most) allows it; each hop is checked like the first.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(limits.deadline):
                return await self._follow(method, url, headers, body, limits, min(redirects, MOST_REDIRECTS), started)
        except TimeoutError:
            host = urlsplit(url).hostname or ""
            words = f"{host} did not finish answering within {limits.deadline:g} seconds."
            raise Timeout(host, words) from None

    def send_now(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: bytes | None = None,
        limits: Limits,
        redirects: int = 0,
    ) -> Reply:
        """`send` for synchronous callers, from any thread."""
        return self.run(self.send(method, url, headers=headers, body=body, limits=limits, redirects=redirects))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the client's loop and wait for it; it is cancelled if the caller is interrupted."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._running_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Close connections and end the loop's thread."""
        with self._lock:
            loop, session = self._loop, self._session
            mine = self._owner == os.getpid()
            self._loop = self._session = None
            atexit.unregister(self.close)
        if loop is None or not mine:
            return
        if session is not None:
            asyncio.run_coroutine_threadsafe(session.close(), loop).result(CLOSING_SECONDS)
        loop.call_soon_threadsafe(loop.stop)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """The loop's thread, started on first use and again after a fork, which takes no thread along."""
        with self._lock:
            if self._loop is None or self._owner != os.getpid():
                self._loop, self._session, self._owner = asyncio.new_event_loop(), None, os.getpid()
                threading.Thread(target=_serve, args=(self._loop,), name="outbound", daemon=True).start()
                atexit.register(self.close)
            return self._loop

    def _pool(self) -> aiohttp.ClientSession:
        """The session, made on the loop: connections kept, no cookies, no proxies from the environment."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=GuardedResolver(self.policy), use_dns_cache=False, limit=0, enable_cleanup_closed=True
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": self._user_agent},
                skip_auto_headers=("Content-Type",),
                max_line_size=16 * 1024,
                max_field_size=16 * 1024,
            )
        return self._session

    async def _follow(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
        redirects: int,
        started: float,
    ) -> Reply:
        while True:
            reply = await self._once(method, check_url(url, self.policy), headers, body, limits, started)
            if reply.status not in REDIRECTS or redirects == 0 or "location" not in reply.headers:
                return reply
            redirects -= 1
            target = urljoin(url, reply.headers["location"])
            method, body = _after_redirect(method, url, target, body, reply.status)
            if not _same_origin(url, target):
                headers = {name: value for name, value in headers.items() if name.lower() not in SECRET_HEADERS}
            url = target

    async def _once(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limits: Limits, started: float
    ) -> Reply:
        host = urlsplit(url).hostname or ""
        connected = False
        try:
            async with self._pool().request(
                method,
                URL(url, encoded=True),
                headers=dict(headers),
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect, sock_connect=limits.connect),
            ) as response:
                connected = True
                content = await _read(response, host, limits.max_bytes)
                return Reply(
                    response.status, response.headers, content, url, time.monotonic() - started, response.charset
                )
        except aiohttp.ClientError as error:
            raise _sorted(error, host, connected) from None
        except OSError as error:
            if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError):
                raise
            raise Unreachable(host, f"{host} cannot be reached.", maybe_sent=connected) from None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    """The loop's thread: runs until the client is closed, then gives the loop's own sockets back."""
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _read(response: aiohttp.ClientResponse, host: str, most: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        content += chunk
        if len(content) > most:
            response.close()
            raise TooLarge(host, f"{host} sent more than {most // 1024} KiB, which is the limit.")
    return bytes(content)


def _sorted(error: aiohttp.ClientError, host: str, connected: bool) -> OutboundFailure:
    """One of ours for one of aiohttp's; a refusal raised inside the resolver comes out as it went in."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, Blocked):
            return inner
        inner = inner.__cause__ or inner.__context__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        reason = getattr(getattr(error, "certificate_error", error), "verify_message", "") or "it was refused"
        return CertificateProblem(host, f"The certificate of {host} could not be trusted: {reason}.")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Unreachable(host, f"{host} cannot be reached.")
    return Unreachable(host, f"{host} broke off the connection or sent something that is not HTTP.", maybe_sent=True)


def _same_origin(one: str, other: str) -> bool:
    return (urlsplit(one).scheme, origin(one)) == (urlsplit(other).scheme, origin(other))


def _after_redirect(method: str, url: str, target: str, body: bytes | None, status: int) -> tuple[str, bytes | None]:
    """Method and body for the next hop; a body never travels to another origin."""
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise RedirectRefused(urlsplit(url).hostname or "", "A redirect from https to http was not followed.")
    if status in (307, 308):
        if body is not None and not _same_origin(url, target):
            raise RedirectRefused(urlsplit(url).hostname or "", "A redirect would send the request's body elsewhere.")
        return method, body
    return ("HEAD" if method == "HEAD" else "GET"), None

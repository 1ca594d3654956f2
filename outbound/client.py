"""The guarded HTTP client: asynchronous inside, with a synchronous face; one event loop and pool a process."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from outbound import redirects as following
from outbound.addresses import REMEMBERED, Policy, check_url, unreachable
from outbound.calls import Limits, Reply
from outbound.deadline import Deadline
from outbound.failures import (
    BadAddress,
    Blocked,
    CertificateProblem,
    OutboundFailure,
    Timeout,
    TooLarge,
    Unreachable,
)
from outbound.headers import check_sendable
from outbound.loop import LoopThread

T = TypeVar("T")
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
CHUNK = 64 * 1024
IDLE_SECONDS = 4
"""How long an idle connection is kept: less than servers commonly do, lest a request meet a closing one."""
LOOKUPS = 64
"""Names looked up at once, in threads of their own: a slow name server holds nobody else up."""


class GuardedResolver(AbstractResolver):
    """Resolves once and checks every answer; aiohttp then connects to just what it is given."""

    def __init__(self, policy: Policy) -> None:
        """`policy` says which internal addresses are allowed."""
        self._policy = policy

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[ResolveResult]:
        """Every address of `host`. Raises OSError if there is none, or if one of them may not be reached.

        So a name inside the network looks to whoever typed it like one that nobody has, or that lets nobody in (EG-09).
        """
        answers = await lookup(host, port)
        results = []
        for address_family, address in answers:
            try:
                self._policy.check_address(host, port, address)
            except Blocked:
                raise OSError("no address that may be called") from None
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
    ask = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    try:
        infos = await asyncio.get_running_loop().run_in_executor(_lookup_threads(os.getpid()), ask)
    except UnicodeError:
        raise OSError("no such name") from None
    return [(int(family), str(address[0])) for family, _type, _proto, _name, address in infos]


@functools.cache
def _lookup_threads(_process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")


class _Call:
    """One call under way: when it began, and what has arrived of the reply."""

    def __init__(self, limits: Limits) -> None:
        """It begins now."""
        self.limits = limits
        self.response: aiohttp.ClientResponse | None = None
        self.content = bytearray()
        self._started = time.monotonic()

    def reply(self, response: aiohttp.ClientResponse) -> Reply:
        """What has arrived."""
        elapsed = time.monotonic() - self._started
        return Reply(
            response.status, response.headers, bytes(self.content), str(response.url), elapsed, response.charset
        )

    def arrived(self) -> Reply | None:
        """The same of a reply that broke off; None while there is none, or nothing in it."""
        if self.response is None:
            return None
        self.content += _unread(self.response.content)
        del self.content[self.limits.max_bytes :]
        return self.reply(self.response) if self.content else None


class Client:
    """Sends requests under one policy. Threads may share it; a forked child gets a loop of its own."""

    def __init__(self, policy: Policy, *, user_agent: str = "Cardkey") -> None:
        """Open nothing yet."""
        self.policy = policy
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._thread = LoopThread(self._let_go, self._finish)

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
        call = _Call(limits)
        try:
            async with Deadline(limits.deadline):
                return await self._follow(method, url, headers, body, call, min(redirects, following.MOST))
        except TimeoutError:
            host = urlsplit(url).hostname or ""
            failure: OutboundFailure = Timeout(
                host, f"{host} did not finish answering within {limits.deadline:g} seconds."
            )
        except OutboundFailure as problem:
            failure = problem
        failure.arrived = call.arrived()
        raise failure from None

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
        return self._thread.run(coroutine)

    def close(self) -> None:
        """Close connections and end the loop's thread."""
        self._thread.close()

    def _let_go(self) -> object:
        session, self._session = self._session, None
        return session

    async def _finish(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _pool(self) -> aiohttp.ClientSession:
        """The session, made on the loop: connections kept, no cookies, no proxies from the environment."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=GuardedResolver(self.policy), use_dns_cache=False, limit=0, keepalive_timeout=IDLE_SECONDS
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
        call: _Call,
        redirects: int,
    ) -> Reply:
        while True:
            reply = await self._once(method, check_url(url, self.policy), headers, body, call)
            if reply.status not in following.FOLLOWED or redirects == 0 or "location" not in reply.headers:
                return reply
            redirects -= 1
            target = following.target_of(url, reply.headers["location"], self.policy)
            method, headers, body = following.next_request(method, headers, body, reply.status, url, target)
            url = target

    async def _once(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, call: _Call) -> Reply:
        call.response = None
        target = (_remembered if "?" not in url else _parsed)(url)
        host = target.raw_host or ""
        for name, value in headers.items():
            check_sendable(host, name, value)
        try:
            async with self._pool().request(
                method,
                target,
                headers=dict(headers),
                data=body,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=call.limits.connect, sock_connect=call.limits.connect
                ),
            ) as response:
                await _read(response, host, call)
                return call.reply(response)
        except aiohttp.ClientError as error:
            raise _sorted(error, host) from None
        except TimeoutError:
            raise
        except OSError:
            raise Unreachable(host, unreachable(host), maybe_sent=True) from None


def _parsed(url: str) -> URL:
    """The address as aiohttp reads it, which must be as it was checked."""
    target, checked = URL(url, encoded=True), urlsplit(url)
    port = {"https": 443, "http": 80}.get(checked.scheme) if checked.port is None else checked.port
    if (target.scheme, (target.raw_host or "").lower(), target.port) != (checked.scheme, checked.hostname, port):
        raise BadAddress(checked.hostname or "", "This address can be read in two ways.")
    return target


_remembered = functools.lru_cache(maxsize=REMEMBERED)(_parsed)


def _unread(content: aiohttp.StreamReader) -> bytes:
    """What was received and is not handed out any more: once a connection is broken, aiohttp only says so."""
    pieces, read = getattr(content, "_buffer", ()), getattr(content, "_buffer_offset", 0)
    return b"".join(pieces)[read:]


async def _read(response: aiohttp.ClientResponse, host: str, call: _Call) -> None:
    most = call.limits.max_bytes
    call.response, call.content = response, bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        call.content += chunk
        if len(call.content) > most:
            del call.content[most:]
            response.close()
            raise TooLarge(host, f"{host} sent more than {most // 1024} KiB, which is the limit.")


def _sorted(error: aiohttp.ClientError, host: str) -> OutboundFailure:
    """One of ours for one of aiohttp's."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it was refused"
        return CertificateProblem(host, f"The certificate of {host} could not be trusted: {reason}.")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return Unreachable(host, f"{host} does not offer a secure connection (TLS 1.2 or newer) at this address.")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return Unreachable(host, unreachable(host))
    return Unreachable(host, f"{host} broke off the connection or sent something that is not HTTP.", maybe_sent=True)

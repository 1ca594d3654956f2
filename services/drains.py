"""A drain: claim what is due, send it concurrently, store what comes, until nothing is due. One event loop, no timers.

Requests run on the loop of the guarded client; whatever touches the database runs in a thread beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext

from models import Trigger
from oauth.grants import GRANTS
from oauth.session import TokenClient
from oauth.vocabulary import OAuthFailure
from services import leases, settle
from services.claims import Claim
from services.resources import Resources
from services.settle import Result

SHARE = 4
"""Of what may be in flight, or is: so much of it must have ended before the database is asked for more."""


async def send(resources: Resources, claim: Claim) -> Result:
    """The one request of a refresh."""
    params = GRANTS[claim.registration.grant_type].renewal_params(claim.registration, claim.refresh_token)
    step = "token request" if claim.trigger is Trigger.AUTHORIZE else "refresh"
    try:
        client = TokenClient(
            resources.http, claim.registration, resources.token_limits, step=step, worked=claim.auth_method
        )
        return claim, await client.obtain(params)
    except OAuthFailure as failure:
        return claim, failure


class Drain:
    """One drain.

    A database that goes away, or a mistake of ours, stops the claiming only: what has been sent is still waited for
    and stored, since its refresh token may be spent.
    """

    def __init__(self, resources: Resources, going_on: Callable[[], bool], limit: int) -> None:
        """At most `limit` in flight; nothing is sent any more once `going_on` says no."""
        self._resources, self._going_on, self._limit = resources, going_on, limit
        self._under_way: set[asyncio.Task[Result]] = set()
        self._arrived: list[Result] = []
        self._being_stored = 0
        self._beside: dict[str, asyncio.Task[None]] = {}
        """The claim and the commit under way, one of each at most."""
        one_writer = resources.database.engine.dialect.name == "sqlite"
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if one_writer else nullcontext()
        self._news = asyncio.Event()
        self._problem: BaseException | None = None
        self._sent = 0
        self._claimed_at = float("-inf")
        self._enough = limit
        """With how many in flight or fewer the database is asked for more; below zero when it had nothing for us."""

    async def run(self) -> int:
        """Until nothing is due or it is to end; how many requests were made. Raises what went wrong on the way."""
        while True:
            if self._wants_more():
                self._begin("claim", self._claim())
            if self._arrived and "store" not in self._beside:
                self._begin("store", self._store())
            if not self._beside and not self._in_flight:
                break
            await self._news_or_tick()
        if self._problem is not None:
            raise self._problem
        return self._sent

    @property
    def _in_flight(self) -> int:
        return len(self._under_way) + len(self._arrived) + self._being_stored

    def _wants_more(self) -> bool:
        """Whether to ask the database for more: after each request that ends a look would cost too much."""
        if self._problem is not None or "claim" in self._beside or self._in_flight >= self._limit:
            return False
        waited = time.monotonic() - self._claimed_at >= self._resources.settings.tick
        return (self._in_flight <= self._enough or waited) and self._going_on()

    def _begin(self, name: str, work: Coroutine[None, None, None]) -> None:
        """Do something beside the waiting; what it raises ends the claiming, and is told when the drain ends."""
        task = asyncio.create_task(work)
        self._beside[name] = task

        def over(ended: asyncio.Task[None]) -> None:
            del self._beside[name]
            self._problem = (None if ended.cancelled() else ended.exception()) or self._problem
            self._news.set()

        task.add_done_callback(over)

    async def _claim(self) -> None:
        room = self._limit - self._in_flight
        async with self._turn:
            claims = await asyncio.to_thread(self._claim_due, room)
        self._claimed_at = time.monotonic()
        for claim in claims:
            task = asyncio.create_task(send(self._resources, claim))
            task.add_done_callback(self._ended)
            self._under_way.add(task)
        self._sent += len(claims)
        most = self._in_flight  # less than the limit where hosts are full: there is room when some of it has ended
        self._enough = most - max(1, most // SHARE)

    def _claim_due(self, room: int) -> list[Claim]:
        with self._resources.database.session(writing=True) as session:
            return leases.claim_due(session, self._resources.settings, room, self._resources.floors)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and task.exception() is None:
            self._arrived.append(task.result())
        elif not task.cancelled():
            self._problem = task.exception()
        self._news.set()

    async def _news_or_tick(self) -> None:
        """Wait until something has happened; for a tick at most, since something may have fallen due."""
        try:
            async with asyncio.timeout(self._resources.settings.tick):
                await self._news.wait()
        except TimeoutError:
            return
        self._news.clear()

    async def _store(self) -> None:
        """Store whatever has arrived since the last commit."""
        async with self._turn:
            results, self._arrived = self._arrived, []
            self._being_stored = len(results)
            try:
                await asyncio.to_thread(settle.persist, self._resources, results)
            finally:
                self._being_stored = 0


def drain(
    resources: Resources, seconds: float, *, limit: int = 200, stopping: Callable[[], bool] = lambda: False
) -> int:
    """Refresh whatever is due until nothing is, or for `seconds`; returns how many requests were made.

    Once `stopping` says so no request is started; those under way are finished and stored.
    Raises OperationalError and its like while the database is away, after storing what could be stored.
    """
    until = time.monotonic() + seconds

    async def run() -> int:
        return await Drain(resources, lambda: time.monotonic() < until and not stopping(), limit).run()

    return resources.http.run(run())

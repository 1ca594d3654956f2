"""A drain: claim what is due, send it concurrently, store what comes, until nothing is due. One event loop, no timers.

Requests run on the loop of the guarded client; whatever touches the database runs in a thread beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext

from models import Trigger
from models.types import steady
from oauth.grants import GRANTS
from oauth.session import TokenClient
from oauth.vocabulary import FailureClass, OAuthFailure
from services.engine import leases, settle
from services.engine.claims import Claim
from services.engine.settle import Result
from services.resources import Resources

STOOD_STILL = "This process stood still for too long to send the request: by now somebody else may be sending it."
SHARE = 8
"""Of what may be in flight, or is: so much of it must have ended before the database is asked for more."""


async def send(resources: Resources, claim: Claim) -> Result:
    """The one request of a refresh; none where the process stood still for so long that the lease would not last."""
    if steady() + resources.token_limits.deadline > claim.lease_ends:
        return claim, OAuthFailure("refresh", FailureClass.UNKNOWN, STOOD_STILL, code=settle.NOT_SENT)
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
        self._enough: int | None = None
        """How many may be leased when the database is asked again, after it had less than we had room for."""

    async def run(self) -> int:
        """Until nothing is due or it is to end; how many requests were made. Raises what went wrong on the way."""
        while True:
            if self._wants_more():
                self._begin("claim", self._claim())
            if self._arrived and "store" not in self._beside:
                self._begin("store", self._store())
            if not (self._beside or self._under_way or self._arrived):
                break
            await self._news_or_tick()
        if self._problem is not None:
            raise self._problem
        return self._sent

    @property
    def _waiting(self) -> int:
        return len(self._arrived) + self._being_stored

    @property
    def _leased(self) -> int:
        return len(self._under_way) + self._waiting

    @property
    def _room(self) -> int:
        """For how many requests more; replies that wait to be stored take none until there are many of them."""
        return self._limit - len(self._under_way) - max(0, self._waiting - self._limit // 2)

    def _wants_more(self) -> bool:
        """Whether to ask the database for more: after each request that ends a look would cost too much."""
        if self._problem is not None or "claim" in self._beside or self._room <= 0:
            return False
        worth_it = self._room >= self._limit // SHARE if self._enough is None else self._leased <= self._enough
        waited = time.monotonic() - self._claimed_at >= self._resources.settings.tick
        return (worth_it or waited) and self._going_on()

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
        async with self._turn:
            room = max(1, self._room)
            claims = await asyncio.to_thread(self._claim_due, room)
        self._claimed_at = time.monotonic()
        for claim in claims:
            task = asyncio.create_task(send(self._resources, claim))
            task.add_done_callback(self._ended)
            self._under_way.add(task)
        self._sent += len(claims)
        # Where hosts are full there is room when some of it has ended; where nothing is leased, nothing more is due.
        self._enough = None if len(claims) == room else self._leased - max(1, self._leased // SHARE)

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

"""A drain: claim what is due, send it concurrently, store what comes, until nothing is due. One event loop, no timers.

Requests run on the loop of the guarded client; whatever touches the database runs in a thread beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
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
PACES = 4
"""How often in a tick it is reckoned how many requests end in one."""
RANK = {trigger: priority for priority, trigger in leases.TRIGGERS.items()}
BATCH, SHARE = 4, 8
"""Of what may be in flight: for so much of it there must be room before the database is asked for more. Where it had
less than there was room for, so much of what is leased must have ended."""


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

    def __init__(self, resources: Resources, seconds: float, stopping: Callable[[], bool], limit: int) -> None:
        """At most `limit` in flight; no claim after `seconds`, and nothing is sent once `stopping` says so."""
        self._resources, self._stopping, self._limit = resources, stopping, limit
        self._until = time.monotonic() + seconds
        self._ahead: deque[Claim] = deque()
        """Leased, and waiting for a place among those under way: the most urgent first."""
        self._under_way: set[asyncio.Task[Result]] = set()
        self._arrived: list[Result] = []
        self._being_stored = 0
        self._beside: dict[str, asyncio.Task[None]] = {}
        """What is under way at the database: a claim, a commit, a giving back, one of each at most."""
        one_writer = resources.database.engine.dialect.name == "sqlite"
        self._turn: AbstractAsyncContextManager[object] = asyncio.Lock() if one_writer else nullcontext()
        self._news = asyncio.Event()
        self._problem: BaseException | None = None
        self._sent = self._over = 0
        self._spare = 0
        """How many may be leased ahead: what goes out within a tick, since somebody may pause it."""
        self._claimed_at = self._reckoned_at = time.monotonic()
        self._enough: int | None = None
        """How many may be leased when the database is asked again, after it had less than we had room for."""

    async def run(self) -> int:
        """Until nothing is due or it is to end; how many requests were made. Raises what went wrong on the way."""
        while True:
            if self._wants_more():
                self._begin("claim", self._claim())
            if self._ahead and not self._may_send() and "return" not in self._beside:
                self._begin("return", self._give_back())
            if self._arrived and "store" not in self._beside:
                self._begin("store", self._store())
            if not (self._beside or self._under_way or self._arrived or self._ahead):
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
        return len(self._ahead) + len(self._under_way) + self._waiting

    @property
    def _room(self) -> int:
        """For how many leases more; replies that wait to be stored take none until there are many of them."""
        most = self._limit + self._spare
        return most - len(self._ahead) - len(self._under_way) - max(0, self._waiting - self._limit // 2)

    def _may_send(self) -> bool:
        return self._problem is None and not self._stopping()

    def _wants_more(self) -> bool:
        """Whether to ask the database for more: after each request that ends a look would cost too much."""
        if "claim" in self._beside or self._room <= 0 or not self._may_send() or time.monotonic() >= self._until:
            return False
        worth_it = self._room >= self._limit // BATCH if self._enough is None else self._leased <= self._enough
        waited = time.monotonic() - self._claimed_at >= self._resources.settings.tick
        return worth_it or waited

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
            room, in_the_way = min(self._limit, max(1, self._room)), self._leased
            claims = await asyncio.to_thread(self._claim_due, room)
        self._claimed_at = time.monotonic()
        self._keep_pace()
        self._ahead = deque(sorted([*self._ahead, *claims], key=lambda claim: RANK[claim.trigger]))
        self._send_on()
        # Where hosts are full there is room when some of it has ended. Nothing more is due where nothing was leased,
        # not even when the look began: what is stored meanwhile may have been in its way.
        least = 0 if in_the_way else -1
        self._enough = None if len(claims) == room else max(least, self._leased - max(1, self._leased // SHARE))

    def _claim_due(self, room: int) -> list[Claim]:
        with self._resources.database.session(writing=True) as session:
            return leases.claim_due(session, self._resources.settings, room, self._resources.floors)

    def _keep_pace(self) -> None:
        """Reckon now and then, from how many requests have ended, how many may be leased ahead."""
        tick, passed = self._resources.settings.tick, self._claimed_at - self._reckoned_at
        if passed >= tick / PACES:
            self._spare = min(self._limit, int(self._over * tick / passed))
            self._reckoned_at, self._over = self._claimed_at, 0

    def _send_on(self) -> None:
        """Send what is leased, as far as there are places."""
        while self._ahead and len(self._under_way) < self._limit and self._may_send():
            task = asyncio.create_task(send(self._resources, self._ahead.popleft()))
            task.add_done_callback(self._ended)
            self._under_way.add(task)
            self._sent += 1

    async def _give_back(self) -> None:
        """Nothing more is to be sent: whoever claims next may have what was leased ahead."""
        async with self._turn:
            claims, self._ahead = self._ahead, deque()
            await asyncio.to_thread(settle.give_back, self._resources, claims)

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._under_way.discard(task)
        self._over += 1
        if not task.cancelled() and task.exception() is None:
            self._arrived.append(task.result())
        elif not task.cancelled():
            self._problem = task.exception()
        self._send_on()
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

    async def run() -> int:
        return await Drain(resources, seconds, stopping, limit).run()

    return resources.http.run(run())

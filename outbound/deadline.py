"""The time a call may take. Sends nothing."""

from __future__ import annotations

import asyncio
from types import TracebackType

STOOD_STILL = 0.5
"""By so many seconds a deadline is noticed late only where the whole process stood still."""
AFTERWARDS = 1.0
"""Seconds to read what arrived meanwhile."""


class Deadline:
    """`asyncio.timeout`, fair to a process that stood still: stopped, swapped out, its machine suspended.

    Then the answer may lie in the socket, and in it the only valid refresh token: it is read before time is called.
    """

    def __init__(self, seconds: float) -> None:
        """From the `async with` on. What takes longer ends with a TimeoutError."""
        self._seconds = seconds
        self._limit = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._limit.__aenter__()
        self._ends = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(self._ends, self._over)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._timer.cancel()
        await self._limit.__aexit__(kind, error, at)

    def _over(self) -> None:
        now = self._loop.time()
        self._limit.reschedule(now + (AFTERWARDS if now - self._ends > STOOD_STILL else 0.0))

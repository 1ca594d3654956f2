"""The event loop that calls are made on: one a process, in a thread of its own, begun on first use."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
CLOSING_SECONDS = 5

# What a forked child inherits is never touched again, not even by the garbage collector: closing it would
# take the parent's sockets out of the epoll set that both processes share.
_inherited: list[object] = []


class LoopThread:
    """A loop that any thread can run coroutines on. A forked child starts its own."""

    def __init__(self, keep: Callable[[], object], finish: Callable[[], Awaitable[None]]) -> None:
        """`finish` runs on the loop at the end; `keep` gives, and lets go of, what a child must not use."""
        self._keep, self._finish = keep, finish
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None
        mine = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(mine()))

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run `coroutine` on the loop and wait for it; it is cancelled if the caller is interrupted."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what is under way, finish, and end the thread. The next `run` begins anew."""
        with self._lock:
            running, self._running = self._running, None
        if running is None:
            return
        atexit.unregister(self.close)
        loop, thread = running
        asyncio.run_coroutine_threadsafe(self._wind_up(), loop).result(CLOSING_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSING_SECONDS)
        if not thread.is_alive():
            loop.close()

    def forget(self) -> None:
        """In a forked child: the parent's loop stays the parent's, and the lock may be held by no one here."""
        _inherited.append((self._running, self._keep(), self._lock))
        self._lock, self._running = threading.Lock(), None

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._running is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(target=loop.run_forever, name="outbound", daemon=True)
                thread.start()
                self._running = loop, thread
                atexit.register(self.close)
            return self._running[0]

    async def _wind_up(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._finish()


def _forget(thread: LoopThread | None) -> None:
    if thread is not None:
        thread.forget()

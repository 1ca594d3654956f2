"""Asking providers when tokens end, from a thread of its own beside the worker's loop, so that no refresh waits."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import logs
from services.engine import introspection
from services.resources import Resources
from workers.process import DATABASE_AWAY

log = logs.get(__name__)

EVERY_SECONDS = 2.0
"""How often the thread looks whether there is a token to ask about."""
RUN_SECONDS = 60.0


class Asking:
    """Asks until the process is told to `stop`. A bug ends the process, as one in the worker's loop does."""

    def __init__(self, resources: Resources, stop: threading.Event) -> None:
        """Nothing is asked before the `with`."""
        self._resources, self._stop = resources, stop
        self._helper = ThreadPoolExecutor(max_workers=1, thread_name_prefix="asking")

    def __enter__(self) -> Asking:
        self._work = self._helper.submit(self._ask_on)
        self._work.add_done_callback(lambda _work: self._stop.set())
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._helper.shutdown(wait=True)
        self._work.result()

    def _ask_on(self) -> None:
        while not self._stop.is_set():
            self._ask()
            self._stop.wait(EVERY_SECONDS)

    def _ask(self) -> None:
        try:
            with self._resources.database.session() as session:
                waiting = introspection.waiting(session)
            if waiting:
                introspection.run(self._resources, RUN_SECONDS, stopping=self._stop.is_set)
        except DATABASE_AWAY as problem:
            log.warning("nobody was asked: the database is away", problem=type(problem).__name__)

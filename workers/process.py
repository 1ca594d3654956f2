"""What worker and scheduler have in common: ending in good order, and being seen to be alive."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from types import FrameType, TracebackType

import logs
from models import database
from services.operating import heartbeats
from services.resources import Resources

log = logs.get(__name__)

DATABASE_AWAY = database.AWAY
BEAT_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""How much longer than a drain may take a loop may be silent before the process counts as stuck."""


def stop_on_signals() -> threading.Event:
    """Set on SIGTERM and SIGINT. Nothing is interrupted: what is under way is finished, nothing new is begun."""
    stop = threading.Event()

    def ask_to_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    return stop


def spare_the_collector() -> None:
    """What is loaded by now stays for good: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


class Pulse:
    """Writes this process' heartbeat from a thread of its own, as long as the process' loop moves."""

    def __init__(self, resources: Resources, kind: str) -> None:
        """`kind` is `worker` or `scheduler`."""
        self._resources, self._kind = resources, kind
        self._name = f"{kind}:{socket.gethostname()[:80]}:{os.getpid()}"
        settings = resources.settings
        self._patience = settings.drain_time + settings.lease + PATIENCE_SECONDS
        self._moved = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="pulse", daemon=True)

    def moved(self) -> None:
        """The loop came round once more."""
        self._moved = time.monotonic()

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        try:
            with self._resources.database.session(writing=True) as session:
                heartbeats.end(session, self._name)
        except DATABASE_AWAY:
            log.warning("could not sign off: the database is away", process=self._name)

    def _beat_on(self) -> None:
        while True:
            if time.monotonic() - self._moved < self._patience:
                self._beat()
            else:
                log.error("the loop does not move", process=self._name)
            if self._ended.wait(BEAT_SECONDS):
                return

    def _beat(self) -> None:
        try:
            with self._resources.database.session(writing=True) as session:
                heartbeats.beat(session, self._name, self._kind)
        except DATABASE_AWAY as problem:
            log.warning("no heartbeat: the database is away", problem=type(problem).__name__)

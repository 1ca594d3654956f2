"""How many may do something at once in this process. Waits for nobody: whoever finds no room is told so."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

Key: TypeAlias = tuple[str, uuid.UUID]
"""What is counted: a kind and which of it."""


class NoRoom(Exception):
    """All places of `key` are taken."""

    def __init__(self, key: Key) -> None:
        """`key` as it was asked for."""
        super().__init__("all places are taken")
        self.key = key


class Slots:
    """Counts places by key; threads may share it."""

    def __init__(self) -> None:
        """Every place is free."""
        self._lock = threading.Lock()
        self._taken: Counter[Key] = Counter()

    @contextmanager
    def hold(self, most: Mapping[Key, int]) -> Iterator[None]:
        """Take one place of every key, all or none, and give them back at the end. Raises NoRoom."""
        with self._lock:
            for key, limit in most.items():
                if self._taken[key] >= limit:
                    raise NoRoom(key)
            self._taken.update(most.keys())
        try:
            yield
        finally:
            with self._lock:
                self._taken.subtract(most.keys())
                self._taken = +self._taken

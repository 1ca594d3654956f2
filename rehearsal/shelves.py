"""Where the rehearsal provider keeps what a restart must not forget: one SQLite file, written before it answers."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

VERSION = 1
"""Of what stands in the file; one with another number is not read."""
MADE = f"""
BEGIN;
CREATE TABLE kept (shelf TEXT, name TEXT, value TEXT NOT NULL, PRIMARY KEY (shelf, name)) WITHOUT ROWID;
PRAGMA user_version = {VERSION};
COMMIT;
"""
Kept = TypeVar("Kept")


class Unreadable(Exception):
    """The file is damaged, or was written by another version; the message says which."""


class Store:
    """The file, or without a path the same in memory. For one thread at a time."""

    def __init__(self, path: Path | None = None) -> None:
        """Open the file, made if it is not there, closed to others. Raises Unreadable; OSError, OperationalError."""
        if path is not None:
            path.touch(mode=0o600)
            path.chmod(0o600)
        self._line = sqlite3.connect(path or ":memory:", check_same_thread=False)
        try:
            self._check()
        except sqlite3.OperationalError:
            raise  # it may be whole: it is in use, or the disk is full
        except sqlite3.DatabaseError as problem:
            raise Unreadable(str(problem)) from None

    def rows(self, shelf: str) -> list[tuple[str, str]]:
        """Names and values of a shelf."""
        return self._line.execute("SELECT name, value FROM kept WHERE shelf = ?", (shelf,)).fetchall()

    def put(self, shelf: str, name: str, value: str) -> None:
        """Write one value; inside of `whole`."""
        self._line.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (shelf, name, value))

    def drop(self, shelf: str, name: str) -> None:
        """Take one away; inside of `whole`."""
        self._line.execute("DELETE FROM kept WHERE shelf = ? AND name = ?", (shelf, name))

    def whole(self) -> sqlite3.Connection:
        """A context whose changes are written to the disk as one at its end; an exception takes them back."""
        return self._line

    def _check(self) -> None:
        """See that it is ours and whole; a new one is made ours."""
        [version] = self._line.execute("PRAGMA user_version").fetchone()
        [tables] = self._line.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (version, tables) == (0, 0):
            self._line.executescript(MADE)
        elif version != VERSION:
            raise Unreadable("it was written by another version")
        [found] = self._line.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise Unreadable(str(found))


class Shelf(UserDict[str, Kept], Generic[Kept]):
    """A dict of the store's: each change is written there; only inside of `Store.whole`."""

    def __init__(self, store: Store, name: str, kind: Callable[..., Kept]) -> None:
        """Take out what is there; a dataclass is made of its fields. Raises Unreadable."""
        self._store, self._name = store, name
        super().__init__()
        try:
            for key, text in store.rows(name):
                value = json.loads(text)
                self.data[key] = kind(**value) if isinstance(value, dict) else kind(value)
        except (ValueError, TypeError, sqlite3.OperationalError) as problem:
            raise Unreadable(str(problem)) from None

    def __setitem__(self, key: str, value: Kept) -> None:
        """On the shelf and in the store."""
        plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
        self._store.put(self._name, key, json.dumps(plain))
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        """From the shelf and from the store."""
        self._store.drop(self._name, key)
        super().__delitem__(key)


def set_aside(path: Path) -> Path:
    """Give an unreadable file another name; returns it. A journal of its own would spoil the next one."""
    aside = path.with_suffix(".unreadable")
    path.replace(aside)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)
    return aside

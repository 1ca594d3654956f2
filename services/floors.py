"""Where in the index of what is due to begin looking, as one process remembers it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import func
from sqlmodel import Session, col, select

from models import Priority, Token

LOOK_AGAIN_SECONDS = 5.0
"""How often a process looks at everything that is due, not only from where there was something last time."""
BEHIND = {Priority.AGENT_FACING: 60.0, Priority.MANUAL: 60.0, Priority.SCHEDULED: 2.0, Priority.KEEP_ALIVE: 2.0}
"""Seconds by which it looks further back than that: clocks differ, and transactions take a while to be seen."""


class Floors:
    """Where in the index of what is due to begin, as one process remembers it.

    PostgreSQL keeps the entries of rows refreshed long ago while somebody holds a snapshot open, and would read
    through all of them at each look.
    """

    def __init__(self, look_again: float = LOOK_AGAIN_SECONDS) -> None:
        """Begin with a look at everything. What is put below a floor is found within `look_again` seconds."""
        self._look_again = look_again
        self._found_at = float("-inf")
        self._floors: dict[Priority, datetime] = {}

    def of(self, session: Session, now: datetime) -> dict[Priority, datetime]:
        """For each priority a moment before which nothing is due, as far as anybody knew lately; empty for SQLite."""
        if session.get_bind().dialect.name != "postgresql":
            return {}
        if time.monotonic() - self._found_at > self._look_again:
            first = {
                priority: select(func.min(Token.next_refresh_at)).where(
                    Token.priority == priority, col(Token.next_refresh_at) <= now
                )
                for priority in Priority
            }
            found = session.execute(sa.select(*(query.scalar_subquery() for query in first.values()))).one()
            earliest = zip(first, found, strict=True)
            self._floors = {
                priority: min(moment or now, now - timedelta(seconds=BEHIND[priority])) for priority, moment in earliest
            }
            self._found_at = time.monotonic()
        return self._floors

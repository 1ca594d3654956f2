"""Finding and leasing what is due among many: the look at the index must not grow with the rows beside it."""

from __future__ import annotations

import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
from sqlalchemy import delete, update
from sqlmodel import col

from bench.crowd import identifier, settle_in
from bench.figures import Figure, Goal, Part, Wanted, compare
from bench.installation import Installation
from models import Refresh, Token
from models.types import utc_now
from services.engine import leases
from services.resources import Resources

FEW, MANY, MANY_QUICK = 10_000, 1_000_000, 100_000
WANTED = 200
"""How many are leased at once."""
LOOKS = 7
"""In each round, of which the median counts."""
NOWHERE = "http://127.0.0.1:9"
CHURN = 100
"""Rounds of claims during which somebody holds a snapshot open: so many times 200 dead index entries are left."""
SETTINGS = {name: str(WANTED) for name in ("host_concurrency", "strict_concurrency")} | {"agent_reserve": "0"}


def parts() -> Iterator[Part]:
    """All measurements of this module."""
    yield Part(("peek-sqlite",), partial(_compare, "sqlite"))
    yield Part(("peek-postgresql", "peek-snapshot-postgresql"), partial(_compare, "postgresql"))


class Field:
    """A database with so many connections, none of them due, and nobody but us at work."""

    def __init__(self, installation: Installation, count: int) -> None:
        """Fill it."""
        self.resources: Resources = installation.resources
        self.count = count
        now = utc_now()
        settle_in(self.resources, NOWHERE, 0, count, lambda number: now + timedelta(seconds=1800 + number % 3600))
        with self.resources.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(
                "VACUUM ANALYZE" if installation.database.kind == "postgresql" else "PRAGMA optimize"
            )

    def look(self) -> float:
        """Seconds that a peek and a lease of 200 take; everything is as before afterwards."""
        ids = self._some()
        self._set(ids, utc_now())
        began = time.perf_counter()
        with self.resources.database.session() as session:
            oldest = leases.oldest_due(session, self.resources.floors)
        with self.resources.database.session(writing=True) as session:
            claims = leases.claim_due(session, self.resources.settings, WANTED, self.resources.floors)
        taken = time.perf_counter() - began
        assert oldest is not None and len(claims) == WANTED, f"{oldest}, {len(claims)} leased"
        self._set(ids, utc_now() + timedelta(hours=1))
        return taken

    def _some(self) -> list[uuid.UUID]:
        """Spread over the table, other ones each time."""
        start = time.monotonic_ns() % self.count
        step = self.count // WANTED
        return [identifier("t", (start + place * step) % self.count) for place in range(WANTED)]

    def _set(self, ids: Sequence[uuid.UUID], due: datetime) -> None:
        free = {"lease_owner": None, "lease_until": None}
        with self.resources.database.session(writing=True) as session:
            session.execute(update(Token).where(col(Token.id).in_(ids)).values(next_refresh_at=due, **free))
            session.execute(delete(Refresh))
            session.commit()


def _compare(kind: str, wanted: Wanted) -> Iterator[Figure]:
    many = MANY_QUICK if wanted.quick else MANY
    with ExitStack() as stack:
        few_field, many_field = (
            Field(stack.enter_context(Installation(kind, SETTINGS)), count) for count in (FEW, many)
        )
        setup = f"{kind}, {WANTED} due, journal rows written, one durable commit"
        few, found = _rounds(wanted.rounds, few_field, many_field)
        reference = f"the same among {FEW:,}"
        goal = Goal(at_most=3)
        name = f"peek-{kind}"
        if wanted.wants(name):
            yield compare(name, "ms", f"among {many:,}, {setup}", goal, found, reference, few)
        if kind == "postgresql" and wanted.wants(f"peek-snapshot-{kind}"):
            with _snapshot(many_field.resources):
                for _ in range(CHURN):
                    many_field.look()
                few, found = _rounds(wanted.rounds, few_field, many_field)
            setup += f", a snapshot open for {CHURN * WANTED:,} refreshes"
            yield compare(f"peek-snapshot-{kind}", "ms", f"among {many:,}, {setup}", goal, found, reference, few)


def _rounds(count: int, *fields: Field) -> list[list[float]]:
    """Milliseconds, A B A B …, the median of a few looks in each round."""
    found: list[list[float]] = [[] for _ in fields]
    for _ in range(count):
        for field, times in zip(fields, found, strict=True):
            times.append(statistics.median(field.look() for _ in range(LOOKS)) * 1000)
    return found


@contextmanager
def _snapshot(resources: Resources) -> Iterator[None]:
    """Somebody's report that runs for hours."""
    engine = resources.database.engine
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        connection.execute(sa.text("SELECT count(*) FROM workspaces"))
        yield

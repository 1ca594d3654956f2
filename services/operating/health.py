"""How the installation is: what it needs to work, and the figures monitoring reads. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import redis
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, func, select

from models import Heartbeat, Priority, Token, schema
from models.types import utc_now
from services.engine import hosts
from services.operating import heartbeats, overview, providers
from services.resources import Resources

REDIS_SECONDS = 1.0
"""How long a check waits for Redis."""


@dataclass(frozen=True)
class Check:
    """One thing the installation needs, and how it stands in plain words."""

    ok: bool
    words: str


def ready(resources: Resources) -> dict[str, Check]:
    """Every check by name: database, redis, migrations, scheduler."""
    database = check_database(resources)
    if not database.ok:
        unknown = Check(False, "Not known while the database cannot be reached.")
        return {"database": database, "redis": check_redis(resources), "migrations": unknown, "scheduler": unknown}
    migrations = check_migrations(resources)
    scheduler = check_alive(resources, "scheduler") if migrations.ok else Check(False, "Not known before migrating.")
    return {"database": database, "redis": check_redis(resources), "migrations": migrations, "scheduler": scheduler}


def check_database(resources: Resources) -> Check:
    """Whether the database answers."""
    try:
        with resources.database.session() as session:
            session.execute(text("SELECT 1"))
    except SQLAlchemyError as problem:
        return Check(False, f"The database cannot be reached ({type(problem).__name__}).")
    return Check(True, "It answers.")


def check_redis(resources: Resources) -> Check:
    """Whether Redis answers."""
    if not resources.settings.redis_url:
        return Check(False, "CARDKEY_REDIS_URL is not set.")
    try:
        with connect_redis(resources) as client:
            client.ping()
    except (redis.RedisError, ValueError) as problem:
        return Check(False, f"Redis cannot be reached ({type(problem).__name__}).")
    return Check(True, "It answers.")


def check_migrations(resources: Resources) -> Check:
    """Whether the database has every table and column this version needs."""
    if schema.pending(resources.database.engine):
        return Check(False, "Migrations are missing: run flask db upgrade.")
    return Check(True, "The database is up to date.")


def check_alive(resources: Resources, kind: str) -> Check:
    """Whether a process of that kind has been heard of lately."""
    with resources.database.session() as session:
        seen = last_seen(session, kind)
    if seen is None:
        return Check(False, f"No {kind} has ever reported: start one with flask {kind}.")
    age = utc_now() - seen
    words = f"The last {kind} was heard of {max(age.total_seconds(), 0):.0f} s ago"
    if age > heartbeats.SILENT_AFTER:
        return Check(False, f"{words}: start one with flask {kind}.")
    return Check(True, f"{words}.")


def last_seen(session: Session, kind: str) -> datetime | None:
    """When a process of that kind reported last."""
    return session.exec(select(func.max(Heartbeat.seen_at)).where(Heartbeat.kind == kind)).one()


def connect_redis(resources: Resources) -> redis.Redis:
    """A client that gives up quickly. Raises ValueError for an unusable address."""
    return redis.Redis.from_url(
        resources.settings.redis_url, socket_connect_timeout=REDIS_SECONDS, socket_timeout=REDIS_SECONDS
    )


def metrics(resources: Resources, depth: int | None) -> bytes:
    """All figures in Prometheus' text format; `depth` is that of the queue, None while Redis is away."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(resources, depth))
    return generate_latest(registry)


class _Figures(Collector):
    """Counts when asked; no figure outlives the request, so any number of web processes tell the same."""

    def __init__(self, resources: Resources, depth: int | None) -> None:
        self._resources, self._depth = resources, depth

    def collect(self) -> Iterator[Metric]:
        """Each family; while the database is away only the figures that need none."""
        database = check_database(self._resources)
        yield _one("cardkey_database_up", "Whether the database answers.", float(database.ok))
        if database.ok and not schema.pending(self._resources.database.engine):
            with self._resources.database.session() as session:
                yield from _connections(session)
                yield from _due(session)
                yield from _providers(session)
                yield from _heartbeats(session)
        yield from _queue(self._depth)


def _connections(session: Session) -> Iterator[Metric]:
    family = GaugeMetricFamily("cardkey_connections", "Connections by the state shown.", labels=["state"])
    for shown, number in overview.counts(session).items():
        family.add_metric([shown], number)
    yield family


def _due(session: Session) -> Iterator[Metric]:
    now = utc_now()
    by_index = col(Token.priority).in_(list(Priority))  # it begins with the priority
    query = select(func.count(), func.min(Token.next_refresh_at)).where(by_index, col(Token.next_refresh_at) <= now)
    number, oldest = session.exec(query).one()
    late = (now - oldest).total_seconds() if oldest else 0.0
    leased = session.exec(select(func.count()).where(col(Token.lease_until) > now)).one()
    yield _one("cardkey_tokens_due", "Tokens whose refresh is due.", number)
    yield _one("cardkey_tokens_oldest_lateness_seconds", "How long the oldest due token has waited.", late)
    yield _one("cardkey_tokens_being_refreshed", "Tokens whose refresh is under way.", leased)


def _providers(session: Session) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "cardkey_providers", "Providers' hosts that do not stand as they should.", labels=["standing"]
    )
    for standing, number in providers.numbers(session, utc_now()).items():
        family.add_metric([standing.value], number)
    yield family
    paused = hosts.is_everything_paused(session)
    yield _one("cardkey_paused", "Whether all token requests are paused.", float(paused))


def _heartbeats(session: Session) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "cardkey_heartbeat_age_seconds", "Time since a process of a kind reported last.", labels=["kind"]
    )
    now = utc_now()
    for kind, seen in session.exec(
        select(Heartbeat.kind, func.max(Heartbeat.seen_at)).group_by(Heartbeat.kind).order_by(Heartbeat.kind)
    ):
        family.add_metric([kind], max(0.0, (now - seen).total_seconds()))
    yield family


def _queue(depth: int | None) -> Iterator[Metric]:
    yield _one("cardkey_redis_up", "Whether Redis answers.", float(depth is not None))
    if depth is not None:
        yield _one("cardkey_queue_depth", "Jobs waiting for a worker.", depth)


def _one(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)

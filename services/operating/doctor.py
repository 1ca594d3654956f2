"""Looking an installation over: what is well, what is not, and what to do about it. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, func, select

from models import Heartbeat
from models.types import utc_now
from services.operating import health, keys
from services.resources import Resources

SKEW_SECONDS = 5.0
"""Clocks further apart than this make leases and due times unreliable; beats come every few seconds."""
LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Verdict(StrEnum):
    """How a finding is meant."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    verdict: Verdict
    words: str
    next_step: str = ""
    """What to do, where something is to be done."""


def examine(resources: Resources) -> list[Finding]:
    """Every finding, in the order in which they are best mended. Never raises for what it examines."""
    found = [*_public_url(resources), *_proxies(resources), *_database(resources)]
    if not any(finding.verdict is Verdict.BAD and finding.what in ("database", "migrations") for finding in found):
        found += [*_writable(resources), *_clock(resources), *_keys(resources), *_processes(resources)]
    return [*found, *_redis(resources)]


def _public_url(resources: Resources) -> Iterator[Finding]:
    """People's browsers and providers come by this address."""
    settings = resources.settings
    address = urlsplit(settings.public_url)
    if address.path:
        yield Finding(
            "public address",
            Verdict.BAD,
            f"CARDKEY_PUBLIC_URL has the path {address.path}; the portal serves whole hosts only.",
            "Give Cardkey a host name of its own.",
        )
    elif not _is_local(resources) and not settings.is_https:
        yield Finding(
            "public address",
            Verdict.BAD,
            f"{settings.public_url} is reached without https: passwords and codes cross the network in plain.",
            "Put a proxy with a certificate in front, and set CARDKEY_PUBLIC_URL to its https:// address.",
        )
    else:
        yield Finding("public address", Verdict.OK, f"Providers send people back to {settings.redirect_url}")


def _proxies(resources: Resources) -> Iterator[Finding]:
    """How many stand in front decides whose address a visitor seems to have."""
    settings = resources.settings
    if settings.is_https and settings.trusted_proxies == 0:
        yield Finding(
            "proxies",
            Verdict.WARN,
            "The public address is https, but no proxy is trusted: every visitor seems to come from the proxy, "
            "so sign-in limits count all of them together.",
            "Set CARDKEY_TRUSTED_PROXIES to the number of proxies in front, usually 1.",
        )
    elif _is_local(resources) and settings.trusted_proxies:
        yield Finding(
            "proxies",
            Verdict.WARN,
            f"{settings.trusted_proxies} proxies are trusted although the public address is local: "
            "anybody who reaches the port can claim any address.",
            "Set CARDKEY_TRUSTED_PROXIES to 0, or CARDKEY_PUBLIC_URL to the proxy's address.",
        )


def _is_local(resources: Resources) -> bool:
    return urlsplit(resources.settings.public_url).hostname in LOCAL_HOSTS


def _database(resources: Resources) -> Iterator[Finding]:
    check = health.check_database(resources)
    kind = resources.database.engine.dialect.name
    if not check.ok:
        yield Finding("database", Verdict.BAD, check.words, "Start it, or correct CARDKEY_DATABASE_URL.")
        return
    yield Finding("database", Verdict.OK, f"{kind} answers.")
    migrations = health.check_migrations(resources)
    verdict = Verdict.OK if migrations.ok else Verdict.BAD
    yield Finding("migrations", verdict, migrations.words, "" if migrations.ok else "Run: flask db upgrade")


def _writable(resources: Resources) -> Iterator[Finding]:
    """Writes a row that no process reads, and takes it back."""
    started = time.monotonic()
    try:
        with resources.database.session(writing=True) as session:
            session.add(Heartbeat(process="doctor", kind="doctor", seen_at=utc_now()))
            session.flush()
            session.rollback()
    except DBAPIError as problem:
        words = f"The database cannot be written to ({type(problem).__name__})."
        yield Finding("writing", Verdict.BAD, words, "Check its disk space, its permissions and long transactions.")
        return
    yield Finding("writing", Verdict.OK, f"A row was written and taken back in {time.monotonic() - started:.2f} s.")


def _clock(resources: Resources) -> Iterator[Finding]:
    """Leases are times one host writes and another compares."""
    with resources.database.session() as session:
        before = utc_now()
        theirs = _database_time(session)
        skew = abs((theirs - (before + (utc_now() - before) / 2)).total_seconds())
        newest = session.exec(select(func.max(Heartbeat.seen_at))).one()
    ahead = (newest - utc_now()).total_seconds() if newest else 0.0
    worst = max(skew, ahead)
    if worst > SKEW_SECONDS:
        words = f"This host's clock and that of the database or another host are {worst:.0f} s apart."
        yield Finding("clocks", Verdict.BAD, words, "Let every host set its clock by the network (NTP).")
    else:
        yield Finding("clocks", Verdict.OK, f"This host and the database differ by {skew:.1f} s.")


def _database_time(session: Session) -> datetime:
    """What time it is for the database, UTC."""
    if session.get_bind().dialect.name == "sqlite":
        stamp = session.execute(text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')")).scalar_one()
        return datetime.fromisoformat(str(stamp)).replace(tzinfo=UTC)
    moment: datetime = session.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment.astimezone(UTC)


def _keys(resources: Resources) -> Iterator[Finding]:
    found = keys.check(resources)
    if found.damaged:
        words = f"{len(found.damaged)} stored secrets cannot be decrypted."
        yield Finding(
            "keys", Verdict.BAD, words, "Run flask keys check; put back the key it names, or enter them anew."
        )
        return
    old = sum(count for key_id, count in found.by_key.items() if key_id != found.current_id)
    if old:
        words = f"{old} stored secrets still need an older key."
        yield Finding("keys", Verdict.WARN, words, "Run: flask keys rotate")
        return
    words = f"All {found.by_key.total()} stored secrets decrypt with the key {found.current_id}."
    yield Finding("keys", Verdict.OK, words)


def _processes(resources: Resources) -> Iterator[Finding]:
    for kind in ("scheduler", "worker"):
        check = health.check_alive(resources, kind)
        verdict = Verdict.OK if check.ok else Verdict.BAD
        yield Finding(kind, verdict, check.words, "" if check.ok else f"Start one with: flask {kind}")


def _redis(resources: Resources) -> Iterator[Finding]:
    """Nothing is lost without Redis, so its absence is a warning."""
    check = health.check_redis(resources)
    if check.ok:
        yield Finding("redis", Verdict.OK, check.words)
    else:
        words = f"{check.words} Schedulers refresh tokens by themselves meanwhile; Refresh now is slower."
        yield Finding("redis", Verdict.WARN, words, "Start it, or correct CARDKEY_REDIS_URL.")

"""When a token ends and when it is renewed: pure arithmetic over what the provider said and what an admin knows.

Reads no clock and no database. All times are counted from the moment we received the token, never from a
provider's clock.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from config import Settings
from models import Connection, Priority
from oauth.lifetime import LONGEST_LIFETIME
from oauth.vocabulary import LifetimeRung, RefreshKind

DEFAULT_LIFETIME = 55 * 60.0
"""Seconds assumed of a token that can be renewed and of which nobody says or knows how long it lives."""
SHORTEST_LEARNED = 60.0
"""Seconds: an API that refuses younger tokens is telling of something else than their age."""
KEEP_ALIVE_SHARE = 0.5
"""Of the time after which a provider ends an unused refresh token: it is used by then."""
MARGIN, MARGIN_SHARE = 60.0, 0.2
"""Seconds a token must still be good for when it is handed out, and the share of a short life that will do."""


@dataclass(frozen=True)
class Timing:
    """What is set on a connection about the lives of its tokens, in seconds; None where nothing is."""

    assumed_lifetime: float | None = None
    longest_lifetime: float | None = None
    earliest_refresh: float | None = None
    idle_limit: float | None = None
    introspected: bool = False
    """Whether the provider can be asked for a token's end where its reply does not say."""

    @classmethod
    def of(cls, connection: Connection) -> Timing:
        """Of a connection; what asks afresh each time has no refresh token that could fall idle."""
        keeps_a_grant = connection.refresh_kind is RefreshKind.REFRESH_TOKEN
        return cls(
            assumed_lifetime=connection.assumed_lifetime,
            longest_lifetime=connection.longest_lifetime,
            earliest_refresh=connection.earliest_refresh,
            idle_limit=connection.idle_limit if keeps_a_grant else None,
            introspected=bool(connection.introspection_endpoint),
        )


@dataclass(frozen=True)
class Plan:
    """When a token ends, who says so, and when it is renewed at which priority."""

    expires_at: datetime | None
    """None: nobody knows, so it is used until its API refuses it."""
    rung: LifetimeRung
    due: datetime | None
    """None: nothing happens by itself. What nothing can renew is due at its end, to be found run out."""
    priority: Priority = Priority.SCHEDULED
    lifetime: float | None = None
    """Seconds from receipt to `expires_at`."""
    introspect: bool = False
    """Whether the provider is to be asked for the end, once the token is stored."""


def plan(
    settings: Settings,
    timing: Timing,
    *,
    lifetime: float | None,
    rung: LifetimeRung | None,
    received_at: datetime,
    renewable: bool,
    learned: float | None,
) -> Plan:
    """The plan for a token of which the provider said `lifetime` by way of `rung`; None where it said nothing.

    `learned` is the shortest age in seconds at which its API refused one. Guesses are made only for a
    token that can be renewed: of any other, a wrong guess would end it before its time.
    """
    said = _usable(lifetime)
    seconds, rung = _known(timing, said, rung, renewable, learned)
    seconds = None if seconds is None else min(seconds, _usable(timing.longest_lifetime) or LONGEST_LIFETIME)
    expires_at = None if seconds is None else received_at + timedelta(seconds=seconds)
    scheduled = schedule(settings, timing, expires_at, received_at, renewable)
    return replace(scheduled, rung=rung, lifetime=seconds, introspect=timing.introspected and said is None)


def schedule(
    settings: Settings, timing: Timing, expires_at: datetime | None, received_at: datetime, renewable: bool
) -> Plan:
    """When a token that ends at `expires_at` is renewed: the earlier of its own time and the keep-alive's.

    Its own time is a share of its life less jitter, a tick before its end where its life is longer than a
    few ticks, and not before the provider would give a new one.
    """
    if not renewable:
        return Plan(expires_at, LifetimeRung.UNKNOWN, expires_at)
    lifetime = None if expires_at is None else (expires_at - received_at).total_seconds()
    own = math.inf if lifetime is None else _share_of(settings, lifetime)
    idle = _usable(timing.idle_limit)
    alive = math.inf if idle is None else idle * KEEP_ALIVE_SHARE * (1 - random.uniform(0, settings.due_jitter))
    seconds, priority = (alive, Priority.KEEP_ALIVE) if alive < own else (own, Priority.SCHEDULED)
    if math.isinf(seconds):
        return Plan(expires_at, LifetimeRung.UNKNOWN, None)
    seconds = max(seconds, _earliest(settings, timing, lifetime))
    return Plan(expires_at, LifetimeRung.UNKNOWN, received_at + timedelta(seconds=seconds), priority)


def margin(timing: Timing, lifetime: float | None) -> float:
    """Seconds a token must still be good for to be handed to a caller; 0 where its end is unknown.

    Never so many that a caller would ask for a new one before the provider gives it.
    """
    if lifetime is None:
        return 0.0
    before_earliest = lifetime - (_usable(timing.earliest_refresh) or 0.0)
    return max(0.0, min(MARGIN, MARGIN_SHARE * lifetime, before_earliest))


def learn(known: float | None, age: float) -> float | None:
    """The shortest age at which a token was seen refused, after one more was refused at `age` seconds."""
    if not SHORTEST_LEARNED <= age <= LONGEST_LIFETIME:
        return known
    return age if known is None else min(known, age)


def _known(
    timing: Timing, said: float | None, rung: LifetimeRung | None, renewable: bool, learned: float | None
) -> tuple[float | None, LifetimeRung]:
    """The first rung of the ladder that bears: the provider, experience, the admin, a default."""
    if said is not None:
        return said, rung or LifetimeRung.REPLY
    if not renewable:
        return None, LifetimeRung.UNKNOWN
    learned, assumed = _usable(learned), _usable(timing.assumed_lifetime)
    if learned is not None:
        return learned, LifetimeRung.LEARNED
    if assumed is not None:
        return assumed, LifetimeRung.PRESET
    return DEFAULT_LIFETIME, LifetimeRung.DEFAULT


def _share_of(settings: Settings, lifetime: float) -> float:
    """Seconds until a token's own time. Near a tick the share decides: a token renewed faster would be a loop."""
    soonest = lifetime * (settings.due_fraction - settings.due_jitter)
    drawn = lifetime * (settings.due_fraction - random.uniform(0, settings.due_jitter))
    return max(0.0, soonest, min(drawn, lifetime - settings.tick))


def _earliest(settings: Settings, timing: Timing, lifetime: float | None) -> float:
    """Seconds before which the provider gives no new token, with as much jitter after it as the token's end allows.

    At the end of a token it gives one in any case: some hand out tokens that have lived a while already.
    """
    earliest = _usable(timing.earliest_refresh)
    if earliest is None:
        return 0.0
    if lifetime is None:
        return earliest * (1 + random.uniform(0, settings.due_jitter))
    room = max(0.0, lifetime - settings.tick - earliest)
    return min(lifetime, earliest + random.uniform(0, settings.due_jitter) * min(earliest, room))


def _usable(seconds: float | None) -> float | None:
    """A number of seconds that can be counted with; None for nothing, and for what is no length of time."""
    return min(seconds, LONGEST_LIFETIME) if seconds is not None and seconds > 0 else None

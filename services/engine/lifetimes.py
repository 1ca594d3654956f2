"""Planning a stored token anew, when more is known of its life than was when it came. Commits nothing."""

from __future__ import annotations

from collections.abc import Collection

from config import Settings
from models import Connection, ConnectionState, Priority, Token
from models.types import utc_now
from oauth.vocabulary import LifetimeRung
from services.engine import states, timing
from services.engine.timing import Timing

SAID = frozenset({LifetimeRung.REPLY, LifetimeRung.JWT, LifetimeRung.INTROSPECTION})
"""Rungs on which the provider speaks; on the others we guess."""

LIVES = frozenset(
    "assumed_lifetime longest_lifetime earliest_refresh idle_limit expires_in_unit introspection_endpoint "
    "dead_statuses dead_expression".split()
)
"""What only says when tokens end: no request for a token changes with it."""


def replan(settings: Settings, connection: Connection, token: Token) -> None:
    """Plan a token by what its connection says and experience shows now. What the provider said of it stands."""
    said = token.lifetime_rung in SAID
    plan(settings, connection, token, token.lifetime if said else None, token.lifetime_rung if said else None)


def after_change(settings: Settings, connection: Connection, token: Token, changed: Collection[str]) -> None:
    """What saved settings mean for the token that is stored; `changed` names columns of its connection."""
    if not LIVES.intersection(changed) or token.access_token_sealed is None:
        return
    if "expires_in_unit" in changed and token.lifetime_rung is LifetimeRung.REPLY:
        plan(settings, connection, token, None, None)  # what was said was misread: a guess until the next reply
    else:
        replan(settings, connection, token)
    if "introspection_endpoint" in changed:
        token.introspection_due = bool(connection.introspection_endpoint) and token.lifetime_rung not in SAID
        token.introspection_problem = ""


def plan(
    settings: Settings, connection: Connection, token: Token, lifetime: float | None, rung: LifetimeRung | None
) -> None:
    """Plan a token of which the provider says `lifetime`; its due time moves only where nothing else is afoot."""
    if token.received_at is None or token.access_token_sealed is None:
        return
    planned = timing.plan(
        settings,
        Timing.of(connection),
        lifetime=lifetime,
        rung=rung,
        received_at=token.received_at,
        renewable=states.renewable(connection, token),
        learned=token.learned_lifetime,
    )
    token.expires_at, token.lifetime_rung = planned.expires_at, planned.rung
    if _waits_for_its_time(connection, token):
        token.next_refresh_at, token.priority = planned.due, planned.priority


def _waits_for_its_time(connection: Connection, token: Token) -> bool:
    """Whether the next refresh is the ordinary one: nobody asked for it, and none is under way, failing or stopped."""
    if connection.state is not ConnectionState.ACTIVE or token.failures or token.held:
        return False
    return token.priority in (Priority.SCHEDULED, Priority.KEEP_ALIVE) and not token.is_leased(utc_now())

"""When a token ends and when it is renewed, from every rung of the ladder: pure arithmetic (TK-12, P7, P8, P11)."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import Settings
from models import Connection, Priority
from oauth.lifetime import LONGEST_LIFETIME
from oauth.vocabulary import GrantType, LifetimeRung, RefreshKind
from services.engine import timing
from services.engine.timing import Timing

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SETTINGS = Settings.model_construct()
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def plan(said=None, rung=None, *, renewable=True, learned=None, **columns):
    return timing.plan(
        SETTINGS,
        Timing(**columns),
        lifetime=said,
        rung=rung,
        received_at=NOW,
        renewable=renewable,
        learned=learned,
    )


def lives(planned):
    return None if planned.expires_at is None else (planned.expires_at - NOW).total_seconds()


def due(planned):
    return None if planned.due is None else (planned.due - NOW).total_seconds()


def dues(said, **more):
    return [due(plan(said, **more)) for _ in range(200)]


# --- How long it lives, and who says so


@pytest.mark.parametrize("rung", [LifetimeRung.REPLY, LifetimeRung.JWT, LifetimeRung.INTROSPECTION])
def test_what_the_provider_says_stands_above_experience_and_assumption(rung):
    planned = plan(HOUR, rung, learned=20 * MINUTE, assumed_lifetime=10 * MINUTE)
    assert (lives(planned), planned.rung) == (HOUR, rung)


def test_experience_stands_above_assumption():
    planned = plan(learned=20 * MINUTE, assumed_lifetime=10 * MINUTE)
    assert (lives(planned), planned.rung) == (20 * MINUTE, LifetimeRung.LEARNED)


def test_the_admin_s_assumption_stands_above_the_default():
    planned = plan(assumed_lifetime=10 * MINUTE)
    assert (lives(planned), planned.rung) == (10 * MINUTE, LifetimeRung.PRESET)


def test_fifty_five_minutes_are_assumed_where_nobody_says_and_a_refresh_is_possible():
    planned = plan(None, LifetimeRung.UNKNOWN)
    assert (lives(planned), planned.rung) == (55 * MINUTE, LifetimeRung.DEFAULT)


@pytest.mark.parametrize("guess", [{}, {"learned": HOUR}, {"assumed_lifetime": HOUR}, {"longest_lifetime": HOUR}])
def test_nothing_is_guessed_of_a_token_that_nothing_can_renew(guess):
    """It would be given up before its time; its API says when it is over."""
    planned = plan(renewable=False, **guess)
    assert (planned.expires_at, planned.rung, planned.due) == (None, LifetimeRung.UNKNOWN, None)


def test_what_nothing_can_renew_is_looked_at_when_it_ends():
    planned = plan(HOUR, LifetimeRung.REPLY, renewable=False, idle_limit=DAY)
    assert (lives(planned), due(planned), planned.priority) == (HOUR, HOUR, Priority.SCHEDULED)


@pytest.mark.parametrize("said", [2 * HOUR, LONGEST_LIFETIME, 1e30, math.inf])
@pytest.mark.parametrize("renewable", [True, False])
def test_the_longest_lifetime_caps_whoever_speaks(said, renewable):
    assert lives(plan(said, LifetimeRung.REPLY, renewable=renewable, longest_lifetime=HOUR)) == HOUR
    assert lives(plan(learned=said, longest_lifetime=HOUR)) == HOUR
    assert lives(plan(assumed_lifetime=said, longest_lifetime=HOUR)) == HOUR


def test_the_default_is_capped_as_well():
    assert lives(plan(longest_lifetime=10 * MINUTE)) == 10 * MINUTE


@pytest.mark.parametrize("nothing", [0, 0.0, -1, -math.inf, math.nan, None])
def test_what_is_no_length_of_time_says_nothing_on_any_rung(nothing):
    assert plan(nothing, LifetimeRung.REPLY).rung is LifetimeRung.DEFAULT
    assert plan(learned=nothing, assumed_lifetime=nothing, longest_lifetime=nothing).rung is LifetimeRung.DEFAULT
    assert due(plan(HOUR, earliest_refresh=nothing, idle_limit=nothing)) < HOUR


# --- When it is renewed


@pytest.mark.parametrize("lifetime", [30, HOUR, 90 * DAY, 365 * DAY])
def test_a_token_is_due_after_three_quarters_of_its_life_less_jitter(lifetime):
    shares = [seconds / lifetime for seconds in dues(lifetime)]
    assert 0.649 < min(shares) < 0.70 < max(shares) < 0.751


@pytest.mark.parametrize("lifetime", [0.5, 1, 1.5, 2, 3, 5, 30, HOUR, 365 * DAY])
def test_no_token_costs_more_than_one_and_six_tenths_of_a_refresh_in_its_life(lifetime):
    assert lifetime / min(dues(lifetime)) <= 1.6


@pytest.mark.parametrize("lifetime", [3, 4, 5, 30, HOUR])
def test_a_token_of_some_ticks_is_due_a_tick_before_its_end_at_the_latest(lifetime):
    assert max(dues(lifetime)) <= lifetime - SETTINGS.tick


def test_no_new_token_is_asked_for_before_the_provider_gives_one():
    found = dues(HOUR, earliest_refresh=55 * MINUTE)
    assert 55 * MINUTE <= min(found) < max(found) <= HOUR - SETTINGS.tick


def test_a_token_that_had_lived_a_while_when_it_came_is_renewed_at_its_end():
    assert set(dues(HOUR, earliest_refresh=2 * HOUR)) == {HOUR}


# --- A refresh token that would fall idle


def test_a_long_lived_token_is_renewed_by_half_of_the_idle_limit():
    found = [plan(365 * DAY, idle_limit=30 * DAY) for _ in range(200)]
    assert {planned.priority for planned in found} == {Priority.KEEP_ALIVE}
    assert 13 * DAY < min(map(due, found)) < max(map(due, found)) <= 15 * DAY


def test_a_token_that_is_renewed_sooner_anyhow_needs_no_keeping_alive():
    planned = plan(HOUR, idle_limit=30 * DAY)
    assert (due(planned) < HOUR, planned.priority) == (True, Priority.SCHEDULED)


def test_a_token_whose_end_is_unknown_is_kept_alive_as_well():
    planned = timing.schedule(SETTINGS, Timing(idle_limit=DAY), None, NOW, renewable=True)
    assert (planned.priority, 10 * HOUR < due(planned) <= 12 * HOUR) == (Priority.KEEP_ALIVE, True)
    assert timing.schedule(SETTINGS, Timing(), None, NOW, renewable=True).due is None


def test_what_asks_afresh_each_time_is_not_kept_alive():
    columns = {"idle_limit": DAY, "assumed_lifetime": 1.0, "longest_lifetime": 2.0, "earliest_refresh": 3.0}
    machine = Connection(grant_type=GrantType.CLIENT_CREDENTIALS, refresh_kind=RefreshKind.REISSUE, **columns)
    person = Connection(grant_type=GrantType.AUTHORIZATION_CODE, refresh_kind=RefreshKind.REFRESH_TOKEN, **columns)
    assert Timing.of(machine) == Timing(1.0, 2.0, 3.0, None)
    assert Timing.of(person) == Timing(1.0, 2.0, 3.0, DAY)


# --- How much of it a caller needs


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [(None, 0), (30, 6), (100, 20), (300, 60), (HOUR, 60), (365 * DAY, 60)]
)
def test_a_caller_needs_a_minute_or_a_fifth_of_a_short_life(lifetime, seconds):
    assert timing.margin(Timing(), lifetime) == seconds


def test_no_caller_asks_for_a_token_before_the_provider_gives_it():
    assert timing.margin(Timing(earliest_refresh=HOUR - 10), HOUR) == 10
    assert timing.margin(Timing(earliest_refresh=2 * HOUR), HOUR) == 0


# --- What is learned


def test_the_shortest_age_at_which_a_token_was_refused_is_remembered():
    assert timing.learn(None, HOUR) == HOUR
    assert timing.learn(HOUR, 2 * HOUR) == HOUR
    assert timing.learn(HOUR, 1800) == 1800


@pytest.mark.parametrize("age", [-5, 0, 59, math.nan, 1e12])
def test_an_age_that_tells_of_something_else_is_not_learned(age):
    assert timing.learn(None, age) is None
    assert timing.learn(HOUR, age) == HOUR


# --- Whatever comes


anything = st.none() | st.floats(allow_nan=True, allow_infinity=True) | st.integers(-(10**12), 10**12).map(float)


@given(said=anything, learned=anything, a=anything, b=anything, c=anything, d=anything, renewable=st.booleans())
def test_no_number_breaks_the_plan(said, learned, a, b, c, d, renewable):
    columns = {"assumed_lifetime": a, "longest_lifetime": b, "earliest_refresh": c, "idle_limit": d}
    planned = plan(said, LifetimeRung.REPLY, renewable=renewable, learned=learned, **columns)
    assert planned.expires_at is None or NOW <= planned.expires_at <= NOW + timedelta(seconds=LONGEST_LIFETIME)
    assert planned.due is None or planned.due >= NOW
    assert renewable is (planned.due is not None) or planned.due == planned.expires_at

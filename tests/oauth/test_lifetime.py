"""How long a token lives by what its reply says: every spelling providers use, and everything else (F20, TK-04, P8)."""

import base64
import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oauth.lifetime import LONGEST_LIFETIME, ladder
from oauth.vocabulary import LifetimeRung, LifetimeUnit

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EPOCH = NOW.timestamp()
IN_AN_HOUR = int(EPOCH) + 3600
HUGE, HUGE_NEGATIVE = (pytest.param(sign * 10**400, id=f"{sign} and 400 digits") for sign in (1, -1))


def said(unit=LifetimeUnit.SECONDS, token="opaque", **fields):
    """Seconds as the reply says them; None when it says nothing."""
    seconds, rung = ladder(fields, token, NOW, unit)
    assert (seconds is None) is (rung is LifetimeRung.UNKNOWN)
    return seconds


def jwt(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(claims)}.sig"


@pytest.mark.parametrize("value", [3600, "3600", 3600.0, "3600.0", " 3600 ", "3.6e3"])
def test_a_length_of_time_however_it_is_written(value):
    assert said(expires_in=value) == 3600
    assert said(expiresIn=value) == 3600
    assert said(expires=value) == 3600


@pytest.mark.parametrize(
    "value",
    [
        0,
        "0",
        0.0,
        -1,
        "-3600",
        HUGE_NEGATIVE,
        0.4,
        None,
        "",
        "soon",
        True,
        [],
        [3600],
        {"seconds": 3600},
        math.nan,
        "nan",
        math.inf,
        "1e999",
        HUGE,
    ],
)
def test_what_is_no_length_of_time_says_nothing(value):
    assert said(expires_in=value) is None
    assert said(expires_in=value, expires_at=IN_AN_HOUR) == 3600


@pytest.mark.parametrize("value", [1e30, "1e30", LONGEST_LIFETIME])
def test_an_absurdly_long_one_is_cut_to_ten_years(value):
    assert said(expires_in=value) == LONGEST_LIFETIME


def test_the_provider_s_unit_counts():
    assert said(LifetimeUnit.MILLISECONDS, expires_in=3_600_000) == 3600
    assert said(LifetimeUnit.MILLISECONDS, expires_in="500") is None


def test_more_than_ten_years_of_seconds_are_milliseconds():
    assert said(expires_in=30 * 86_400_000) == 30 * 86400


@pytest.mark.parametrize("value", [IN_AN_HOUR, str(IN_AN_HOUR), IN_AN_HOUR * 1000, "2026-11-24T13:00:00Z"])
@pytest.mark.parametrize("unit", list(LifetimeUnit))
def test_a_moment_in_the_place_of_a_length_is_a_moment(unit, value):
    assert said(unit, expires_in=value) == 3600


@pytest.mark.parametrize(
    "value",
    [
        IN_AN_HOUR,
        float(IN_AN_HOUR),
        str(IN_AN_HOUR),
        IN_AN_HOUR * 1000,
        "2026-11-24T13:00:00Z",
        "2026-11-24T13:00:00.000Z",
        "2026-11-24T14:00:00+01:00",
        "2026-11-24T13:00:00",
        "2026-11-24 13:00:00",
        "20261124T130000Z",
        "Tue, 24 Nov 2026 13:00:00 GMT",
    ],
)
@pytest.mark.parametrize("name", ["expires_at", "expiresAt", "expires_on", ".expires", "expires", "expiry_date"])
def test_a_moment_counts_from_when_we_received_it(name, value):
    assert said(**{name: value}) == 3600


@pytest.mark.parametrize("value", [1e30, -1, 0, 3600, "1970-01-01", "9999-12-31T23:59:59Z", "25/11/2026", "x" * 9999])
def test_a_moment_that_is_none_of_our_time_says_nothing_or_ten_years(value):
    assert said(expires_at=value) in (None, LONGEST_LIFETIME)


@pytest.mark.parametrize("value", [int(EPOCH) - 60, (int(EPOCH) - 60) * 1000, "2026-11-24T11:59:00Z"])
def test_a_moment_that_is_past_by_our_clock_says_nothing(value):
    """One of two clocks is wrong; an assumption is better than a token that is never used."""
    assert said(expires_at=value) is None
    assert said(expires_in=value) is None


def test_a_length_of_time_stands_above_a_moment_which_needs_two_clocks_to_agree():
    assert said(expires_in=600, expires_at=IN_AN_HOUR) == 600
    assert said(expires_at=IN_AN_HOUR, expires_in=600) == 600


def test_the_usual_name_stands_above_one_that_is_spelt_otherwise():
    assert said(expires_in=600, expiresIn=60) == 600


def test_other_things_that_expire_are_not_the_token():
    assert said(refresh_token_expires_in=60, refresh_expires_in=60, id_token_expires_in=60, ext_expires_in=60) is None


def test_the_token_itself_is_asked_where_the_reply_is_silent():
    assert ladder({}, jwt(exp=EPOCH + 90), NOW) == (90, LifetimeRung.JWT)
    assert ladder({"expires_in": 0}, jwt(exp=(EPOCH + 90) * 1000), NOW) == (90, LifetimeRung.JWT)
    assert ladder({"expires_in": 60}, jwt(exp=EPOCH + 90), NOW) == (60, LifetimeRung.REPLY)
    assert ladder({}, jwt(exp=EPOCH + 3600, iat=EPOCH + 3300), NOW) == (300, LifetimeRung.JWT)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from(["expires_in", "expires_at", "expires", "expires_on"]), anything), anything)
def test_nothing_a_provider_sends_breaks_the_reading(fields, claim):
    for unit in LifetimeUnit:
        seconds, _rung = ladder(fields, jwt(exp=claim, iat=claim), NOW, unit)
        assert seconds is None or 1 <= seconds <= LONGEST_LIFETIME

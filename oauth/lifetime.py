"""How long a token lives, and how long to wait: every number a provider may send, read without ever raising."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from oauth.vocabulary import LifetimeRung, LifetimeUnit

LONGEST_LIFETIME = 10 * 365 * 86400.0
LONGEST_RETRY_AFTER = 3600.0
LONGEST_NUMBER = 40
LONGEST_DATE = 64
SHORTEST_LIFETIME = 1.0
YEAR = 365 * 86400.0
DURATIONS = ("expiresin", "expirein", "expires")
"""Names under which replies give a length of time, without the marks that differ by taste."""
MOMENTS = ("expiresat", "expireson", "expiry", "expirydate", "expiretime", "expirationtime", "expiration")
"""Names under which they give a moment."""
MARKS = re.compile(r"[_.\-]")


def ladder(
    fields: Mapping[str, Any], access_token: str, received_at: datetime, unit: LifetimeUnit = LifetimeUnit.SECONDS
) -> tuple[float | None, LifetimeRung]:
    """Seconds, and where they come from: the reply, or a JWT's `exp`. What else may be known is no provider's word.

    `unit` is what the provider counts `expires_in` in.
    """
    now = received_at.timestamp()
    said = _said(fields, now, unit)
    if said is not None:
        return said, LifetimeRung.REPLY
    left = _jwt_lifetime(access_token, now)
    if left is not None:
        return left, LifetimeRung.JWT
    return None, LifetimeRung.UNKNOWN


def left_until(value: Any, now: float) -> float | None:
    """Seconds from `now` (epoch) to a moment: epoch seconds or milliseconds, ISO 8601, an HTTP date.

    None for what is no moment near our time, and for one that is past: two clocks that disagree say nothing.
    """
    number = _number(value)
    moment = _epoch(number, now) if number is not None else _date(value)
    return None if moment is None else _plausible(moment - now)


def of_claims(claims: Mapping[str, Any], now: float) -> float | None:
    """Seconds left of a token by its `exp` (RFC 7519 §4.1.4, RFC 7662 §2.2); None when that says nothing.

    By our clock or by the issuer's, whichever leaves less; by the issuer's alone where ours says it is over.
    """
    ends = [_plausible(expires - start) for expires, start in _spans(claims, now)]
    return min(filter(None, ends), default=None)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait as the provider asked (RFC 9110 §10.2.3): number or date, an hour at most.

    None for junk, and for a moment that is past: then our own backoff is the better guess.
    """
    value = next((text for name, text in headers.items() if name.lower() == "retry-after"), "").strip()
    if re.fullmatch(r"[0-9]{1,12}", value):
        wait = float(value)
    else:
        try:
            moment = parsedate_to_datetime(value)
            wait = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, OverflowError, TypeError):
            return None
    return min(wait, LONGEST_RETRY_AFTER) if wait > 0 else None


def _said(fields: Mapping[str, Any], now: float, unit: LifetimeUnit) -> float | None:
    """What the reply itself says. A length of time counts first: it needs no two clocks to agree."""
    usual = _length(fields.get("expires_in"), now, unit)
    if usual is not None:
        return usual
    found = {MARKS.sub("", name).lower(): value for name, value in reversed(list(fields.items()))}
    for name in DURATIONS:
        length = _length(found.get(name), now, unit)
        if length is not None:
            return length
    return next(filter(None, (left_until(found.get(name), now) for name in MOMENTS)), None)


def _length(value: Any, now: float, unit: LifetimeUnit) -> float | None:
    """A length of time, unless the number is so long that it can only be a moment of our time.

    More than ten years in seconds are taken for milliseconds: too early costs a refresh, too late the token.
    """
    number = _number(value)
    if number is None or _epoch(number, now) is not None:
        return left_until(value, now)
    if LONGEST_LIFETIME < number <= LONGEST_LIFETIME * 1000:
        unit = LifetimeUnit.MILLISECONDS
    return _plausible(number / unit.in_a_second)


def _plausible(number: float) -> float | None:
    """Ten years at most. Nothing where the token would be over before it could be used.

    Zero says nothing either: providers write it for "no end" and for "already over" alike.
    """
    return min(number, LONGEST_LIFETIME) if number >= SHORTEST_LIFETIME else None


def _epoch(number: float, now: float) -> float | None:
    """A number as a moment in epoch seconds, where it is one of the last year or the ten to come."""
    for moment in (number, number / 1000):
        if now - YEAR <= moment <= now + LONGEST_LIFETIME:
            return moment
    return None


def _date(value: Any) -> float | None:
    """A written date as epoch seconds, in UTC where it names no zone."""
    if not isinstance(value, str) or len(value) > LONGEST_DATE:
        return None
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(value.strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError, TypeError, IndexError):
            continue
    return None


def _number(value: Any) -> float | None:
    """A finite number for JSON's numbers and numeric text; None for anything else: infinity is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > LONGEST_NUMBER:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _jwt_lifetime(access_token: str, now: float) -> float | None:
    """What is left of a JWT access token (RFC 9068 §2.2), unverified: it only times the refresh."""
    parts = access_token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    return of_claims(claims, now) if isinstance(claims, dict) else None


def _spans(claims: Mapping[str, Any], now: float) -> Iterator[tuple[float, float]]:
    """End and start of a token's life, by our clock and by the issuer's."""
    expires, issued = (_number(claims.get(name)) for name in ("exp", "iat"))
    if expires is not None:
        expires = _epoch(expires, now) or expires
        yield expires, now
        if issued is not None:
            yield expires, _epoch(issued, now) or issued

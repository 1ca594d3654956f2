"""How long a token lives, and how long to wait: every number a provider may send, read without ever raising."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from oauth.vocabulary import LifetimeRung

LONGEST_LIFETIME = 10 * 365 * 86400.0
LONGEST_RETRY_AFTER = 3600.0
LONGEST_NUMBER = 40


def ladder(fields: Mapping[str, Any], access_token: str, received_at: datetime) -> tuple[float | None, LifetimeRung]:
    """Seconds, and where they come from: the reply, or a JWT's `exp`. What else may be known is no provider's word."""
    said = seconds(fields.get("expires_in"))
    if said is not None:
        return said, LifetimeRung.REPLY
    left = _jwt_lifetime(access_token, received_at.timestamp())
    if left is not None:
        return left, LifetimeRung.JWT
    return None, LifetimeRung.UNKNOWN


def seconds(value: Any) -> float | None:
    """`expires_in` as seconds: digits, text, float; ten years at most. None when it says nothing usable."""
    number = _number(value)
    return min(number, LONGEST_LIFETIME) if number is not None and number > 0 else None


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


def _number(value: Any) -> float | None:
    """A finite or infinite number for JSON's numbers and numeric text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > LONGEST_NUMBER:
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    except OverflowError:
        number = math.inf
    return None if math.isnan(number) else number


def _jwt_lifetime(access_token: str, now: float) -> float | None:
    """What is left of a JWT access token (RFC 9068 §2.2), unverified: it only times the refresh.

    By our clock or by the issuer's, whichever leaves less; by the issuer's alone where ours says it is over.
    """
    parts = access_token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return None
    expires = _number(claims.get("exp")) if isinstance(claims, dict) else None
    if expires is None:
        return None
    issued = _number(claims.get("iat"))
    left = [end for end in (expires - now, expires - issued if issued is not None else 0.0) if end > 0]
    return min(*left, LONGEST_LIFETIME) if left else None

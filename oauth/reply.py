"""Reading a token endpoint's reply by its shape, whatever its Content-Type: a usable token or a sorted failure.

Replaces Authlib's parsing, which stores unusable replies and drops usable ones.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

from pydantic import SecretStr

from oauth.scrub import one_line, scrub
from oauth.vocabulary import FailureClass, LifetimeRung, OAuthFailure, TokenReply

PRINTABLE = re.compile(r"[\x21-\x7e]+")
DEFAULT_LIFETIME = 55 * 60.0
LONGEST_LIFETIME = 10 * 365 * 86400.0
LONGEST_RETRY_AFTER = 3600.0
DEEPEST = 100

BY_CODE = {
    "invalid_grant": FailureClass.GRANT_DEAD,
    "invalid_refresh_token": FailureClass.GRANT_DEAD,
    "token_revoked": FailureClass.GRANT_DEAD,
    "invalid_client": FailureClass.CLIENT_BAD,
    "unauthorized_client": FailureClass.CLIENT_BAD,
    "invalid_scope": FailureClass.REQUEST_BAD,
    "invalid_request": FailureClass.REQUEST_BAD,
    "unsupported_grant_type": FailureClass.REQUEST_BAD,
    "invalid_target": FailureClass.REQUEST_BAD,
    "access_denied": FailureClass.REQUEST_BAD,
    "temporarily_unavailable": FailureClass.PROVIDER_DOWN,
    "server_error": FailureClass.PROVIDER_DOWN,
    "slow_down": FailureClass.THROTTLED,
}


def parse(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    received_at: datetime,
    secrets: Iterable[SecretStr | None],
    step: str,
    renewable: bool,
) -> TokenReply:
    """The token in a reply (RFC 6749 §5.1). Raises OAuthFailure for everything else (§5.2).

    `renewable`: a token can be fetched anew without a refresh token, as with client credentials or
    when an earlier refresh token stays good. `secrets` are starred in what the failure repeats.
    """
    text = _decode(body)
    fields = _fields(text)
    if status == 429:
        raise _failure(step, FailureClass.THROTTLED, status, fields, text, secrets, headers, received_at)
    code = error_code(fields)
    if code is not None or status >= 400 or not 200 <= status < 300:
        kind = _class_of(code, status)
        raise _failure(step, kind, status, fields, text, secrets, headers, received_at)
    return _token(fields, text, received_at, step, status, secrets, renewable)


def error_code(fields: Mapping[str, Any] | None) -> str | None:
    """The provider's error code, in the places where providers put it; None when the reply is no error."""
    if not fields:
        return None
    error = fields.get("error")
    if isinstance(error, Mapping):
        inner = error.get("code") or error.get("type") or error.get("status") or "error"
        return one_line(str(inner))[:100]
    if isinstance(error, str) and error:
        return one_line(error)[:100]
    if error not in (None, "", False):
        return "error"
    if fields.get("ok") is False:
        return "error"
    return None


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait as the provider asked (RFC 9110 §10.2.3): number or date, an hour at most; None for junk."""
    value = headers.get("retry-after", headers.get("Retry-After", "")).strip()
    if re.fullmatch(r"[0-9]{1,12}", value):
        return min(float(value), LONGEST_RETRY_AFTER)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_RETRY_AFTER)


def seconds(value: Any) -> float | None:
    """`expires_in` as a number of seconds: digits, text, float. None when it says nothing usable."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number):
        return None
    return min(number, LONGEST_LIFETIME) if number > 0 else None


def _decode(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _fields(text: str) -> dict[str, Any] | None:
    """The reply as an object: JSON, or else form-encoded (RFC 6749 has both kinds in the wild)."""
    stripped = text.strip()
    if stripped.startswith(("{", "[", '"')) or stripped in ("null", "true", "false"):
        try:
            found = json.loads(stripped)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None
    if "=" not in stripped or stripped.startswith("<"):
        return None
    pairs = dict(parse_qsl(stripped, max_num_fields=DEEPEST))
    return pairs if "access_token" in pairs or "error" in pairs else None


def _class_of(code: str | None, status: int) -> FailureClass:
    known = BY_CODE.get((code or "").lower())
    if known is not None:
        return known
    if status >= 500:
        return FailureClass.PROVIDER_DOWN
    if status in (401, 403):
        return FailureClass.CLIENT_BAD
    if 300 <= status < 400 or status < 200:
        return FailureClass.REPLY_UNUSABLE
    return FailureClass.REQUEST_BAD


def _failure(
    step: str,
    kind: FailureClass,
    status: int,
    fields: Mapping[str, Any] | None,
    text: str,
    secrets: Iterable[SecretStr | None],
    headers: Mapping[str, str],
    now: datetime,
) -> OAuthFailure:
    code = error_code(fields) or ""
    said = scrub(_said(fields) or _excerpt(text), secrets)
    answer = f"with status {status}" + (f" and the error {scrub(code, secrets)}" if code else "")
    hint = " A token endpoint does not redirect; check its address." if 300 <= status < 400 else ""
    return OAuthFailure(
        step,
        kind,
        f"{kind.title}: it answered {answer}.{hint}",
        code=scrub(code, secrets, 100),
        provider_said=said,
        status=status,
        retry_after=retry_after(headers, now),
        raw=SecretStr(text),
    )


def _said(fields: Mapping[str, Any] | None) -> str:
    """The provider's own explanation, wherever it put it."""
    if not fields:
        return ""
    error = fields.get("error")
    nested = error if isinstance(error, Mapping) else {}
    parts = [fields.get("error_description"), fields.get("error_hint"), nested.get("message"), fields.get("message")]
    return " ".join(str(part) for part in parts if isinstance(part, str) and part)


def _excerpt(text: str) -> str:
    """The first words of a reply without an explanation; pages lose their tags."""
    if text.lstrip().startswith("{"):
        return ""
    return " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL | re.IGNORECASE).split())[
        :300
    ]


def _token(
    fields: Mapping[str, Any] | None,
    text: str,
    received_at: datetime,
    step: str,
    status: int,
    secrets: Iterable[SecretStr | None],
    renewable: bool,
) -> TokenReply:
    access = fields.get("access_token") if fields else None
    if not fields or not isinstance(access, str) or not PRINTABLE.fullmatch(access):
        said = scrub(_said(fields) or _excerpt(text), secrets)
        words = "The reply holds no access token." if not access else "The access token in the reply cannot be sent."
        raise OAuthFailure(
            step, FailureClass.REPLY_UNUSABLE, words, provider_said=said, status=status, raw=SecretStr(text)
        )
    kind = fields.get("token_type")
    if kind not in (None, "") and (not isinstance(kind, str) or kind.lower() != "bearer"):
        name = scrub(str(kind), secrets, 40)
        words = f"The reply holds a token of the type {name}; only Bearer tokens can be used."
        raise OAuthFailure(
            step, FailureClass.REPLY_UNUSABLE, words, code="token_type", status=status, raw=SecretStr(text)
        )
    renewed = fields.get("refresh_token")
    refresh = SecretStr(renewed) if isinstance(renewed, str) and PRINTABLE.fullmatch(renewed) else None
    scope = fields.get("scope")
    lifetime, rung = _lifetime(fields, access, received_at, renewable or refresh is not None)
    return TokenReply(
        access_token=SecretStr(access),
        refresh_token=refresh,
        token_type="Bearer",
        scope=one_line(scope)[:LONGEST_SCOPE] if isinstance(scope, str) else None,
        lifetime=lifetime,
        lifetime_rung=rung,
        raw=SecretStr(text),
    )


LONGEST_SCOPE = 8192


def _lifetime(
    fields: Mapping[str, Any], access_token: str, received_at: datetime, renewable: bool
) -> tuple[float | None, LifetimeRung]:
    """The ladder: the reply, a JWT's `exp`, a default where a refresh is possible, else unknown."""
    said = seconds(fields.get("expires_in"))
    if said is not None:
        return said, LifetimeRung.REPLY
    expires = _jwt_expiry(access_token)
    if expires is not None and expires > received_at.timestamp():
        return min(expires - received_at.timestamp(), LONGEST_LIFETIME), LifetimeRung.JWT
    if renewable:
        return DEFAULT_LIFETIME, LifetimeRung.DEFAULT
    return None, LifetimeRung.UNKNOWN


def _jwt_expiry(access_token: str) -> float | None:
    """`exp` of a JWT access token (RFC 9068 §2.2), unverified: it only times the refresh."""
    parts = access_token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return seconds_since_epoch(claims.get("exp")) if isinstance(claims, dict) else None


def seconds_since_epoch(value: Any) -> float | None:
    """A NumericDate (RFC 7519 §2), or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)

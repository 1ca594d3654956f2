"""Reading a token endpoint's reply by its shape, whatever its Content-Type: a usable token or a sorted failure.

Replaces Authlib's parsing, which stores unusable replies and drops usable ones. Whatever a provider sends,
what comes out is a TokenReply or an OAuthFailure, and one of the two holds every token that could be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from pydantic import SecretStr

from oauth.explanation import error_code, excerpt, explanation
from oauth.lifetime import ladder, retry_after
from oauth.scrub import one_line, scrub
from oauth.vocabulary import FailureClass, LifetimeUnit, OAuthFailure, TokenReply

PRINTABLE = re.compile(r"[\x21-\x7e]+")
LONGEST_CODE = 100
LONGEST_SCOPE = 8192
LONGEST_TYPE = 40
TOKENS = ("access_token", "refresh_token", "id_token")

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
BY_STATUS = {
    400: FailureClass.REQUEST_BAD,
    401: FailureClass.CLIENT_BAD,
    408: FailureClass.PROVIDER_DOWN,
    425: FailureClass.PROVIDER_DOWN,
    429: FailureClass.THROTTLED,
}


@dataclass(frozen=True)
class _Answer:
    """A reply with all it takes to judge it."""

    status: int
    headers: Mapping[str, str]
    text: str
    fields: Mapping[str, Any]
    """Empty when the text is no object."""
    secrets: tuple[SecretStr | None, ...]
    step: str
    received_at: datetime

    def failure(self, kind: FailureClass, reason: str, code: str = "") -> OAuthFailure:
        """The sorted failure; the reply itself travels along, for what may still be got out of it."""
        return OAuthFailure(
            self.step,
            kind,
            reason,
            code=scrub(code, self.hidden, LONGEST_CODE),
            provider_said=scrub(explanation(self.fields), self.hidden) or excerpt(self.text, self.hidden),
            status=self.status,
            retry_after=retry_after(self.headers, self.received_at),
            raw=SecretStr(self.text),
        )

    @property
    def hidden(self) -> tuple[SecretStr | None, ...]:
        """What nobody may read: what we sent, and any token that came back."""
        return (*self.secrets, *(SecretStr(value) for value in self.tokens))

    @property
    def tokens(self) -> list[str]:
        """Tokens in the reply that could be read."""
        values = [self.fields.get(name) for name in TOKENS]
        return [value for value in values if isinstance(value, str) and value.strip()]

    @property
    def holds_a_new_token(self) -> bool:
        """Whether a token came that we did not send: an error that echoes ours brings nothing."""
        known = {secret.get_secret_value() for secret in self.secrets if secret}
        return any(token not in known for token in self.tokens)


def parse(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    received_at: datetime,
    secrets: Iterable[SecretStr | None],
    step: str,
    unit: LifetimeUnit = LifetimeUnit.SECONDS,
) -> TokenReply:
    """The token in a reply (RFC 6749 §5.1). Raises OAuthFailure for everything else (§5.2).

    `secrets` are starred in what the failure repeats; `unit` is what the provider counts `expires_in` in.
    """
    text = _decode(body)
    answer = _Answer(status, headers, text, _fields(text), tuple(secrets), step, received_at)
    if error_code(answer.fields) is None and 200 <= status < 300:
        return _token(answer, unit)
    raise _refused(answer)


def refusal(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    received_at: datetime,
    secrets: Iterable[SecretStr | None],
    step: str,
) -> OAuthFailure:
    """The sorted failure in a reply that had no token to bring, as from a revocation endpoint (RFC 7009 §2.2.1)."""
    text = _decode(body)
    return _refused(_Answer(status, headers, text, _fields(text), tuple(secrets), step, received_at))


def _decode(body: bytes) -> str:
    """Text in the encoding its first bytes show (RFC 8259 §8.1 wants UTF-8), else Latin-1, which never fails."""
    try:
        return body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _fields(text: str) -> dict[str, Any]:
    """The reply as an object: JSON, or else form-encoded, since both kinds are met; empty when it is neither."""
    stripped = text.strip().strip("\ufeff")
    if stripped.startswith("{"):
        try:
            found = json.loads(stripped, object_pairs_hook=_object, strict=False)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
    if "=" not in stripped or stripped.startswith(("<", "[", '"')):
        return {}
    pairs = dict(parse_qsl(stripped))
    return pairs if "access_token" in pairs or "error" in pairs else {}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of several equal names counts, as in most parsers, except that nothing does not erase something."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found or value not in (None, ""):
            found[name] = value
    return found


def _refused(answer: _Answer) -> OAuthFailure:
    """The failure in an error reply."""
    code = error_code(answer.fields) or ""
    if answer.holds_a_new_token:
        words = "The reply is an error and holds a token all the same, so it is kept and not used."
        return answer.failure(FailureClass.REPLY_UNUSABLE, words, code)
    kind = _class_of(code, answer.status, bool(answer.fields))
    shown = scrub(code, answer.hidden, LONGEST_CODE)
    how = f"with status {answer.status}" + (f" and the error {shown}" if shown else "")
    hint = " A token endpoint does not redirect; check its address." if 300 <= answer.status < 400 else ""
    return answer.failure(kind, f"{kind.title}: it answered {how}.{hint}", code)


def _class_of(code: str, status: int, is_object: bool) -> FailureClass:
    """By the error code; else by status, where a page that is no object was hardly written by a token endpoint.

    A server in trouble is not believed: what it says with a 5xx never ends a grant.
    """
    if status >= 500:
        return FailureClass.PROVIDER_DOWN
    known = FailureClass.THROTTLED if status == 429 else BY_CODE.get(code.lower(), BY_STATUS.get(status))
    if known is not None:
        return known
    if not is_object or not (200 <= status < 300 or status >= 400):
        return FailureClass.REPLY_UNUSABLE
    return FailureClass.CLIENT_BAD if status == 403 else FailureClass.REQUEST_BAD


def _token(answer: _Answer, unit: LifetimeUnit) -> TokenReply:
    """The token of a successful reply, if it is one that can be sent."""
    fields = answer.fields
    access = fields.get("access_token")
    if not isinstance(access, str) or not PRINTABLE.fullmatch(access):
        words = "The access token in the reply cannot be sent." if access else "The reply holds no access token."
        raise answer.failure(FailureClass.REPLY_UNUSABLE, words)
    kind = fields.get("token_type", "")
    # A null is no missing type: it says that there is one and names none (TK-03).
    if not isinstance(kind, str) or kind.strip().lower() not in ("", "bearer"):
        name = f" called {scrub(kind, answer.hidden, LONGEST_TYPE)}" if isinstance(kind, str) else " without a name"
        words = f"The reply holds a token of a type{name}; only Bearer tokens can be used."
        raise answer.failure(FailureClass.REPLY_UNUSABLE, words, "token_type")
    refresh = _refresh_token(fields.get("refresh_token"))
    lifetime, rung = ladder(fields, access, answer.received_at, unit)
    return TokenReply(
        access_token=SecretStr(access),
        refresh_token=refresh,
        token_type="Bearer",
        scope=_scope(fields.get("scope")),
        lifetime=lifetime,
        lifetime_rung=rung,
        raw=SecretStr(answer.text),
    )


def _refresh_token(value: Any) -> SecretStr | None:
    """A refresh token to keep; it travels form-encoded, so any text that can be encoded will do."""
    if not isinstance(value, str) or not value.strip():
        return None
    return None if any("\ud800" <= char <= "\udfff" for char in value) else SecretStr(value)


def _scope(value: Any) -> str | None:
    """Scope as granted, in one line; a list is joined as RFC 6749 §3.3 writes it. None when nothing is said."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    return one_line(value)[:LONGEST_SCOPE] or None if isinstance(value, str) else None

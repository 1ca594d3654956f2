"""Reading a token endpoint's reply by its shape, whatever its Content-Type: a usable token or a sorted failure.

Replaces Authlib's parsing, which stores unusable replies and drops usable ones. Whatever a provider sends,
what comes out is a TokenReply or an OAuthFailure, and one of the two holds every token that could be read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any

from pydantic import SecretStr

from oauth import failure_codes, renewal, traces
from oauth.documents import BLANK, FORM
from oauth.explanation import error_code, excerpt, explanation, is_page, told
from oauth.failure_codes import Meaning
from oauth.fields import TOKENS, Fields, candidates, read
from oauth.lifetime import ladder, retry_after
from oauth.renewal import Brought
from oauth.scrub import Hidden, one_line
from oauth.vocabulary import NO_ENDPOINT, NOTHING_KEPT, FailureClass, LifetimeUnit, OAuthFailure, TokenReply

LONGEST_CODE = 100
LONGEST_SCOPE = 8192
LONGEST_TYPE = 40
AS_BEARER = (
    "If the provider's documentation says that it is sent as Bearer all the same, write token_type='Bearer' under "
    "Reply mapping."
)
AS_TEXT = "It is a number; if it is one, write access_token=to_string(access_token) under Reply mapping."
ELSEWHERE = (
    "The reply holds an access token, and what may be a new refresh token where none is looked for. Nothing of it is "
    "used until somebody says under Reply mapping which it is, or refresh_token='' if it is none."
)
SEVERAL = "The reply holds more than one refresh token, and nothing says which one is meant."
MOST_HIDDEN = 50
NO_MAPPING: Mapping[str, str] = {}
BY_STATUS = {
    400: FailureClass.REQUEST_BAD,
    401: FailureClass.CLIENT_BAD,
    408: FailureClass.PROVIDER_DOWN,
    425: FailureClass.PROVIDER_DOWN,
    429: FailureClass.THROTTLED,
}
NOWHERE = frozenset({404, 405, 410})
"""Statuses of a server that has nothing at an address, or nothing that takes a request like ours."""


@dataclass(frozen=True)
class _Answer:
    """A reply with all it takes to judge it."""

    status: int
    headers: Mapping[str, str]
    text: str
    found: Fields
    secrets: tuple[SecretStr | None, ...]
    step: str
    received_at: datetime
    renews: bool
    """Whether a refresh token is of any use."""

    def failure(self, kind: FailureClass, reason: str, code: str = "") -> OAuthFailure:
        """The sorted failure; the reply itself travels along, where something may still be got out of it."""
        lost = kind is FailureClass.REPLY_UNUSABLE and not self.could_hold_token
        return OAuthFailure(
            self.step,
            kind,
            reason,
            code=told(code, self.hidden, LONGEST_CODE) or (NOTHING_KEPT if lost else ""),
            provider_said=told(explanation(self.fields), self.hidden) or excerpt(self.text, self.hidden, self.status),
            status=self.status,
            retry_after=retry_after(self.headers, self.received_at),
            raw=None if lost else SecretStr(self.text),
            may_hold_token=kind is FailureClass.REPLY_UNUSABLE and self.may_hold_token,
            brings_refresh_token=kind is FailureClass.REPLY_UNUSABLE and self.brings_refresh_token,
        )

    @property
    def fields(self) -> Mapping[str, Any]:
        """By the names of RFC 6749; empty when the text is no object."""
        return self.found.values

    @property
    def succeeded(self) -> bool:
        """Whether its status is one of success."""
        return 200 <= self.status < 300

    @property
    def may_hold_token(self) -> bool:
        """Whether a person should look at it before the grant is given up."""
        return self.holds_a_new_token or (self.succeeded and (self.found.may_hold_token or bool(self.brought.others)))

    @property
    def could_hold_token(self) -> bool:
        """Whether it is worth keeping: it looks as if it held a token, or is a success with something to point at."""
        looks_so = self.may_hold_token or self.found.may_hold_token
        return looks_so or (self.succeeded and self.found.could_be_mapped)

    @cached_property
    def brought(self) -> Brought:
        """The refresh token in it."""
        return renewal.brought(self.found, self.known) if self.renews else Brought()

    @property
    def brings_refresh_token(self) -> bool:
        """Whether what is called a refresh token in it is not the one we sent."""
        is_new = self.brought.token is not None and self.brought.token not in self.known
        return is_new or (self.succeeded and bool(self.brought.others))

    @property
    def known(self) -> set[str]:
        """What we sent: an echo of it brings nothing."""
        return {secret.get_secret_value() for secret in self.secrets if secret}

    @cached_property
    def hidden(self) -> Hidden:
        """What nobody may read: what we sent, and any token that came back."""
        elsewhere = [value for _path, name, value in candidates(self.found.document) if "token" in name.lower()]
        if not self.found.is_read:
            elsewhere += islice((traces.of_tokens if self.succeeded else traces.named)(self.text), MOST_HIDDEN)
        return Hidden((*self.secrets, *(SecretStr(value) for value in (*self.tokens, *elsewhere))))

    @property
    def tokens(self) -> list[str]:
        """Tokens in the reply that could be read."""
        values = [self.fields.get(name) for name in TOKENS]
        found = [value for value in values if isinstance(value, str) and value.strip()]
        return [*found, *((self.brought.token,) if self.brought.token else ()), *self.brought.others[:MOST_HIDDEN]]

    @property
    def holds_a_new_token(self) -> bool:
        """Whether a token came that we did not send: an error that echoes ours brings nothing."""
        values = [*(self.fields.get(name) for name in TOKENS), self.brought.token]
        return any(isinstance(value, str) and value.strip() and value not in self.known for value in values)


def parse(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    received_at: datetime,
    secrets: Iterable[SecretStr | None],
    step: str,
    unit: LifetimeUnit = LifetimeUnit.SECONDS,
    mapping: Mapping[str, str] = NO_MAPPING,
    renews: bool = True,
    broken_off: bool = False,
) -> TokenReply:
    """The token in a reply (RFC 6749 §5.1). Raises OAuthFailure for everything else (§5.2).

    `secrets` are starred in what the failure repeats; `unit` is what the provider counts `expires_in` in;
    `mapping` says by JMESPath where it keeps its fields. `renews`: whether a refresh token is of any use.
    `broken_off`: only the beginning of the reply arrived.
    """
    text = _decode(body)
    if broken_off and FORM.match(text.strip(BLANK)):
        text = text.rpartition("&")[0]  # the last pair may go on, which no form can tell
    found = read(text, mapping)
    if broken_off and (found.is_form or found.document is None):
        found = replace(found, whole=False)
    return _read(_Answer(status, headers, text, found, tuple(secrets), step, received_at, renews), unit)


def parse_kept(
    text: SecretStr,
    status: int,
    *,
    received_at: datetime,
    secrets: Iterable[SecretStr | None],
    step: str,
    unit: LifetimeUnit,
    mapping: Mapping[str, str],
    renews: bool = True,
) -> TokenReply:
    """`parse` once more for a reply that was kept because it could not be used (`OAuthFailure.raw`)."""
    value = text.get_secret_value()
    return _read(_Answer(status, {}, value, read(value, mapping), tuple(secrets), step, received_at, renews), unit)


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
    return _refused(_Answer(status, headers, text, read(text, NO_MAPPING), tuple(secrets), step, received_at, False))


def _decode(body: bytes) -> str:
    """Text in the encoding its first bytes show (RFC 8259 §8.1 wants UTF-8), else Latin-1, which never fails."""
    try:
        return body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _read(answer: _Answer, unit: LifetimeUnit) -> TokenReply:
    if error_code(answer.fields) is None and 200 <= answer.status < 300:
        return _token(answer, unit)
    raise _refused(answer)


def _refused(answer: _Answer) -> OAuthFailure:
    """The failure in an error reply."""
    code = error_code(answer.fields) or ""
    if answer.holds_a_new_token:
        words = "The reply is an error and holds a token all the same, so it is kept and not used."
        return answer.failure(FailureClass.REPLY_UNUSABLE, words, code)
    meant = _meaning(answer, code)
    shown = told(code, answer.hidden, LONGEST_CODE)
    how = f"with status {answer.status}" + (f" and the error {shown}" if shown else "")
    kind = meant.failure_class
    nowhere = answer.status in NOWHERE or 300 <= answer.status < 400
    if kind is FailureClass.REPLY_UNUSABLE and nowhere and not answer.could_hold_token:
        words = f"There is no token endpoint at this address: it answered {how}. {_hint(answer)}".rstrip()
        return answer.failure(kind, words, NO_ENDPOINT)
    return answer.failure(kind, f"{kind.title}: it answered {how}. {meant.do or _hint(answer)}".rstrip(), code)


def _hint(answer: _Answer) -> str:
    """What the form of a refusal gives away, where no code tells more."""
    if 300 <= answer.status < 400:
        return "A token endpoint does not redirect; check its address."
    if is_page(answer.text) and answer.status < 500:
        return "What came is a web page and not a token endpoint's answer; check Token Endpoint."
    return ""


def _meaning(answer: _Answer, code: str) -> Meaning:
    """By what the error says; else by status, where a page that is no object was hardly written by a token endpoint.

    A server in trouble is not believed: what it says with a 5xx never ends a grant.
    """
    status = answer.status
    if status >= 500:
        return Meaning(FailureClass.PROVIDER_DOWN)
    if status == 429:
        return Meaning(FailureClass.THROTTLED)
    known = failure_codes.meaning(code, f"{code} {explanation(answer.fields)}", answer.fields)
    if known is not None:
        return known
    if status in BY_STATUS:
        return Meaning(BY_STATUS[status])
    if not answer.fields or not (200 <= status < 300 or status >= 400):
        return Meaning(FailureClass.REPLY_UNUSABLE)
    return Meaning(FailureClass.CLIENT_BAD if status == 403 else FailureClass.REQUEST_BAD)


def _token(answer: _Answer, unit: LifetimeUnit) -> TokenReply:
    """The token of a successful reply, if it is one that can be sent."""
    fields = answer.fields
    access = fields.get("access_token")
    if not isinstance(access, str) or not _can_be_sent(access):
        raise answer.failure(FailureClass.REPLY_UNUSABLE, _no_token(answer, access))
    kind = fields.get("token_type", "")
    # A null is no missing type: it says that there is one and names none (TK-03).
    if not isinstance(kind, str) or kind.strip().lower() not in ("", "bearer"):
        name = f" called {told(kind, answer.hidden, LONGEST_TYPE)}" if isinstance(kind, str) else " without a name"
        words = f"The reply holds a token of a type{name}; only Bearer tokens can be used. {AS_BEARER}"
        raise answer.failure(FailureClass.REPLY_UNUSABLE, words, "token_type")
    refresh = _refresh_token(answer)
    lifetime, rung = ladder(fields, access, answer.received_at, unit)
    return TokenReply(
        access_token=SecretStr(access),
        refresh_token=refresh,
        token_type="Bearer",
        scope=_scope(fields.get("scope")),
        lifetime=lifetime,
        lifetime_rung=rung,
        raw=SecretStr(answer.text),
        received_at=answer.received_at,
    )


def _can_be_sent(token: str) -> bool:
    """Whether a header can hold it: printable ASCII without a space (RFC 6750 §2.1 allows less)."""
    return token.isascii() and token.isprintable() and bool(token) and " " not in token


def _no_token(answer: _Answer, access: Any) -> str:
    """Why there is no access token to be used, as a sentence."""
    if access:
        is_number = isinstance(access, int) and not isinstance(access, bool)
        return f"The access token in the reply cannot be sent.{f' {AS_TEXT}' if is_number else ''}"
    if answer.found.several:
        return "The reply holds more than one access token, and nothing says which one is meant."
    if not answer.text.strip(BLANK):
        return "The reply is empty."
    if is_page(answer.text) and not answer.may_hold_token:
        return "What came is a web page and not a token endpoint's answer."
    if answer.found.document is None:
        return "The reply breaks off, or is neither JSON nor a form, so that nothing can be read from it."
    return "The reply holds no access token where one is looked for."


def _refresh_token(answer: _Answer) -> SecretStr | None:
    """The refresh token to keep, if the reply leaves no doubt about it.

    Of one that breaks off only a new one counts: that there is none, nobody knows.
    """
    brought = answer.brought
    if brought.others:
        words = SEVERAL if brought.token is None and len(brought.others) > 1 else ELSEWHERE
        raise answer.failure(FailureClass.REPLY_UNUSABLE, words)
    if answer.renews and not answer.found.whole and (brought.token is None or brought.token in answer.known):
        raise answer.failure(FailureClass.REPLY_UNUSABLE, "The reply breaks off before a new refresh token.")
    return SecretStr(brought.token) if brought.token is not None else None


def _scope(value: Any) -> str | None:
    """Scope as granted, in one line; a list is joined as RFC 6749 §3.3 writes it. None when nothing is said."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    return one_line(value)[:LONGEST_SCOPE] or None if isinstance(value, str) else None

"""What stands where in a token reply: fields by their names of RFC 6749 §5.1, wherever the provider put them.

By its own name at the top, by another spelling of it, in one wrapper around it all, or where an admin says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from oauth import documents, expressions, traces
from oauth.documents import Document
from oauth.traces import NO_TOKEN_NAME, SHORTEST_TOKEN

MAPPABLE = {
    "access_token": "Access token",
    "refresh_token": "Refresh token",
    "expires_in": "Lifetime",
    "token_type": "Token type",
    "scope": "Scope",
    "error": "Error",
}
"""Fields an admin can point at, with their names on the screen."""
TOKENS = ("access_token", "refresh_token", "id_token")
WRAPPERS = (
    "data", "result", "response", "payload", "body", "token", "tokens", "auth", "oauth", "credentials", "authed_user",
)  # fmt: skip
"""Objects in which providers are known to put the whole of RFC 6749 §5.1. Any other takes an admin's word: it may
hold somebody else's token."""
MARKS = re.compile(r"[_.\-]")
SPELLINGS = {MARKS.sub("", name): name for name in (*TOKENS, "token_type")}
NONE_AT_ALL = ("''", "`null`")
"""A mapping of the refresh token by which an admin says that replies hold none for this connection."""
LONGEST_MAPPED = 64 * 1024
"""Characters of a reply in which an admin's mapping is followed: it takes its time, and other requests wait."""
MOST_NODES = 2000
DEEPEST = 12


@dataclass(frozen=True)
class Fields:
    """A reply by the names of RFC 6749, and the reply as it came."""

    values: Mapping[str, Any]
    """Everything at the top, and what was found elsewhere under its usual name."""
    document: Any
    """The JSON value or form; None when it was neither."""
    several: bool = False
    """Whether more than one wrapper holds an access token, so that nobody can tell which is meant."""
    text: str = field(default="", repr=False)
    whole: bool = True
    """Whether nothing is missing at its end."""
    is_form: bool = False
    brings_no_refresh_token: bool = False
    """Whether an admin says so."""

    @property
    def is_read(self) -> bool:
        """Whether nothing in it is left that has not been looked at."""
        return self.document is not None and self.whole and not self.is_form and not is_vast(self.document)

    @property
    def may_hold_token(self) -> bool:
        """Whether something in it could be a token that was not found: then a person should look before it is lost."""
        if self.document is not None and any(True for _ in candidates(self.document)):
            return True
        unread = [value for _path, _name, value in leaves(self.document) if isinstance(value, str)]
        named = any(True for value in unread for _ in traces.named(value))
        return named or (not self.is_read and any(True for _ in traces.of_tokens(self.text)))

    @property
    def could_be_mapped(self) -> bool:
        """Whether there is anything in it that a mapping could point at."""
        return isinstance(self.document, dict | list) and bool(self.document)


def read(text: str, mapping: Mapping[str, str]) -> Fields:
    """The fields of a reply; `mapping` says by JMESPath where some of them stand. Never raises."""
    found = documents.document(text)
    document = found.value
    top = _spelled(document) if isinstance(document, dict) else {}
    inner = [] if _is_text(top.get("access_token")) else _wrapped(top)
    if len(inner) == 1:
        top = {**top, **{name: value for name, value in inner[0].items() if name not in top or not _is_nothing(value)}}
    if _is_nothing(top.get("refresh_token")):
        top = {**top, **_wrapped_alone(top)}
    mapped = _mapped(document, mapping) if len(text) <= LONGEST_MAPPED else {}
    if not mapped and not inner and not _is_reply(found, top):
        top = {}
    return Fields(
        {**top, **mapped},
        document,
        len(inner) > 1 and "access_token" not in mapped,
        text,
        found.whole,
        found.is_form,
        mapping.get("refresh_token", "").strip() in NONE_AT_ALL,
    )


def candidates(document: Any) -> Iterator[tuple[str, str, str]]:
    """Every text that could be a token: its path as JMESPath, its name, and itself."""
    for path, name, value in leaves(document):
        if isinstance(value, str) and could_be_token(name, value):
            yield path, name, value


def is_vast(document: Any) -> bool:
    """Whether `leaves` leaves something of it out."""
    return any(isinstance(value, dict | list) for _path, _name, value in leaves(document))


def leaves(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Every value that holds no others: path, name (of what holds it, in a list), value. Of a huge reply the start.

    What is too much or too deep to be looked into is there as a whole.
    """
    waiting: list[tuple[str, str, Any, int]] = [("", "", document, 0)]
    for _ in range(MOST_NODES):
        if not waiting:
            return
        path, name, value, depth = waiting.pop(0)
        if not isinstance(value, dict | list) or not value:
            yield path, name, value if value not in ({}, []) else None
            continue
        room = MOST_NODES - len(waiting)
        if depth >= DEEPEST or len(value) > room:
            yield path, name, value
        if depth < DEEPEST:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in list(pairs)[:room]:
                waiting.append((expressions.member(path, key), key if isinstance(key, str) else name, item, depth + 1))
    yield from ((path, name, value) for path, name, value, _depth in waiting)


def could_be_token(name: str, value: str) -> bool:
    """Whether a text under this name could be a token."""
    if " " in value.strip() or value.startswith(("http://", "https://")) or "\n" in value.strip():
        return False
    if "token" in name.lower() and not NO_TOKEN_NAME.search(name):
        return bool(value.strip())
    return len(value) >= SHORTEST_TOKEN and not NO_TOKEN_NAME.search(name)


def _spelled(found: Mapping[str, Any]) -> dict[str, Any]:
    """With `accessToken` and the like under their proper names as well, where those say nothing."""
    others = {SPELLINGS.get(MARKS.sub("", name).lower()): value for name, value in found.items() if value}
    named = {name: value for name, value in others.items() if name is not None and _is_nothing(found.get(name))}
    return {**found, **named}


def _wrappers(top: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects one level down in which a reply may stand, be they written as a text or not."""
    values = [top[name] for name in WRAPPERS if name in top]
    values = [documents.load(value) if isinstance(value, str) and value[:1] == "{" else value for value in values]
    return [_spelled(value) for value in values if isinstance(value, dict)]


def _wrapped(top: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of them that hold an access token."""
    return [found for found in _wrappers(top) if _is_text(found.get("access_token"))]


def _wrapped_alone(top: Mapping[str, Any]) -> dict[str, Any]:
    """A refresh token in a wrapper, beside an access token at the top: not one that goes with another access token."""
    ours = (None, "", top.get("access_token"))
    inner = [found for found in _wrappers(top) if found.get("access_token") in ours]
    values = [found["refresh_token"] for found in inner if not _is_nothing(found.get("refresh_token"))]
    return {"refresh_token": values[0]} if len(values) == 1 and _is_text(top.get("access_token")) else {}


def _mapped(document: Any, mapping: Mapping[str, str]) -> dict[str, Any]:
    """What is found where the admin says; what is not found there is looked for under its usual name."""
    found: dict[str, Any] = {}
    for name, expression in mapping.items():
        value = expressions.find(expression, document) if document is not None else None
        if name == "error" and value is not None:
            found |= _error(value)
        elif name in TOKENS and not _is_text(value) and (name != "refresh_token" or not _is_number(value)):
            continue
        elif name in MAPPABLE and not _is_nothing(value):
            found[name] = value
    return found


def _error(value: Any) -> dict[str, Any]:
    """An error where an admin pointed at it. No and zero are answers: then there is none, whatever else says so."""
    if value is False or value == 0:
        return {"error": None, "ok": None}
    return {"error": "error" if value is True else str(value) if isinstance(value, int | float) else value}


def _is_reply(found: Document, top: Mapping[str, Any]) -> bool:
    """Whether something form-encoded is a reply at all, and not any text with an equals sign in it."""
    return not found.is_form or "access_token" in top or "error" in top


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_nothing(value: Any) -> bool:
    return value is None or value in ("", [], {})

"""What stands where in a token reply: fields by their names of RFC 6749 §5.1, wherever the provider put them.

By its own name at the top, by another spelling of it, in one wrapper around it all, or where an admin says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from oauth import expressions

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
SHORTEST_TOKEN = 16
NO_TOKEN_NAME = re.compile(
    r"(?i)(^|[a-z_])(id|uri|url|time|date|at|scope|type|message|description|status|state|error|code|reason|hint|name|email|host|domain)s?$"
)
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

    @property
    def may_hold_token(self) -> bool:
        """Whether something in it could be a token that was not found: then a person should look before it is lost."""
        return any(True for _path, _name, _value in candidates(self.document))


def read(text: str, mapping: Mapping[str, str]) -> Fields:
    """The fields of a reply; `mapping` says by JMESPath where some of them stand. Never raises."""
    document = parsed(text)
    top = _spelled(document) if isinstance(document, dict) else {}
    inner = [] if _is_text(top.get("access_token")) else _wrapped(top)
    if len(inner) == 1:
        top = {**top, **{name: value for name, value in inner[0].items() if name not in top or not _is_nothing(value)}}
    found = _mapped(document, mapping) if len(text) <= LONGEST_MAPPED else {}
    if not found and not inner and not _is_reply(text, top):
        top = {}
    return Fields({**top, **found}, document, len(inner) > 1 and "access_token" not in found)


def parsed(text: str) -> Any:
    """JSON, or else form-encoded, since both kinds are met; None when it is neither."""
    stripped = text.strip().strip("\ufeff")
    if stripped.startswith(("{", "[")):
        try:
            return json.loads(stripped, object_pairs_hook=_object, strict=False)
        except (ValueError, RecursionError):
            return None
    if "=" not in stripped or stripped.startswith(("<", '"')):
        return None
    return dict(parse_qsl(stripped)) or None


def candidates(document: Any) -> Iterator[tuple[str, str, str]]:
    """Every text that could be a token: its path as JMESPath, its name, and itself."""
    for path, name, value in leaves(document):
        if isinstance(value, str) and _could_be_token(name, value):
            yield path, name, value


def leaves(document: Any) -> Iterator[tuple[str, str, Any]]:
    """Every value that holds no others: path, name (of what holds it, in a list), value. Of a huge reply the start."""
    waiting: list[tuple[str, str, Any, int]] = [("", "", document, 0)]
    for _ in range(MOST_NODES):
        if not waiting:
            return
        path, name, value, depth = waiting.pop(0)
        if isinstance(value, dict | list) and depth < DEEPEST:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in list(pairs)[: MOST_NODES - len(waiting)]:
                waiting.append((expressions.member(path, key), key if isinstance(key, str) else name, item, depth + 1))
        elif not isinstance(value, dict | list):
            yield path, name, value


def _could_be_token(name: str, value: str) -> bool:
    if " " in value.strip() or value.startswith(("http://", "https://")) or "\n" in value.strip():
        return False
    if "token" in name.lower() and not NO_TOKEN_NAME.search(name):
        return bool(value.strip())
    return len(value) >= SHORTEST_TOKEN and not NO_TOKEN_NAME.search(name)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of several equal names counts, as in most parsers, except that nothing does not erase something."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found or value not in (None, ""):
            found[name] = value
    return found


def _spelled(found: Mapping[str, Any]) -> dict[str, Any]:
    """With `accessToken` and the like under their proper names as well, where those say nothing."""
    others = {SPELLINGS.get(MARKS.sub("", name).lower()): value for name, value in found.items() if value}
    named = {name: value for name, value in others.items() if name is not None and _is_nothing(found.get(name))}
    return {**found, **named}


def _wrapped(top: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The objects one level down that hold an access token."""
    inner = [_spelled(top[name]) for name in WRAPPERS if isinstance(top.get(name), dict)]
    return [found for found in inner if _is_text(found.get("access_token"))]


def _mapped(document: Any, mapping: Mapping[str, str]) -> dict[str, Any]:
    """What is found where the admin says; what is not found there is looked for under its usual name."""
    found: dict[str, Any] = {}
    for name, expression in mapping.items():
        value = expressions.find(expression, document) if document is not None else None
        if name == "error" and value is not None:
            found |= _error(value)
        elif name in TOKENS and not _is_text(value):
            continue
        elif name in MAPPABLE and not _is_nothing(value):
            found[name] = value
    return found


def _error(value: Any) -> dict[str, Any]:
    """An error where an admin pointed at it. No and zero are answers: then there is none, whatever else says so."""
    if value is False or value == 0:
        return {"error": None, "ok": None}
    return {"error": "error" if value is True else str(value) if isinstance(value, int | float) else value}


def _is_reply(text: str, top: Mapping[str, Any]) -> bool:
    """Whether something form-encoded is a reply at all, and not any text with an equals sign in it."""
    return text.strip("\ufeff \t\r\n").startswith("{") or "access_token" in top or "error" in top


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_nothing(value: Any) -> bool:
    return value is None or value in ("", [], {})

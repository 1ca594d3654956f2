"""What a kept reply looks like, without what it says: a tree of names, types and lengths, and where a token may be."""

from __future__ import annotations

import re
from typing import Any

from oauth import expressions
from oauth.fields import MAPPABLE, MARKS, candidates, leaves
from services.preview_tree import Node

MOST_NODES = 200
DEEPEST = 8
STARS = "•••"
PLAIN_NAME = re.compile(r"[A-Za-z_$@:.][A-Za-z0-9_$@:. -]{0,47}")
SECRET_NAME = re.compile(r"(?i)token|secret|key|code|pass|pin\b|sig|auth|session|jwt|cred")
HARMLESS_NAME = re.compile(r"(?i)expir|_in$|_at$|error")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]{5,18}(Z|[+-][0-9:]{4,6})?)?")
LONGEST_NUMBER = 13
"""Digits: as many as milliseconds since 1970 have."""
MEANT = {
    "accesstoken": "access_token", "bearertoken": "access_token", "oauthtoken": "access_token", "token": "access_token",
    "refreshtoken": "refresh_token", "renewtoken": "refresh_token", "renewaltoken": "refresh_token",
}  # fmt: skip
LENGTHS = frozenset({"expiresin", "expirein", "expires", "ttl", "lifetime", "validfor"})
"""Names of lengths of time, as of `MEANT` without the marks that differ by taste."""


def tree(document: Any) -> Node:
    """The tree of a reply. Numbers, dates and words such as true show; every other value is stars and a length."""
    return _Budget().node(None, "", document, DEEPEST)


def suggestions(document: Any) -> list[str]:
    """Lines of a reply mapping that would find what is named like a token."""
    found: dict[str, str] = {}
    for path, name, _value in candidates(document):
        field = MEANT.get(_bare(name))
        if field and not expressions.problem(path):
            found.setdefault(field, path)
    lengths = (
        path for path, name, value in leaves(document) if _bare(name) in LENGTHS and isinstance(value, int | str)
    )
    length = next(lengths, "")
    if found and length and not expressions.problem(length):
        found["expires_in"] = length
    return [f"{field}={found[field]}" for field in MAPPABLE if field in found]


class _Budget:
    """How many values may still be shown."""

    def __init__(self) -> None:
        self.nodes = 0

    def node(self, name: str | None, path: str, value: Any, levels: int) -> Node:
        """One value with what fits of its children."""
        self.nodes += 1
        label = name if name is None or _is_plain(name) else f"{STARS} a name of {len(name):,} characters"
        shown = "" if label != name else path
        if not isinstance(value, dict | list):
            return Node(label, shown, _kind(value), _text(name or "", value))
        pairs: list[tuple[str | int, Any]] = list(value.items() if isinstance(value, dict) else enumerate(value))
        children = []
        for key, item in pairs if levels else ():
            if self.nodes >= MOST_NODES:
                break
            # An entry of a list is as secret as the list.
            child = self.node(
                key if isinstance(key, str) else f"[{key}]", expressions.member(path, key), item, levels - 1
            )
            children.append(child)
        kind, one, many = ("object", "value", "values") if isinstance(value, dict) else ("array", "entry", "entries")
        text = f"{len(value):,} {one if len(value) == 1 else many}"
        return Node(label, shown, kind, text, tuple(children), len(pairs) - len(children))


def _bare(name: str) -> str:
    return MARKS.sub("", name).lower()


def _is_plain(name: str) -> bool:
    """Whether a name is a name: some providers use ids, and worse, as names."""
    is_entry = name.startswith("[") and name[1:-1].isdigit()
    return is_entry or (PLAIN_NAME.fullmatch(name) is not None and sum(char.isdigit() for char in name) < 5)


def _text(name: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    secret = SECRET_NAME.search(name) is not None and HARMLESS_NAME.search(name) is None
    text = str(value)
    number = isinstance(value, int | float) or (text.isascii() and text.isdigit())
    if (number and not secret and len(text) <= LONGEST_NUMBER) or DATE.fullmatch(text):
        return text
    what = "text" if isinstance(value, str) else "a number"
    return f"{STARS} {what} of {len(text):,} {'character' if len(text) == 1 else 'characters'}"


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "string"
    return "word" if value is None or isinstance(value, bool) else "number"

"""Which refresh token a reply brings. One that is overlooked here costs the grant at many providers (RFC 9700 §4.14.2).

So whatever could be a new one is either taken or told of; `oauth.reply` keeps such a reply for a person to decide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from oauth import traces
from oauth.fields import MARKS, Fields, could_be_token, leaves

NEWER = frozenset({"newrefreshtoken", "refreshtokennew", "nextrefreshtoken", "rotatedrefreshtoken"})
"""Other names under which providers send one, without the marks that differ by taste."""
WITHIN = ("token", "value", "refreshtoken", *NEWER)
"""Names under which it stands where it is an object."""
NONE = frozenset({"", "null", "none", "undefined"})
"""Texts by which programs say that there is none."""
_RENEWING = re.compile(r"(?i)refresh|renew|rotated")
_ABOUT = re.compile(
    r"(?i)expir|lifetime|ttl|valid|max_?age|issued|_in$|[a-z](In|At|On)$|_on$|count|left|remain|period|policy|enabled|version|scope"
)
"""What is said about a refresh token and is none."""
LONGEST_AMOUNT = 9
"""Digits of a number that is taken for an amount, where its name is not that of a refresh token."""


@dataclass(frozen=True)
class Brought:
    """What a reply says of the refresh token."""

    token: str | None = None
    """The one to keep: a new one, or ours once more. None where it brings none, or nobody can tell which."""
    others: tuple[str, ...] = ()
    """What could be a new one all the same, where none was found that is new."""


def brought(found: Fields, known: Collection[str]) -> Brought:
    """The refresh token in a reply; `known` are the secrets that we sent, which an echo does not make new."""
    if found.brings_no_refresh_token:
        return Brought()
    values = list(dict.fromkeys(_named(found.values)))
    usable = [value for value in values if _can_be_encoded(value)]
    new = [value for value in usable if value not in known]
    if len(new) == 1:
        return Brought(new[0])
    access = found.values.get("access_token")
    others = [value for value in (*values, *_elsewhere(found)) if value not in known and value != access]
    others = [value for value in others if not is_none(value)]
    return Brought(usable[0] if usable and not new else None, tuple(dict.fromkeys(others)))


def is_none(value: Any) -> bool:
    """Whether a field says that there is no token."""
    if isinstance(value, str):
        return value.strip().lower() in NONE
    return value is None or isinstance(value, bool) or value in (0, [], {}) or (isinstance(value, int) and value < 0)


def _named(values: Mapping[str, Any]) -> Iterator[str]:
    """Refresh tokens at the top: text, a number, or an object or list that holds nothing else."""
    for name, value in values.items():
        if name == "refresh_token" or MARKS.sub("", name).lower() in NEWER:
            yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if is_none(value):
        return
    if isinstance(value, str):
        yield value
    elif isinstance(value, int):
        yield str(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if MARKS.sub("", name).lower() in WITHIN and not isinstance(inner, dict | list):
                yield from _texts(inner)
    elif isinstance(value, list) and not any(isinstance(item, list) for item in value):
        for item in value:
            yield from _texts(item)


def _elsewhere(found: Fields) -> Iterator[str]:
    """Whatever in the rest of it is named like a refresh token, or stands in something that is."""
    for path, name, value in leaves(found.document):
        named = _RENEWING.search(path) and not _ABOUT.search(name) and not is_none(value)
        if isinstance(value, str):
            if named and could_be_token(name, value):
                yield value
            yield from traces.of_refresh_tokens(value)
        elif named and isinstance(value, int | float):
            if len(str(value)) > LONGEST_AMOUNT or MARKS.sub("", name).lower() == "refreshtoken":
                yield str(value)
        elif named:
            yield path  # more than can be looked into
    if not found.is_read:
        yield from traces.of_refresh_tokens(found.text, cut=not found.whole)


def _can_be_encoded(value: str) -> bool:
    """Whether it can be sent: it travels form-encoded, so any text but half a character will do."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True

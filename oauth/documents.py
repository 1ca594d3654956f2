"""The JSON value or form in a reply, also where something stands around it or its end is missing. Never raises."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

BLANK = "\ufeff \t\r\n"
PAGE = re.compile(r"(?i)<(!doctype|html|head|body|script|form)\b")
"""What makes a text a web page: whatever stands in one was not written for us. A notice before a reply has none."""
FORM = re.compile(r"[\w.\-%\[\]]+=")
FORM_WITHIN = re.compile(r"(?<!\S)[\w.\-]+=[^\s&<>]*(?:&[\w.\-]+=[^\s&<>]*)+")
PIECE = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]:,"]|[^\s"{}\[\]:,]++', re.DOTALL)
"""Strings, marks and words of JSON; a quotation mark by itself begins a string without an end."""
CLOSING = {"{": "}", "[": "]"}
MOST_PIECES = 120_000
"""Of all tries together: about a tenth of a second."""
DEEPEST = 60
"""Levels that are read where the plain way fails; whatever is deeper is left out."""
MOST_OBJECTS = 20
MOST_WRAPPINGS = 3
MOST_DIGITS = 600
"""Digits of a whole number; one with more is text, since Python refuses to read those."""


@dataclass(frozen=True)
class Document:
    """What a reply is made of."""

    value: Any = None
    """A JSON value or the pairs of a form; None when it was neither."""
    is_form: bool = False
    whole: bool = True
    """Whether nothing is missing at its end."""


def document(text: str) -> Document:
    """The one JSON value or form in a text: all of it, or with something before and after it.

    Several objects that may be meant are a list of them. A web page is none, whatever is in it.
    """
    stripped = text.strip(BLANK)
    value = _unwrapped(load(stripped)) if stripped.startswith(("{", "[", '"')) else None
    if value is not None:
        return value if isinstance(value, Document) else Document(value)
    if PAGE.search(stripped):
        return Document()
    if FORM.match(stripped):
        return _form(stripped)
    found = _objects(stripped)
    if found:
        return found[0] if len(found) == 1 else Document([each.value for each in found])
    within = [form for form in FORM_WITHIN.findall(stripped) if "token=" in form.lower()]
    return _form(within[0]) if len(within) == 1 else Document()


def load(text: str) -> Any:
    """JSON of any numbers; None for what is none, and for what is nested too deep."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer, strict=False)
    except (ValueError, RecursionError):
        return None


def _unwrapped(value: Any) -> Any:
    """JSON or a form that was written as a JSON string, itself; any other string stays one."""
    for _ in range(MOST_WRAPPINGS):
        if not isinstance(value, str):
            return value
        inner = load(value.strip(BLANK))
        if not isinstance(inner, dict | list | str):
            return _form(value) if FORM.match(value) and "token=" in value else value
        value = inner
    return value


def _form(text: str) -> Document:
    pairs = dict(parse_qsl(text))
    return Document(pairs or None, is_form=bool(pairs))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last of several equal names counts, as in most parsers, except that nothing does not erase something."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found or value not in (None, ""):
            found[name] = value
    return found


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= MOST_DIGITS else digits


def _objects(text: str) -> list[Document]:
    """The JSON objects in a text; where some of several name a token, those."""
    found: list[Document] = []
    for mended in _mended(text):
        value = load(mended.text)
        one = Document(value, whole=mended.whole)
        if isinstance(value, dict) and value and one not in found:
            found.append(one)
    return [one for one in found if _names_token(one.value)] or found


def _names_token(value: dict[str, Any]) -> bool:
    inner = [name for item in value.values() if isinstance(item, dict) for name in item]
    return any("token" in name.lower() for name in (*value, *inner))


@dataclass(frozen=True)
class _Mended:
    text: str
    end: int
    """Where in the original it ends."""
    whole: bool
    pieces: int


def _mended(text: str) -> Iterator[_Mended]:
    """Whatever begins like an object, made fit to be read as JSON."""
    left, start, seen = MOST_PIECES, text.find("{"), 0
    while start >= 0 and left > 0 and seen < MOST_OBJECTS:
        mended = _mend(text, start, left)
        left, seen = left - mended.pieces, seen + 1
        yield mended
        # One without an end may have begun in the words before the reply.
        start = text.find("{", mended.end if mended.whole else start + 1)


def _mend(text: str, start: int, most: int) -> _Mended:
    """The object that begins at `start`, as far as it goes, without needless commas and what is nested too deep."""
    out: list[str] = []
    open_ones: list[str] = []
    too_deep = complete = pieces = 0
    before = ""
    for match in PIECE.finditer(text, start):
        piece, pieces = match[0], pieces + 1
        if pieces > most:
            break
        if piece == '"':
            break
        if too_deep:
            too_deep += (piece in CLOSING) - (piece in ("}", "]"))
        elif piece in CLOSING and len(open_ones) >= DEEPEST:
            too_deep = 1
            out.append("null")
        elif piece in ("}", "]"):
            if out[-1] == ",":
                out.pop()
            out.append(piece)
            if piece != CLOSING[open_ones.pop()] or not open_ones:
                return _Mended(" ".join(out), match.end(), True, pieces)
            complete = len(out)
        else:
            out.append(piece)
            if piece in CLOSING:
                open_ones.append(piece)
            if piece in CLOSING or (before == ":" and piece.startswith('"')):
                complete = len(out)
            elif piece == ",":
                complete = len(out) - 1
        before = piece
    return _Mended(" ".join(_closed(out[:complete])), len(text), False, pieces)


def _closed(pieces: list[str]) -> list[str]:
    """With an end to everything that has none."""
    open_ones: list[str] = []
    for piece in pieces:
        if piece in CLOSING:
            open_ones.append(CLOSING[piece])
        elif piece in ("}", "]"):
            open_ones.pop()
    return [*pieces, *reversed(open_ones)]

"""Other people's encodings undone: a text as it may be read, and where in the original each character of it stands."""

from __future__ import annotations

import binascii
import html
import re
import string
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

ROUNDS = 4
"""How often escapes are undone: what was encoded twice by one side and once more by another is still found."""
DEEPEST = 2
"""How many layers of base64 and hex are looked into."""
SHORTEST_BASE64 = 8
SHORTEST_HEX = 12
ESCAPE = re.compile(
    r"""(?ix)
    (?P<percent> (?: %[0-9a-f]{2} )+ )
    | (?P<byte> (?: \\x[0-9a-f]{2} )+ )
    | (?: \\u | %u ) (?P<unit> [0-9a-f]{4} )
    | \\u\{ (?P<point> [0-9a-f]{1,6} ) \}
    | &\#x (?P<hex> [0-9a-f]{1,6} ) ;?
    | &\#  (?P<number> [0-9]{1,7} ) ;?
    | (?P<named> & [a-z][a-z0-9]{1,31} ; )
    | \\ (?P<blank> [nrtbfv] )
    | \\ (?P<itself> [!-/:-@\[-`{-~] )
    | (?P<utf8> (?-i: [\xc2-\xdf][\x80-\xbf] | [\xe0-\xef][\x80-\xbf]{2} | [\xf0-\xf4][\x80-\xbf]{3} ) )
    | (?P<wide> [\uff01-\uff5e] )
    | (?P<nothing> [\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff] )
    """
)
TAG = re.compile(r"<[!/?a-z][^<>]*>", re.IGNORECASE)
READABLE = re.compile("[ -~]{6}|(?:[ -~]?[\xe2\xef][\x80-\xbf]{2}){3}")
"""What decoding a text that is not encoded hardly ever gives."""
HEX_PREFIX = re.compile("0x", re.IGNORECASE)
BASE64_LETTERS = frozenset(string.ascii_letters + string.digits + "+/-_")
HEX_LETTERS = frozenset(string.hexdigits)
_NO_BASE64 = bytes(set(range(256)) - {ord(letter) for letter in BASE64_LETTERS})
_NO_HEX = bytes(set(range(256)) - {ord(letter) for letter in HEX_LETTERS})
_STANDARD = bytes.maketrans(b"-_", b"+/")

Places = tuple[Sequence[int], Sequence[int]]
"""Where each character of a text begins and ends in the one it was made from."""


class View:
    """A text as it may be read, made from another one by undoing an encoding."""

    def __init__(
        self,
        text: str,
        source: View | None = None,
        places: Callable[[], Places] | None = None,
        *,
        unpacked: bool = False,
    ) -> None:
        """`places` is asked only if something is found here, since it takes longer than the text itself.

        `unpacked`: from base64 or hex, so that it may as well be noise.
        """
        self.text = text
        self.source = source
        self.unpacked: bool = unpacked or (source is not None and source.unpacked)
        self._find_places = places

    def original(self, start: int, stop: int) -> tuple[int, int]:
        """Where a part of this text stands in the first of them all."""
        if self.source is None:
            return start, stop
        starts, stops = self._places
        return self.source.original(starts[start], stops[stop - 1])

    @cached_property
    def _places(self) -> Places:
        assert self._find_places is not None
        return self._find_places()


def readings(first: View) -> Iterator[View]:
    """A text and whatever it may be an encoding of: escapes undone again and again, base64 and hex up to two deep.

    Bounded: each layer is shorter than the one around it, and one that gives nothing readable is not looked into.
    """
    waiting = [(first, DEEPEST)]
    while waiting:
        view, layers = waiting.pop()
        yield view
        for _ in range(ROUNDS):
            inner = unescaped(view)
            if inner is None:
                break
            view = inner
            yield view
        if layers:
            waiting += [(inside, layers - 1) for inside in (*_base64(view), *_hex(view))]


def unescaped(view: View) -> View | None:
    """One round of percent, backslash and HTML escapes undone; None when there are none.

    With them UTF-8 that was taken for Latin-1, letters of double width, and signs that show nothing.
    """
    if view.text.isascii() and "%" not in view.text and "\\" not in view.text and "&" not in view.text:
        return None
    text = ESCAPE.sub(lambda match: "".join(letter for letter, _width in _meant(match)), view.text)
    return None if text == view.text else View(text, view, lambda: _places_of_escapes(view.text))


def without_tags(view: View) -> View | None:
    """The words of a page as a browser puts them one after another; None when it has no tags."""
    text = TAG.sub("", view.text)
    return None if text == view.text else View(text, view, lambda: _places_between_tags(view.text))


def _meant(match: re.Match[str]) -> list[tuple[str, int]]:
    """The characters an escape stands for, each with how much of the escape is its own."""
    kind, found, whole = match.lastgroup, match[match.lastgroup or 0], match[0]
    if kind in ("percent", "byte"):
        return _of_bytes(whole, 3 if kind == "percent" else 4)
    if kind == "named":
        plain = html.unescape(whole)
        return [(letter, 1) for letter in whole] if plain.endswith(";") else [(plain[:1], len(whole))]
    if kind == "nothing":
        return []
    if kind in ("utf8", "wide"):
        return [(_letter(whole), len(whole))]
    if kind == "blank":
        return [(" ", len(whole))]
    if kind == "itself":
        return [(found, len(whole))]
    point = int(found, 10 if kind == "number" else 16)
    return [(chr(point) if point < 0x110000 else "\ufffd", len(whole))]


def _letter(odd: str) -> str:
    """What a letter of double width, or one that was read byte by byte, should have been."""
    if len(odd) == 1:
        return chr(ord(odd) - 0xFEE0)
    return odd.encode("latin-1").decode("utf-8", "replace")[0]


def _of_bytes(escaped: str, width: int) -> list[tuple[str, int]]:
    """Bytes written one by one: UTF-8 where they are that, else Latin-1."""
    data = bytes.fromhex("".join(escaped[at + width - 2 : at + width] for at in range(0, len(escaped), width)))
    try:
        return [(letter, width * len(letter.encode())) for letter in data.decode()]
    except UnicodeDecodeError:
        return [(letter, width) for letter in data.decode("latin-1")]


def _places_of_escapes(text: str) -> Places:
    starts: list[int] = []
    stops: list[int] = []
    at = 0
    for match in ESCAPE.finditer(text):
        starts.extend(range(at, match.start()))
        stops.extend(range(at + 1, match.start() + 1))
        at = match.start()
        for _letter, width in _meant(match):
            starts.append(at)
            at += width
            stops.append(at)
        at = match.end()
    starts.extend(range(at, len(text)))
    stops.extend(range(at + 1, len(text) + 1))
    return starts, stops


def _places_between_tags(text: str) -> Places:
    starts: list[int] = []
    at = 0
    for match in TAG.finditer(text):
        starts.extend(range(at, match.start()))
        at = match.end()
    starts.extend(range(at, len(text)))
    return starts, [start + 1 for start in starts]


def _base64(view: View) -> Iterator[View]:
    """The text without all that is no letter of base64, decoded from each of the four places a group may begin."""
    letters = view.text.encode("ascii", "ignore").translate(_STANDARD, _NO_BASE64)
    if len(letters) < SHORTEST_BASE64:
        return
    for begin in range(4):
        part = letters[begin:]
        text = binascii.a2b_base64(part + b"A" * (-len(part) % 4)).decode("latin-1")
        if READABLE.search(text):
            yield View(
                text, view, _places_of(view.text, BASE64_LETTERS, begin, _base64_letters(len(text))), unpacked=True
            )


def _hex(view: View) -> Iterator[View]:
    """The text without all that is no hex digit, decoded from both places a pair may begin."""
    plain = HEX_PREFIX.sub("  ", view.text)
    digits = plain.encode("ascii", "ignore").translate(None, _NO_HEX)
    if len(digits) < SHORTEST_HEX:
        return
    for begin in range(2):
        part = digits[begin:].decode()
        text = bytes.fromhex(part[: len(part) // 2 * 2]).decode("latin-1")
        if READABLE.search(text):
            pairs = [(2 * at, 2 * at + 1) for at in range(len(text))]
            yield View(text, view, _places_of(plain, HEX_LETTERS, begin, pairs), unpacked=True)


def _base64_letters(size: int) -> list[tuple[int, int]]:
    """The first and the last of the letters that hold each of so many bytes."""
    firsts = [at // 3 * 4 + at % 3 for at in range(size)]
    return [(first, first + 1) for first in firsts]


def _places_of(
    text: str, letters: frozenset[str], begin: int, held_by: Sequence[tuple[int, int]]
) -> Callable[[], Places]:
    """Where decoded bytes stand in `text`, of which only `letters` were read, from the `begin`th on."""

    def places() -> Places:
        read = [at for at, letter in enumerate(text) if letter in letters][begin:]
        last = len(read) - 1
        return [read[min(first, last)] for first, _ in held_by], [read[min(end, last)] + 1 for _, end in held_by]

    return places

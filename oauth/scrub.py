"""Making a provider's words fit to be shown and stored: our secrets starred, one line, a limited length.

A secret is found by its letters and digits alone, in every reading of the text (`oauth.decoding`): so neither an
encoding, nor other signs between them, nor a sign that got lost hides it.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property

from pydantic import SecretStr

from oauth.decoding import TAG, View, readings, unescaped, without_tags

LONGEST = 2048
READ_AHEAD = 4
"""How much more than shown is read: blanks are folded and secrets shrink to stars."""
GIVEN_UP = 512
"""Characters at the end of a text that was cut: a secret cut in half there may not be found."""
SHORTEST_SECRET = 3
SHORTEST_ANYWHERE = 4
"""Shorter ones are starred only where they stand as words of their own: a `dev` is part of too many words."""
SHORTEST_ENCODED = 6
"""Shorter ones turn up by chance where a text is decoded that was not encoded."""
SHORTEST_SPREAD = 8
"""Letters and digits a secret must have to be known whatever stands between them."""
SHORTEST_PIECE = 12
"""Letters and digits in a row by which a piece of a longer secret is known, as where its end is missing."""
PIECE = SHORTEST_PIECE // 2
MOST_REMEMBERED = 10_000
STARS = "•••"


class _Bare(dict[int, str | None]):
    """What is left of a character: letters and digits without case, accents and width, and nothing of all else."""

    def __missing__(self, point: int) -> str | None:
        letters = unicodedata.normalize("NFKD", chr(point)).replace("\u0131", "i").casefold()
        bare = "".join(letter for letter in unicodedata.normalize("NFKD", letters) if letter.isalnum()) or None
        if len(self) < MOST_REMEMBERED:
            self[point] = bare
        return bare


class _Alike(dict[int, str]):
    """One character for each: without case, and a blank for the plus that forms write for it."""

    def __missing__(self, point: int) -> str:
        letter = chr(point)
        bare = BARE[point] or ""
        alike = " " if letter == "+" or letter.isspace() else bare if len(bare) == 1 else letter
        if len(self) < MOST_REMEMBERED:
            self[point] = alike
        return alike


BARE, ALIKE = _Bare(), _Alike()


class Hidden:
    """Secrets made ready to be looked for in other people's words."""

    def __init__(self, secrets: Iterable[SecretStr | None] = ()) -> None:
        """Empty ones, and those too short to be one, are left out."""
        self._exact: set[str] = set()
        self._spread: set[str] = set()
        self._before: set[str] = set()
        self._after: set[str] = {"="}
        for value in {secret.get_secret_value() for secret in secrets if secret}:
            self._learn(value)

    def __bool__(self) -> bool:
        return bool(self._exact or self._spread)

    def places(self, text: str, *, page: bool = False) -> list[tuple[int, int]]:
        """Where the secrets stand in `text`, in order and apart from each other; of a page also across its tags."""
        if not self:
            return []
        first = View(text)
        found = [place for view in readings(first) for place in self._in(view)]
        words = without_tags(first) if page else None
        if words is not None:
            found += [place for view in readings(words) for place in self._in(view)]
        return _joined((start, _after_padding(text, stop)) for start, stop in found)

    def _learn(self, value: str) -> None:
        """A secret, as it is, with its own escapes undone, in UTF-8 that was taken for Latin-1, and in base64."""
        data = value.encode("utf-8", "surrogatepass")
        for form in {value, _plain(value), data.decode("latin-1")}:
            bare = form.translate(BARE)
            if len(bare) >= SHORTEST_SPREAD:
                self._spread.add(bare)
            if len(bare) < SHORTEST_SPREAD or len(bare) * 2 < len(form):
                self._exact |= {exact for exact in (form.translate(ALIKE).strip(),) if len(exact) >= SHORTEST_SECRET}
            self._learn_edges(form)
        forms = {fragment.translate(BARE) for fragment in _base64_forms(data)} | {data.hex()}
        self._spread |= {form for form in forms if len(form) >= SHORTEST_SPREAD}

    def _learn_edges(self, value: str) -> None:
        """Signs at both ends of a secret, which its letters and digits do not show."""
        signs = [not letter.translate(BARE) for letter in value]
        if all(signs):
            return
        self._before |= set(value[: signs.index(False)])
        self._after |= set(value[len(value) - signs[::-1].index(False) :])

    @cached_property
    def _whole(self) -> list[str]:
        """Secrets too short for pieces of them to tell."""
        return [bare for bare in self._spread if len(bare) < SHORTEST_PIECE]

    @cached_property
    def _pieces(self) -> frozenset[str]:
        """Every few letters in a row of the longer secrets."""
        long = (bare for bare in self._spread if len(bare) >= SHORTEST_PIECE)
        return frozenset(bare[at : at + PIECE] for bare in long for at in range(len(bare) - PIECE + 1))

    def _in(self, view: View) -> Iterator[tuple[int, int]]:
        """Where in the original a reading holds a secret."""
        for start, stop in self._in_words(view.text, SHORTEST_ENCODED if view.unpacked else SHORTEST_SECRET):
            yield view.original(start, stop)
        bare = view.text.translate(BARE)
        places: list[int] | None = None
        for start, stop in self._in_bare(bare):
            places = places or [at for at, letter in enumerate(view.text) for _ in BARE[ord(letter)] or ""]
            yield view.original(*self._with_edges(view.text, places[start], places[stop - 1] + 1))

    def _in_words(self, text: str, shortest: int) -> Iterator[tuple[int, int]]:
        """Short secrets, and such as are more signs than letters, sign by sign."""
        if not self._exact:
            return
        alike = text.translate(ALIKE)
        for form in self._exact:
            for start in _each(alike, form) if len(form) >= shortest else ():
                stop = start + len(form)
                around = alike[max(0, start - 1) : start] + alike[stop : stop + 1]
                if len(form) >= SHORTEST_ANYWHERE or not any(letter.isalnum() for letter in around):
                    yield start, stop

    def _in_bare(self, bare: str) -> Iterator[tuple[int, int]]:
        """Whole secrets and long enough pieces of them. Every few characters are looked at, so the time is linear."""
        for form in self._whole:
            yield from ((start, start + len(form)) for start in _each(bare, form))
        known, at, begin = self._pieces, 0, 0
        while known and at + PIECE <= len(bare):
            if bare[at : at + PIECE] not in known:
                at += PIECE
                continue
            start = stop = at
            while start > begin and bare[start - 1 : start - 1 + PIECE] in known:
                start -= 1
            while bare[stop + 1 : stop + 1 + PIECE] in known:
                stop += 1
            if stop + PIECE - start >= SHORTEST_PIECE:
                yield start, stop + PIECE
            at = begin = stop + 1

    def _with_edges(self, text: str, start: int, stop: int) -> tuple[int, int]:
        """A place with the signs around it that may be the secret's."""
        while start and text[start - 1] in self._before:
            start -= 1
        while stop < len(text) and text[stop] in self._after:
            stop += 1
        return start, stop


NOTHING = Hidden()


def scrub(text: str, secrets: Hidden | Iterable[SecretStr | None], limit: int = LONGEST) -> str:
    """`text` with every secret starred in each form it may be echoed in, and control characters escaped (LG-05).

    Of a long text only the beginning is read, and its own end given up. Whoever has several texts with the same
    secrets makes them ready once.
    """
    hidden = secrets if isinstance(secrets, Hidden) else Hidden(secrets)
    head = limit * READ_AHEAD + GIVEN_UP
    starred = star(text[:head], hidden)
    return one_line(starred if len(text) <= head else starred[:-GIVEN_UP])[:limit]


def star(text: str, hidden: Hidden) -> str:
    """`text` with every secret starred and nothing else changed."""
    return _starred(text, hidden.places(text))


def star_page(html: str, hidden: Hidden) -> str:
    """A page with every secret starred, also one that tags or its template put together from parts; tags stay."""
    pieces: list[tuple[int, int]] = []
    for start, stop in hidden.places(html, page=True):
        pieces += _between_tags(html, start, stop)
    return _starred(html, pieces)


def one_line(text: str) -> str:
    """Control, separator and direction-changing characters as escapes, blanks folded (LG-02)."""
    folded = " ".join(text.split())
    if folded.isprintable():
        return folded
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in folded)


def _starred(text: str, places: Iterable[tuple[int, int]]) -> str:
    parts, at = [], 0
    for start, stop in places:
        parts += [text[at:start], STARS]
        at = stop
    return "".join([*parts, text[at:]])


def _joined(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, those that overlap or touch as one."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(places):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _after_padding(text: str, stop: int) -> int:
    while text[stop : stop + 1] == "=":
        stop += 1
    return stop


def _between_tags(html: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The parts of a place that are text; the whole place if it is none, as in an attribute."""
    at, found = start, False
    for tag in TAG.finditer(html, start, stop):
        if tag.start() > at:
            yield at, tag.start()
            found = True
        at = tag.end()
    if at < stop or not found:
        yield at if found else start, stop


def _each(text: str, form: str) -> Iterator[int]:
    """Where `form` stands in `text`, one after the other."""
    at = text.find(form)
    while at >= 0:
        yield at
        at = text.find(form, at + len(form))


def _plain(value: str) -> str:
    """A value with its own escapes undone: whoever encodes it again is undone down to this."""
    view = View(value)
    while (inner := unescaped(view)) is not None:
        view = inner
    return view.text


def _base64_forms(data: bytes) -> Iterator[str]:
    """Base64 of `data` alone, and what of it shows at each of the three offsets within something longer.

    Looked for besides decoding, since case or a lost sign makes it undecodable.
    """
    for offset in range(3):
        whole = bytes(offset) + data
        yield base64.b64encode(whole).decode()[-(-offset * 8 // 6) : len(whole) * 8 // 6]

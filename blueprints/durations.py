"""Lengths of time as people type and read them: `55 min`, `1 h 30 min`, `30 d`, or a plain number of seconds."""

from __future__ import annotations

import math
import re
from typing import Any

from wtforms import StringField
from wtforms.validators import ValidationError

UNITS = {"d": 86400, "h": 3600, "min": 60, "s": 1}
WORDS = {"d": "day", "h": "hour", "min": "minute", "s": "second"}
NAMES = {
    **dict.fromkeys(("", "s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86400),
}
PART = re.compile(r"([0-9]{1,12}(?:[.,][0-9]{1,6})?)\s*([a-zA-Z]*)[\s,]*")
LONGEST = 10 * 365 * 86400.0
HOW = "Write a number with its unit, such as 55 min, 12 h or 30 d; a plain number counts seconds."


def parse(text: str) -> float:
    """Seconds. Raises ValueError with words for whoever typed it."""
    given: list[int] = []
    rest, total = text.strip(), 0.0
    while rest:
        part = PART.match(rest)
        unit = NAMES.get(part[2].lower()) if part else None
        if part is None or unit is None or (given and (not part[2] or unit >= given[-1])):
            raise ValueError(HOW)
        given.append(unit)
        total += float(part[1].replace(",", ".")) * unit
        rest = rest[part.end() :]
    if total < 1:
        raise ValueError("This has to be a second at least. Leave it empty where it does not apply.")
    if total > LONGEST:
        raise ValueError("Ten years are the most that can be set.")
    return total


def short(seconds: float) -> str:
    """`1 h 30 min`: what `parse` reads back as the same."""
    return " ".join(f"{amount} {unit}" for amount, unit in _parts(seconds, exactly=True))


def words(seconds: float) -> str:
    """`1 hour 30 minutes`: for reading, the two largest units."""
    parts = _parts(seconds, exactly=False)[:2]
    return " ".join(f"{amount} {WORDS[unit]}{'' if amount == 1 else 's'}" for amount, unit in parts)


def _parts(seconds: float, *, exactly: bool) -> list[tuple[float | int, str]]:
    """Amounts by unit, the largest first; for reading, what is below a hundredth of the whole is left out."""
    whole = seconds if exactly and not float(seconds).is_integer() else round(seconds)
    if not exactly and whole >= 100:
        step = next((size for size in (3600, 60) if whole >= size * 100), 1)
        whole = round(whole / step) * step
    found: list[tuple[float | int, str]] = []
    for unit, size in UNITS.items():
        amount = whole if unit == "s" else math.floor(whole / size)
        whole -= amount * size
        if amount:
            found.append((round(amount, 6), unit))
    return found or [(0, "s")]


class DurationField(StringField):
    """A length of time; `data` is what was typed and `seconds` what it means, None where nothing was typed."""

    seconds: float | None = None

    def process_data(self, value: Any) -> None:
        """Show a number of seconds as people write it."""
        self.seconds = float(value) if value else None
        self.data = short(self.seconds) if self.seconds else ""

    def pre_validate(self, form: Any) -> None:
        """Read what was typed. In a form that leaves the field out it only travels along."""
        self.seconds = None
        if not (self.data or "").strip():
            return
        try:
            self.seconds = parse(self.data or "")
        except ValueError as problem:
            if self.short_name not in form.left_out:
                raise ValidationError(str(problem)) from None

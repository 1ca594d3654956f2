"""Which class a provider's error is, and what to do about it: looked up in `failures.toml`, which is data."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oauth.vocabulary import FailureClass

_DATA = tomllib.loads(Path(__file__).with_name("failures.toml").read_text(encoding="utf-8"))
_NUMBERED = re.compile(r"\bAADSTS([0-9]{4,9})\b")
_PARAMETERS: Mapping[str, str] = _DATA["parameters"]
_PARAMETER = re.compile(rf"\b({'|'.join(_PARAMETERS)})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Meaning:
    """What an error comes to."""

    failure_class: FailureClass
    do: str = ""
    """What to do, as a sentence; empty where the class says it all."""


def _meanings(table: str) -> dict[str, Meaning]:
    return {name: Meaning(FailureClass(entry["class"]), entry.get("do", "")) for name, entry in _DATA[table].items()}


CODES, NUMBERS, WORDS = _meanings("codes"), _meanings("numbers"), _meanings("words")


def meaning(code: str, said: str, fields: Mapping[str, Any]) -> Meaning | None:
    """What an error means, by the numbers, words and code in it; None when nobody knows."""
    for number in _numbers(said, fields):
        if number in NUMBERS:
            return NUMBERS[number]
    spoken = said.lower()
    for words, meant in WORDS.items():
        if words in spoken:
            return meant
    known = CODES.get(code.lower())
    if known is not None and not known.do and known.failure_class is FailureClass.REQUEST_BAD:
        return Meaning(known.failure_class, parameter(said))
    return known


def parameter(said: str) -> str:
    """Which setting the provider's words point at, as a next step; empty when they name none."""
    found = _PARAMETER.search(said)
    return f"Check {_PARAMETERS[found[1].lower()]}." if found else ""


def _numbers(said: str, fields: Mapping[str, Any]) -> Iterator[str]:
    listed = fields.get("error_codes")
    for number in listed[:20] if isinstance(listed, list) else ():
        if isinstance(number, int):
            yield str(number)
    yield from _NUMBERED.findall(said)

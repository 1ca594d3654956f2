"""How a verb says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """What was asked for cannot be done; the message is a plain sentence with the next step."""


class NotFound(Refused):
    """No such thing, or none that this person may know of."""


class InvalidInput(Refused):
    """Fields to correct: name of the field → what is wrong, in words to act on."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        """`errors` maps form field names to sentences."""
        super().__init__("; ".join(errors.values()))
        self.errors = dict(errors)


class Stale(Refused):
    """Somebody else saved meanwhile; carries the row as it is now."""

    def __init__(self, current: Any) -> None:
        """`current` is the stored row."""
        super().__init__("Somebody else saved this in the meantime. Compare the values and save again.")
        self.current = current

"""The conversation's values, encoded for the position they stand in. Knows nothing of who sends the request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

PLACEHOLDER = re.compile(r"\{\{\s*([A-Za-z0-9_]{1,60})\s*\}\}")


@dataclass(frozen=True)
class Placeholder:
    """A value a card may use. `sample` is what a preview starts with."""

    name: str
    label: str
    sample: str


KNOWN = (
    Placeholder("customer_email", "Customer's e-mail", "ada@example.com"),
    Placeholder("customer_phone_number", "Customer's phone number", "+4520123456"),
    Placeholder("customer_external_id", "Customer's external id", "cust_1842"),
    Placeholder("agent_email", "Assigned agent's e-mail", "agent@example.com"),
    Placeholder("csid", "Conversation id", "10427"),
)
NAMES = frozenset(known.name for known in KNOWN)


class PlaceholderProblem(ValueError):
    """A placeholder that cannot be filled; the message says what to change."""


def names_in(text: str) -> set[str]:
    """Names of the placeholders in a text."""
    return set(PLACEHOLDER.findall(text))


def check(text: str) -> None:
    """Refuse placeholders nobody knows. Raises PlaceholderProblem."""
    unknown = sorted(names_in(text) - NAMES)
    if unknown:
        known = ", ".join(sorted(NAMES))
        raise PlaceholderProblem(f"There is no placeholder named {unknown[0]}. There are: {known}.")


def without(url: str) -> str:
    """The URL with every placeholder replaced by a harmless letter, to check its shape. Raises PlaceholderProblem."""
    check(url)
    if names_in(_authority(url)):
        raise PlaceholderProblem("A placeholder may stand after the host name only: who is called is fixed.")
    return PLACEHOLDER.sub("x", url)


def fill_url(url: str, values: Mapping[str, str]) -> str:
    """The URL with values percent-encoded: each is one path segment or one query value whatever it holds."""
    without(url)
    return PLACEHOLDER.sub(lambda match: _segment(values.get(match[1], "")), url)


def fill_header(text: str, values: Mapping[str, str]) -> str:
    """A header value with values as they are. Raises PlaceholderProblem for one that would break the line."""
    check(text)
    filled = PLACEHOLDER.sub(lambda match: values.get(match[1], ""), text)
    if any(ord(char) < 32 or ord(char) == 127 for char in filled):
        raise PlaceholderProblem("A value for this header holds a line break or control character.")
    return filled


def _segment(value: str) -> str:
    """Dots alone would climb the path, so they are encoded too."""
    return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")


def _authority(url: str) -> str:
    """Everything up to the end of the host and port."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + re.split(r"[/?#]", rest, maxsplit=1)[0] if separator else url

"""Making a provider's words fit to be shown and stored: our secrets starred, one line, a limited length."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

LONGEST = 2048
READ_AHEAD = 4
"""How much more than shown is read: blanks are folded and secrets shrink to stars."""
SHORTEST_SECRET = 4
SHORTEST_FRAGMENT = 8
STARS = "•••"
FOLDED = {"\u0130": "i", "\u0131": "i", "\u017f": "s", "\u212a": "k"}
"""All that is no ASCII and yet the same as an ASCII letter where case does not matter."""


def scrub(text: str, secrets: Iterable[SecretStr | None], limit: int = LONGEST) -> str:
    """`text` with every secret starred in each form it may be echoed in, and control characters escaped (LG-05).

    Of a long text only the beginning is read, and its own end given up: a secret cut in half is not found.
    """
    return scrub_forms(text, forms(secrets), limit)


def scrub_forms(text: str, hidden: Sequence[str], limit: int = LONGEST) -> str:
    """`scrub` for several texts with the same secrets, whose `forms` take a while to find."""
    longest = len(hidden[0]) if hidden else 1
    head = limit * READ_AHEAD + longest
    starred = star(text[:head], hidden)
    return one_line(starred if len(text) <= head else starred[:-longest])[:limit]


def forms(secrets: Iterable[SecretStr | None]) -> list[str]:
    """Every form in which the secrets may be echoed, the longest first."""
    found: set[str] = set()
    for secret in secrets:
        value = secret.get_secret_value() if secret else ""
        if len(value) >= SHORTEST_SECRET:
            found.update(_forms(value))
    return sorted(found, key=len, reverse=True)


def star(text: str, hidden: Iterable[str]) -> str:
    r"""`text` with each of `hidden` (see `forms`) starred and nothing else changed; case does not matter.

    `%c3` and `%C3`, `\u00e9` and `\u00E9` are the same echo, so case is not compared.
    """
    pattern = "|".join(re.escape(form) for form in _present(text, hidden))
    return re.sub(pattern, STARS, text, flags=re.IGNORECASE) if pattern else text


def one_line(text: str) -> str:
    """Control, separator and direction-changing characters as escapes, blanks folded (LG-02)."""
    folded = " ".join(text.split())
    if folded.isprintable():
        return folded
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in folded)


def _present(text: str, hidden: Iterable[str]) -> Iterator[str]:
    """Those of `hidden` that may be in `text`: looking for each alone is a hundred times faster than for all at once.

    Only of plain ASCII it is known how case goes, once `FOLDED` is folded; anything else may be there.
    """
    plain = text
    if not text.isascii():
        for letter, like in FOLDED.items():
            plain = plain.replace(letter, like)
    plain = plain.lower()
    return (form for form in hidden if form and (not form.isascii() or form.lower() in plain))


def _forms(value: str) -> Iterator[str]:
    """Raw, folded, URL-, JSON-, HTML- and hex-encoded, and base64 wherever in a longer text it may begin."""
    data = value.encode("utf-8", "surrogatepass")
    yield value
    folded = one_line(value)
    if len(folded) >= SHORTEST_SECRET:
        yield folded
    yield quote(data, safe="")
    yield quote(data)
    yield quote_plus(data)
    for text in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        yield text
        yield text.replace("/", "\\/")
    yield html.escape(value)
    yield html.escape(value, quote=False)
    yield data.hex()
    yield from _base64_forms(data)


def _base64_forms(data: bytes) -> Iterator[str]:
    """Base64 of `data` alone, and what of it shows at each of the three offsets within something longer."""
    yield base64.b64encode(data).decode().rstrip("=")
    yield base64.urlsafe_b64encode(data).decode().rstrip("=")
    for offset in range(3):
        whole = bytes(offset) + data
        start = -(-offset * 8 // 6)
        end = len(whole) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            fragment = encode(whole).decode()[start:end]
            if len(fragment) >= SHORTEST_FRAGMENT:
                yield fragment

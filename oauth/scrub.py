"""Making a provider's words fit to be shown and stored: our secrets starred, one line, a limited length."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from pydantic import SecretStr

LONGEST = 2048
SHORTEST_SECRET = 4
STARS = "•••"


def scrub(text: str, secrets: Iterable[SecretStr | None], limit: int = LONGEST) -> str:
    """`text` with every secret starred in each form it may be echoed in, and control characters escaped (LG-05)."""
    for form in sorted(_forms(secrets), key=len, reverse=True):
        text = text.replace(form, STARS)
    return one_line(text)[:limit]


def one_line(text: str) -> str:
    """Control, separator and direction-changing characters as escapes, blanks folded (LG-02)."""
    folded = " ".join(text.split())
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in folded)


def _forms(secrets: Iterable[SecretStr | None]) -> set[str]:
    forms: set[str] = set()
    for secret in secrets:
        value = secret.get_secret_value() if secret else ""
        if len(value) < SHORTEST_SECRET:
            continue
        encoded = base64.b64encode(value.encode()).decode()
        forms |= {value, quote(value, safe=""), quote_plus(value), json.dumps(value)[1:-1], value.encode().hex()}
        forms |= {encoded, encoded.rstrip("="), base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")}
    return forms

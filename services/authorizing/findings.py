"""What to know of a new authorization although it succeeded, in plain words. Reads the rows it is given."""

from __future__ import annotations

import re

from models import Connection, Token
from oauth.vocabulary import RefreshKind

LONGEST = 300

NO_REFRESH_TOKEN = (
    "The provider gave no refresh token, so nobody can renew this authorization: when the token runs out, press "
    "Authorize again. Many providers give one only when asked for offline access, by a scope such as offline_access "
    "or by a parameter such as access_type=offline under Advanced."
)


def of(connection: Connection, token: Token) -> str:
    """Everything worth knowing about the token that was just stored; empty when it is as asked for."""
    found = [_scope(connection.scope, token.scope)]
    renewed_by_token = connection.refresh_kind is RefreshKind.REFRESH_TOKEN
    if renewed_by_token and token.refresh_token_sealed is None and token.expires_at is not None:
        found.append(NO_REFRESH_TOKEN)
    return " ".join(filter(None, found))


def _scope(asked: str, granted: str | None) -> str:
    """How the granted scope differs; one that is left out in the reply is as asked (RFC 6749 §5.1)."""
    if granted is None or not asked:
        return ""
    wanted, given = (set(re.split(r"[\s,]+", text)) - {""} for text in (asked, granted))
    if wanted == given:
        return ""
    parts = []
    if wanted - given:
        parts.append(f"without {_names(wanted - given)}")
    if given - wanted:
        parts.append(f"with {_names(given - wanted)} on top")
    return f"The provider granted another scope than the one asked for: {', and '.join(parts)}."


def _names(scopes: set[str]) -> str:
    words = ", ".join(sorted(scopes))
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"

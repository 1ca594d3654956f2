"""What a provider says went wrong: its error code and its own words, wherever in a reply it put them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from oauth.scrub import LONGEST, Hidden, one_line, scrub
from oauth.token_like import NAMED_TOKEN, star_tokens

PAGE = re.compile(r"(?i)<(?:!doctype html|html|head|body|title|h[1-6])\b")
LONGEST_EXCERPT = 300
READ_FOR_EXCERPT = 16 * LONGEST_EXCERPT


def error_code(fields: Mapping[str, Any]) -> str | None:
    """The provider's error code, in the places where providers put it; None when the reply is no error."""
    error = fields.get("error")
    if isinstance(error, Mapping) and error:
        inner = error.get("code") or error.get("type") or error.get("status")
        return one_line(str(inner)) if isinstance(inner, str | int) else "error"
    if isinstance(error, str) and error.strip():
        return one_line(error)
    return "error" if error or fields.get("ok") is False else None


def explanation(fields: Mapping[str, Any]) -> str:
    """The provider's own explanation, wherever it put it."""
    error = fields.get("error")
    nested = error if isinstance(error, Mapping) else {}
    parts = [fields.get("error_description"), fields.get("error_hint"), nested.get("message"), fields.get("message")]
    return " ".join(part for part in parts if isinstance(part, str) and part)


def is_page(text: str) -> bool:
    """Whether a reply is a web page, as from a proxy, a sign-in of the network, or a wrong address."""
    return text.lstrip("\ufeff \t\r\n").startswith("<")


def told(text: str, hidden: Hidden, limit: int = LONGEST) -> str:
    """A provider's words as they may be shown and stored: without our secrets, and without what may be a new token."""
    return star_tokens(scrub(text, hidden, limit))[:limit]


def excerpt(text: str, hidden: Hidden, status: int) -> str:
    """The first words of a page without an explanation, tags left out.

    Nothing of what may have been meant as a token reply: of a success that is no web page, and of whatever names a
    token and a value, also where its form cannot be read.
    """
    if text.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')) or NAMED_TOKEN.search(text):
        return ""
    if 200 <= status < 300 and not PAGE.search(text[:READ_FOR_EXCERPT]):
        return ""
    words: list[str] = []
    shown = True
    for piece in re.split(r"(<[^<>]*>)", text[:READ_FOR_EXCERPT]):
        if tag := re.match(r"<(/?)(script|style)\b", piece, re.IGNORECASE):
            shown = bool(tag[1])
        elif shown and not piece.startswith("<"):
            words += piece.split()
    return told(" ".join(words), hidden, LONGEST_EXCERPT)

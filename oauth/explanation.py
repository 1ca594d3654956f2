"""What a provider says went wrong: its error code and its own words, wherever in a reply it put them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr

from oauth.scrub import STARS, one_line, scrub

LONG_RUN = re.compile(r"\S{24,}")
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


def excerpt(text: str, hidden: Iterable[SecretStr | None]) -> str:
    """The first words of a page without an explanation: tags left out, and whatever may be a token we cannot read."""
    if text.lstrip("\ufeff \t\r\n").startswith(("{", "[", '"')):
        return ""
    words: list[str] = []
    shown = True
    for piece in re.split(r"(<[^<>]*>)", scrub(text, hidden, READ_FOR_EXCERPT)):
        if tag := re.match(r"<(/?)(script|style)\b", piece, re.IGNORECASE):
            shown = bool(tag[1])
        elif shown and not piece.startswith("<"):
            words += piece.split()
    prose = LONG_RUN.sub(STARS, " ".join(words))
    return re.sub(r"(?i)\b(access_token|refresh_token|id_token)=\S*", rf"\1={STARS}", prose)[:LONGEST_EXCERPT]

"""One call's limits and what comes back. Sends nothing."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from dataclasses import dataclass

# Encodings that real replies use. Python knows others that are no charset at all, or take quadratic time.
CHARSET = re.compile(
    r"ascii|utf-(8|16|32)(-[bl]e|-sig)?|iso8859-\d+|cp\d+|koi8-[rtu]|mac-\w+|tis-620|hz"
    r"|(shift_jis|euc_|gb|big5|iso2022_)\w*"
)


@dataclass(frozen=True)
class Limits:
    """Limits of one call."""

    deadline: float
    """Seconds for everything: name, connection, sending, reading."""
    connect: float
    """Seconds of it for the connection."""
    max_bytes: int
    """Bytes of the body, after decompression."""


@dataclass(frozen=True)
class Reply:
    """What came back. `headers` compare without case; `elapsed` is in seconds."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    elapsed: float
    charset: str | None = None

    @property
    def text(self) -> str:
        """The body as text; undecodable bytes become replacement characters."""
        return self.body.decode(_encoding(self.charset), "replace")


def _encoding(charset: str | None) -> str:
    try:
        name = codecs.lookup(charset or "utf-8").name
    except (LookupError, ValueError):
        name = ""
    return name if name != "utf-8" and CHARSET.fullmatch(name) else "utf-8-sig"

"""Traces of tokens in a text that nobody can read: whether it may hold the only valid one, and what is to be hidden.

In doubt there is one: a reply that is looked at in vain costs a look, one that is thrown away may cost the grant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from oauth.documents import PAGE

SHORTEST_TOKEN = 16
NO_TOKEN_NAME = re.compile(
    r"(?i)(^|[a-z_])(id|uri|url|time|date|at|scope|type|message|description|status|state|error|code|reason|hint|name|email|host|domain)s?$"
)
_NAMED = re.compile(r"(?i)token[\"'\\\]]*\s*(?:=>|[:=>])\s*[\"'\\]*([^\s\"'<>&,;{}\\]{4,})")
_NAME = re.compile(r"[\w.\-]*$")
_NAME_BEFORE = re.compile(r"([\w.\-]+)[\"'\\]*\s*[:=>]\s*[\"'\\]*$")
_OURS = re.compile(r"(?i)(access|id|refresh|renew|renewal|oauth)[_.\-]?$")
_RENEWING = re.compile(r"(?i)(refresh|renew|renewal|rotated)[_.\-]?$")
_OF_A_FORM = re.compile(r"(?i)csrf|xsrf|forgery|verification|authenticity|captcha")
_WORD = re.compile(r"[A-Z]?[a-z]{1,15}|[A-Z]{1,15}")
_RUN = re.compile(r"[A-Za-z0-9_~+/=.\-]{16,}")
_PLACE = re.compile(
    r"/.*|[a-z0-9\-]+(\.[a-z0-9\-]+)*\.[a-z]{2,}(/.*)?|.*\.(php|py|rb|js|java|html?|aspx?|cgi|go|ts|cs)"
)
"""A path, a host, a file."""
_BEFORE = 80
"""Characters that are looked at for the name of what follows them."""


def of_tokens(text: str) -> Iterator[str]:
    """Whatever in a text may be a token: what is named so, and in anything but a web page every long run."""
    if PAGE.search(text):
        yield from named(text)
        return
    yield from (value for name, value, _end in _named(text) if not _OF_A_FORM.search(name))
    yield from _runs(text)


def named(text: str) -> Iterator[str]:
    """Whatever has the name of a token of OAuth."""
    yield from (value for name, value, _end in _named(text) if _OURS.search(name))


def of_refresh_tokens(text: str, *, cut: bool = False) -> Iterator[str]:
    """Whatever is called a refresh token; where the end of the text is `cut` off, not the last word of it."""
    for name, value, end in _named(text):
        if _RENEWING.search(name) and not (cut and end == len(text)):
            yield value


def _named(text: str) -> Iterator[tuple[str, str, int]]:
    """What stands before "token" in its name, the value, and where that ends."""
    for match in _NAMED.finditer(text):
        value = match[1].rstrip(".:!?)")
        if value and not _WORD.fullmatch(value):
            before = _NAME.search(text, max(0, match.start() - _BEFORE), match.start())
            yield before[0] if before else "", value, match.end()


def _runs(text: str) -> Iterator[str]:
    """Long runs of letters and digits that are no address, and nothing that is named like something else."""
    for match in _RUN.finditer(text):
        run = match[0]
        mixed = any(char.isdigit() for char in run) and any(char.isalpha() for char in run)
        if not mixed or _PLACE.fullmatch(run):
            continue
        name = _NAME_BEFORE.search(text, max(0, match.start() - _BEFORE), match.start())
        if name is None or not NO_TOKEN_NAME.search(name[1]):
            yield run

"""Which request headers an admin may set. Sends nothing."""

from __future__ import annotations

import re

from outbound.failures import BadRequest

CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
FRAMING = frozenset("host content-length transfer-encoding connection keep-alive te trailer upgrade expect".split())
"""What would change where a request goes or where it ends: not even our own code sets these."""
FORBIDDEN = FRAMING | frozenset(
    "via forwarded authorization cookie cookie2 set-cookie accept-encoding metadata metadata-flavor "
    "x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip".split()
)
FORBIDDEN_STARTS = ("proxy-", "sec-", "x-aws-ec2-metadata", "x-google-metadata", "x-metadata", "x-http-method")


class BadHeader(ValueError):
    """A header that cannot be sent; the message says what to change."""


def check_header(name: str, value: str) -> None:
    """Refuse what would change the request's framing, target or authorization (EG-07). Raises BadHeader."""
    if not TOKEN.fullmatch(name):
        raise BadHeader("A header name holds letters, digits and hyphens only.")
    if name.lower() in FORBIDDEN or name.lower().startswith(FORBIDDEN_STARTS):
        raise BadHeader(f"{name} is set by Cardkey itself and cannot be given here.")
    _check_value(value)


def check_sendable(host: str, name: str, value: str) -> None:
    """The last look at a header before it leaves for `host`, wherever it came from. Raises BadRequest."""
    if not TOKEN.fullmatch(name) or name.lower() in FRAMING:
        raise BadRequest(host, "A header of this request has a name that cannot be sent.")
    try:
        _check_value(value)
    except BadHeader as problem:
        raise BadRequest(host, f"The header {name} cannot be sent. {problem}") from None


def _check_value(value: str) -> None:
    if CONTROL.search(value):
        raise BadHeader("A header value is one line without control characters.")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise BadHeader("A header value holds Latin letters only; encode anything else first.") from None

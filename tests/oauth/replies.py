"""Fifty-five replies a token endpoint may give, and what each has to come to."""

import json
from dataclasses import dataclass, field

from oauth.lifetime import LONGEST_LIFETIME
from oauth.vocabulary import FailureClass

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HTML = {"Content-Type": "text/html; charset=utf-8"}
GOOD = {"access_token": "new-access", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "new-refresh"}
LEFT_OUT = object()


@dataclass(frozen=True)
class Case:
    """A reply and either the class of its failure or what the token must hold."""

    name: str
    body: bytes
    failure: FailureClass | None = None
    refresh: str | None = "new-refresh"
    lifetime: float | None = 3600
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))


def good(**changes):
    """The good reply with some fields changed or left out."""
    fields = {name: value for name, value in {**GOOD, **changes}.items() if value is not LEFT_OUT}
    return json.dumps(fields).encode()


def plain(text, **fields):
    """The good reply with one field written just so, for what Python's own JSON would not write."""
    return good(**fields)[:-1] + b", " + text.encode() + b"}"


def error(code, **fields):
    """An error reply of RFC 6749 §5.2."""
    return json.dumps({"error": code, **fields}).encode()


UNUSABLE = FailureClass.REPLY_UNUSABLE
SUCCESSES = [
    Case("as the RFC has it", good()),
    Case("type in small letters", good(token_type="bearer")),
    Case("type in odd letters", good(token_type="bEARER")),
    Case("no type", good(token_type=LEFT_OUT)),
    Case("lifetime as text", good(expires_in="3600")),
    Case("lifetime as text with a point", good(expires_in="3600.0")),
    Case("lifetime as float", good(expires_in=3600.5), lifetime=3600.5),
    Case("no lifetime", good(expires_in=LEFT_OUT), lifetime=None),
    Case("lifetime zero", good(expires_in=0), lifetime=None),
    Case("lifetime null", good(expires_in=None), lifetime=None),
    Case("lifetime negative", good(expires_in=-1), lifetime=None),
    Case("lifetime a word", good(expires_in="abc"), lifetime=None),
    Case("lifetime a list", good(expires_in=[3600]), lifetime=None),
    Case("lifetime an object", good(expires_in={"seconds": 3600}), lifetime=None),
    Case("lifetime 1e30", good(expires_in=1e30), lifetime=LONGEST_LIFETIME),
    Case("lifetime 1e999", plain('"expires_in": 1e999', expires_in=LEFT_OUT), lifetime=LONGEST_LIFETIME),
    Case("lifetime of 400 digits", good(expires_in=10**400), lifetime=LONGEST_LIFETIME),
    Case("an absurd expires_at beside it", good(expires_at=17e20)),
    Case("no new refresh token", good(refresh_token=LEFT_OUT), refresh=None),
    Case("refresh token null", good(refresh_token=None), refresh=None),
    Case("refresh token empty", good(refresh_token=""), refresh=None),
    Case("refresh token a number", good(refresh_token=7), refresh=None),
    Case("scope changed", good(scope="less")),
    Case("a byte order mark", b"\xef\xbb\xbf" + good()),
    Case("Latin-1 in a field nobody needs", good()[:-1] + b', "name": "Jos\xe9"}'),
    Case(
        "form-encoded",
        b"access_token=new-access&token_type=bearer&expires_in=3600&refresh_token=new-refresh",
        headers=FORM,
    ),
    Case("JSON called a page", good(), headers=HTML),
    Case("status 201", good(), status=201),
]
FAILURES = [
    Case("no access token", good(access_token=LEFT_OUT), UNUSABLE),
    Case("access token empty", good(access_token=""), UNUSABLE),
    Case("access token null", good(access_token=None), UNUSABLE),
    Case("access token a number", good(access_token=5), UNUSABLE),
    Case("access token with a line break", good(access_token="a\r\nX-Evil: 1"), UNUSABLE),
    Case("type mac", good(token_type="mac"), UNUSABLE),
    Case("type DPoP", good(token_type="DPoP"), UNUSABLE),
    Case("type null", good(token_type=None), UNUSABLE),
    Case("empty body", b"", UNUSABLE),
    Case("cut off", good()[:-20], UNUSABLE),
    Case("a list", b'["access_token"]', UNUSABLE),
    Case("a string", b'"access_token"', UNUSABLE),
    Case("null", b"null", UNUSABLE),
    Case("a number", b"17", UNUSABLE),
    Case("nested 100,000 deep", b'{"a":' * 100_000, UNUSABLE),
    Case("a page with status 200", b"<html><title>Sign in</title></html>", UNUSABLE, headers=HTML),
    Case("an error with status 200", error("invalid_grant"), FailureClass.GRANT_DEAD),
    Case(
        "a form-encoded error with 200",
        b"error=invalid_grant&error_description=no",
        FailureClass.GRANT_DEAD,
        headers=FORM,
    ),
    Case("invalid_grant", error("invalid_grant"), FailureClass.GRANT_DEAD, status=400),
    Case("invalid_client", error("invalid_client"), FailureClass.CLIENT_BAD, status=401),
    Case("invalid_scope", error("invalid_scope"), FailureClass.REQUEST_BAD, status=400),
    Case("400 without an error", b'{"message": "no"}', FailureClass.REQUEST_BAD, status=400),
    Case("401 without an error", b'{"message": "no"}', FailureClass.CLIENT_BAD, status=401),
    Case("429 without an error", b'{"message": "slow"}', FailureClass.THROTTLED, status=429),
    Case("a page with status 503", b"<h1>Maintenance</h1>", FailureClass.PROVIDER_DOWN, status=503, headers=HTML),
    Case("redirect 302", b"", UNUSABLE, status=302, headers={"Location": "https://other.example/token"}),
    Case("redirect 307", b"", UNUSABLE, status=307, headers={"Location": "https://other.example/token"}),
]
CASES = SUCCESSES + FAILURES

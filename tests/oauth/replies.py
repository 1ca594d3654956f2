"""Replies a token endpoint may give, and what each has to come to."""

import json
from dataclasses import dataclass, field

from oauth.lifetime import LONGEST_LIFETIME
from oauth.vocabulary import FailureClass

JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
HTML = {"Content-Type": "text/html; charset=utf-8"}
GOOD = {"access_token": "new-access", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "new-refresh"}
REST = {name: value for name, value in GOOD.items() if name != "access_token"}
FORM_BODY = b"access_token=new-access&token_type=bearer&expires_in=3600&refresh_token=new-refresh"
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


def numbered(code, number):
    """An error with a number of the provider's own, which is more exact than its code."""
    return error(code, error_description=f"AADSTS{number}: Words. Trace ID: 1", error_codes=[number])


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
    Case("lifetime 1e999", plain('"expires_in": 1e999', expires_in=LEFT_OUT), lifetime=None),
    Case("lifetime of 400 digits", good(expires_in=10**400), lifetime=None),
    Case("lifetime of 5,000 digits", plain(f'"expires_in": {"9" * 5000}', expires_in=LEFT_OUT), lifetime=None),
    Case("an absurd expires_at beside it", good(expires_at=17e20)),
    Case("no new refresh token", good(refresh_token=LEFT_OUT), refresh=None),
    Case("refresh token null", good(refresh_token=None), refresh=None),
    Case("refresh token empty", good(refresh_token=""), refresh=None),
    Case("refresh token a number", good(refresh_token=9000000002), refresh="9000000002"),
    Case(
        "refresh token of 5,000 digits",
        plain(f'"refresh_token": {"7" * 5000}', refresh_token=LEFT_OUT),
        refresh="7" * 5000,
    ),
    Case("refresh token zero", good(refresh_token=0), refresh=None),
    Case("refresh token false", good(refresh_token=False), refresh=None),
    Case("refresh token the word null", good(refresh_token="null"), refresh=None),
    Case("refresh token in an object of its own", good(refresh_token={"token": "new-refresh", "expires_in": 86400})),
    Case("refresh token alone in a list", good(refresh_token=["new-refresh"])),
    Case("refresh token called new", good(refresh_token=LEFT_OUT, new_refresh_token="new-refresh")),
    Case("refresh token called new in camels", good(refresh_token=LEFT_OUT, newRefreshToken="new-refresh")),
    Case(
        "refresh token in data, access token outside", good(refresh_token=None, data={"refresh_token": "new-refresh"})
    ),
    Case(
        "refresh token in data, with the same access token",
        good(refresh_token="", data={"refresh_token": "new-refresh", "access_token": "new-access"}),
    ),
    Case(
        "much else about refresh tokens",
        good(
            refresh_token=None,
            refresh_token_expires_in=86400,
            refresh_expires_in=1,
            refresh_token_type="opaque",
            id_token="a.b.c",
            session_state="8f14e45fceea167a5a36dedd4bea2543",
            refresh=True,
            refresh_count=12,
        ),
        refresh=None,
    ),
    Case("after a notice", b"Deprecated: strlen(): Passing null in /srv/oauth.php on line 12\n" + good()),
    Case("after a notice as a page", b"<br />\n<b>Notice</b>: {closure} in <b>x</b><br />\n" + good(), headers=HTML),
    Case("before a comment", good() + b"\n<!-- 0.01s -->"),
    Case("with a comma at its end", good()[:-1] + b", }"),
    Case("as a call", b"callback(" + good() + b");"),
    Case("behind a guard", b")]}',\n" + good()),
    Case("as a text", json.dumps(good().decode()).encode()),
    Case("as a text in a text", json.dumps(json.dumps(good().decode())).encode()),
    Case("as a text in body", json.dumps({"statusCode": 200, "body": good().decode()}).encode()),
    Case("after a line of a log", b'{"level": "debug"}\n' + good()),
    Case("twice the same", good() + good()),
    Case("nested 50,000 deep beside the token", plain(f'"x": {"[" * 50_000}{"]" * 50_000}')),
    Case("broken off after both tokens", good(pad="p" * 999)[:-500]),
    Case("a form after a notice", b"Notice: x\n" + FORM_BODY, headers=FORM),
    Case("scope changed", good(scope="less")),
    Case("a byte order mark", b"\xef\xbb\xbf" + good()),
    Case("Latin-1 in a field nobody needs", good()[:-1] + b', "name": "Jos\xe9"}'),
    Case(
        "form-encoded",
        FORM_BODY,
        headers=FORM,
    ),
    Case("JSON called a page", good(), headers=HTML),
    Case("status 201", good(), status=201),
    Case("form-encoded with text and a byte order mark", b"\xef\xbb\xbf" + FORM_BODY, headers={}),
    Case("JSON as plain text", good(), headers={"Content-Type": "text/plain"}),
    Case("refresh token of blanks", good(refresh_token="  "), refresh=None),
    Case("refresh token an object", good(refresh_token={"value": "x"}), refresh="x"),
    Case("scope dropped", good(scope="")),
    Case("scope null", good(scope=None)),
    Case("scope a list", good(scope=["a", "b"])),
    Case("in data", json.dumps({"status": "success", "data": GOOD}).encode()),
    Case("in token", json.dumps({"token": GOOD}).encode()),
    Case("in the person's part", json.dumps({"ok": True, "authed_user": {"id": "U1", **GOOD}}).encode()),
    Case(
        "access token outside, the rest inside",
        json.dumps({"access_token": "new-access", "data": GOOD, **REST}).encode(),
    ),
    Case(
        "in camels", b'{"accessToken":"new-access","refreshToken":"new-refresh","expiresIn":3600,"tokenType":"bearer"}'
    ),
    Case("wrapped beside nothing", json.dumps({"access_token": None, "result": GOOD, "data": {"id": 1}}).encode()),
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
    Case("a byte order mark and nothing", b"\xef\xbb\xbf", UNUSABLE),
    Case("blanks", b" \r\n ", UNUSABLE),
    Case("single quotes", b"{'access_token': 'new-access'}", UNUSABLE),
    Case("two objects", good() + good(access_token="another", refresh_token="third"), UNUSABLE),
    Case("two refresh tokens", good(new_refresh_token="third"), UNUSABLE),
    Case("refresh tokens in a list", good(refresh_token=["one", "two"]), UNUSABLE),
    Case("half a character", plain('"refresh_token": "RT-\\ud800x"', refresh_token=LEFT_OUT), UNUSABLE),
    Case("refresh token 1.5", good(refresh_token=1.5), UNUSABLE),
    Case(
        "somebody else's refresh token",
        good(refresh_token=None, authed_user={"access_token": "b", "refresh_token": "c"}),
        UNUSABLE,
    ),
    Case("refresh token by another name", good(refresh_token=None, renewal_token="new-refresh"), UNUSABLE),
    Case("refresh token in a text", good(refresh_token=None, more='{"refresh_token": "new-refresh-1"}'), UNUSABLE),
    Case(
        "refresh token 20 deep",
        good(refresh_token=None)[:-1] + b', "x": ' + b'{"a":' * 20 + b'{"refresh_token": "new-refresh-1"}' + b"}" * 21,
        UNUSABLE,
    ),
    Case(
        "XML",
        b"<OAuth><access_token>AT-1</access_token><refresh_token>RT-1</refresh_token></OAuth>",
        UNUSABLE,
        headers={"Content-Type": "application/xml"},
    ),
    Case("YAML", b"access_token: AT-short1\nrefresh_token: RT-short2\n", UNUSABLE),
    Case("PHP's own", b"Array\n(\n    [access_token] => AT-1\n    [refresh_token] => RT-1\n)\n", UNUSABLE),
    Case("a text that may be a token", b'"AT-just-a-string-xxxxxxxxxxxx1"', UNUSABLE),
    Case(
        "both tokens in a web page",
        b"<html><body>access_token=AT-1 refresh_token=RT-1</body></html>",
        UNUSABLE,
        headers=HTML,
    ),
    Case("a list of objects", b"[" + good() + b"]", UNUSABLE),
    Case("type in words", good(token_type="bearer token"), UNUSABLE),
    Case("type a number", good(token_type=1), UNUSABLE),
    Case("a token under another name", b'{"data": {"token": "new-access"}}', UNUSABLE),
    Case(
        "two people's tokens",
        json.dumps({"data": GOOD, "authed_user": {**GOOD, "access_token": "b"}}).encode(),
        UNUSABLE,
    ),
    Case("a token in a wrapper nobody knows", json.dumps({"previous": GOOD}).encode(), UNUSABLE),
    Case("an error beside a token", json.dumps({**GOOD, "error": "server_error"}).encode(), UNUSABLE),
    Case("ok false", b'{"ok": false, "error": "invalid_refresh_token"}', FailureClass.GRANT_DEAD),
    Case("ok false, revoked", b'{"ok": false, "error": "token_revoked"}', FailureClass.GRANT_DEAD),
    Case("ok false, secret", b'{"ok": false, "error": "bad_client_secret"}', FailureClass.CLIENT_BAD),
    Case("ok false, busy", b'{"ok": false, "error": "ratelimited"}', FailureClass.THROTTLED),
    Case("ok false, unwell", b'{"ok": false, "error": "internal_error"}', FailureClass.PROVIDER_DOWN),
    Case("ok false and nothing", b'{"ok": false}', FailureClass.REQUEST_BAD),
    Case("a code mistyped, 200", error("bad_verification_code", error_uri="https://x"), FailureClass.GRANT_DEAD),
    Case("refused client, 200", error("incorrect_client_credentials"), FailureClass.CLIENT_BAD),
    Case(
        "denied for being too many",
        error("Access Denied", error_description="You have made too many requests continuously.", status="failure"),
        FailureClass.THROTTLED,
        status=400,
    ),
    Case(
        "asked before its time",
        error("access_denied", error_description="Rate limit exceeded: access_token not expired"),
        FailureClass.THROTTLED,
        status=400,
    ),
    Case("idle too long", numbered("invalid_grant", 700082), FailureClass.GRANT_DEAD, status=400),
    Case("client secret ran out", numbered("invalid_client", 7000222), FailureClass.CLIENT_BAD, status=401),
    Case("asked in a loop", numbered("invalid_grant", 50196), FailureClass.THROTTLED, status=400),
    Case("a number nobody knows", numbered("invalid_grant", 999999), FailureClass.GRANT_DEAD, status=400),
    Case("a passing trouble", numbered("invalid_grant", 90033), FailureClass.PROVIDER_DOWN, status=400),
    Case("unauthorized_client", error("unauthorized_client"), FailureClass.CLIENT_BAD, status=400),
    Case("unsupported_grant_type", error("unsupported_grant_type"), FailureClass.REQUEST_BAD, status=400),
    Case("a code nobody knows", error("out_of_cheese"), FailureClass.REQUEST_BAD, status=400),
    Case("a code nobody knows, 200", error("out_of_cheese"), FailureClass.REQUEST_BAD),
    Case("the network wants a sign-in", b"<html>Wi-Fi</html>", FailureClass.PROVIDER_DOWN, status=511, headers=HTML),
    Case("a dead grant from a server in trouble", error("invalid_grant"), FailureClass.PROVIDER_DOWN, status=503),
]
CASES = SUCCESSES + FAILURES

"""Reading token replies: TK-01 to TK-05, LG-05."""

import base64
import json
import time
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, quote_plus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from oauth import renewal, reply
from oauth.lifetime import LONGEST_LIFETIME
from oauth.vocabulary import NO_ENDPOINT, NOTHING_KEPT, FailureClass, LifetimeRung, OAuthFailure, TokenReply
from tests.oauth.replies import CASES, FAILURES, SUCCESSES, error, good

# Time on a busy machine says nothing about the code; costs are measured further down.
patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SENT = "old-refresh-token"


def read(body, status=200, headers=None, *, secrets=()):
    return reply.parse(
        status,
        headers or {},
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        received_at=NOW,
        secrets=[SecretStr(SENT), *(SecretStr(value) for value in secrets)],
        step="refresh",
    )


def refused(body, status=200, headers=None, **kwargs):
    with pytest.raises(OAuthFailure) as caught:
        read(body, status, headers, **kwargs)
    return caught.value


def outcome(body, status=200, headers=None):
    try:
        return read(body, status, headers)
    except OAuthFailure as failure:
        return failure


def test_there_are_a_hundred_replies_each_with_a_name_of_its_own():
    assert len(CASES) == len({case.name for case in CASES}) >= 100


@pytest.mark.parametrize("case", SUCCESSES, ids=lambda case: case.name)
def test_a_usable_token_is_read(case):
    token = read(case.body, case.status, case.headers)
    assert token.access_token.get_secret_value() == "new-access"
    assert (token.refresh_token and token.refresh_token.get_secret_value()) == case.refresh
    assert token.lifetime == case.lifetime
    assert token.token_type == "Bearer"


@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.name)
def test_a_reply_without_a_usable_token_is_sorted(case):
    failure = refused(case.body, case.status, case.headers)
    assert failure.failure_class is case.failure
    assert failure.step == "refresh"
    assert failure.status == case.status
    assert str(failure).endswith(".")


@pytest.mark.parametrize(
    ("status", "body", "kept"),
    [
        (404, b"There is nothing at /nothing here.", False),
        (404, b"Cannot POST /oauth2/v1/token-endpoint", False),
        (404, b"Not found: http://localhost:8611/nothing/at/all", False),
        (404, b'<h1 class="some-very-long-class-name">Not found</h1>', False),
        (405, b"", False),
        (302, b"", False),
        (302, b"Moved, with the code 6f1e2d3c4b5a69788796", True),
        (404, b"access_token: short", False),
        (404, b"access_token: short1", True),
        (404, b"<p>refreshToken = short1</p>", True),
        (404, b'{"access_token": "brand-new-token", "refre', True),
        (404, b'["a-refresh-token-perhaps"]', True),
        (403, b"<h1>Blocked by the firewall</h1>", False),
        (200, b"<html><title>Sign in</title></html>", False),
        (200, b"OK", False),
        (200, b'{"id": 7}', True),
        (200, b" \r\n", False),
        (204, b"", False),
    ],
)
def test_what_could_hold_a_token_is_kept_and_nothing_else(status, body, kept):
    """A wrong address is no reply to use; what might be the only valid refresh token stays."""
    failure = refused(body, status)
    assert failure.failure_class is FailureClass.REPLY_UNUSABLE
    assert (failure.raw is not None) is kept
    assert not (failure.may_hold_token and failure.raw is None)
    assert (failure.code in (NO_ENDPOINT, NOTHING_KEPT)) is not kept
    if failure.code == NO_ENDPOINT:
        assert str(failure).startswith(f"There is no token endpoint at this address: it answered with status {status}.")


def test_an_error_that_brings_a_token_all_the_same_is_kept_whole():
    failure = refused({**json.loads(error("server_error")), "refresh_token": "brand-new-token"}, 400)
    assert failure.failure_class is FailureClass.REPLY_UNUSABLE
    assert "brand-new-token" in failure.raw.get_secret_value()


def test_an_error_that_only_echoes_our_refresh_token_is_an_error():
    failure = refused({"error": "invalid_grant", "refresh_token": SENT}, 400)
    assert failure.failure_class is FailureClass.GRANT_DEAD


def test_a_server_in_trouble_cannot_end_a_grant():
    assert refused(error("invalid_grant"), 502).failure_class is FailureClass.PROVIDER_DOWN


@pytest.mark.parametrize("nothing", [None, "", False, 0, [], {}])
def test_an_empty_error_field_is_no_error(nothing):
    assert read(good(error=nothing)).access_token.get_secret_value() == "new-access"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": 190, "type": "OAuthException", "message": "expired"}}, "190"),
        ({"error": {"message": "expired"}}, "error"),
        ({"error": ["invalid_grant"]}, "error"),
        ({"error": {"code": {"deep": 1}}}, "error"),
        ({"ok": False}, "error"),
        ({"ok": False, "error": "token_revoked"}, "token_revoked"),
        ({"error": "invalid\n grant"}, "invalid grant"),
    ],
)
def test_the_error_code_is_found_where_providers_put_it(body, code):
    assert refused(body).code == code


def test_the_error_code_is_compared_without_case():
    assert refused(error("INVALID_GRANT"), 400).failure_class is FailureClass.GRANT_DEAD


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b'{"message": "no"}', FailureClass.CLIENT_BAD),
        (403, b"<h1>Blocked by the firewall</h1>", FailureClass.REPLY_UNUSABLE),
        (404, b"<h1>Not found</h1>", FailureClass.REPLY_UNUSABLE),
        (404, b'{"message": "no"}', FailureClass.REQUEST_BAD),
        (400, b"", FailureClass.REQUEST_BAD),
        (408, b"", FailureClass.PROVIDER_DOWN),
        (204, b"", FailureClass.REPLY_UNUSABLE),
        (500, b'{"message": "no"}', FailureClass.PROVIDER_DOWN),
        (418, b'{"error": "teapot"}', FailureClass.REQUEST_BAD),
        (429, error("invalid_request"), FailureClass.THROTTLED),
    ],
)
def test_without_a_known_code_the_status_decides(status, body, kind):
    assert refused(body, status).failure_class is kind


def test_of_two_equal_names_the_one_with_something_in_it_counts():
    body = b'{"access_token":"a1","refresh_token":"r1","refresh_token":null,"access_token":"a2","access_token":""}'
    token = read(body)
    assert token.access_token.get_secret_value() == "a2"
    assert token.refresh_token.get_secret_value() == "r1"


def test_a_refresh_token_of_any_letters_is_kept_as_it_is():
    token = read(good(refresh_token="ré fresh+/=\t"))
    assert token.refresh_token.get_secret_value() == "ré fresh+/=\t"


def test_a_refresh_token_that_cannot_be_encoded_is_left_to_a_person():
    failure = refused(b'{"access_token": "a", "refresh_token": "\\ud800"}')
    assert failure.may_hold_token
    assert failure.brings_refresh_token


def test_a_new_refresh_token_beside_an_echo_of_ours_is_the_one():
    both = good(refresh_token=SENT, new_refresh_token="new-refresh")
    assert read(both).refresh_token.get_secret_value() == "new-refresh"


@pytest.mark.parametrize(
    ("body", "refresh"),
    [
        (good(), "new-refresh"),
        (good(pad="p" * 99)[:-50], "new-refresh"),
        (b"access_token=new-access&refresh_token=new-refresh&scop", "new-refresh"),
        (good()[:40], None),
        (b"access_token=new-access&refresh_token=new-refr", None),
        (b'{"refresh_token": "new-refresh", "acc', "kept"),
        (b"<access_token>a1</access_token><refresh_token>new-1</refresh_token><expi", "kept"),
        (b"<refresh_token>new-1", None),
        (b" " * 9999, None),
    ],
)
def test_of_a_reply_that_broke_off_only_a_whole_new_refresh_token_counts(body, refresh):
    def parsed():
        sent = [SecretStr(SENT)]
        return reply.parse(200, {}, body, received_at=NOW, secrets=sent, step="refresh", broken_off=True)

    if refresh == "new-refresh":
        assert parsed().refresh_token.get_secret_value() == refresh
        return
    with pytest.raises(OAuthFailure) as caught:
        parsed()
    assert caught.value.brings_refresh_token is (refresh == "kept")


@pytest.mark.parametrize(
    "body", [b'{"a":' * 60_000, b"{" * 256_000, b'{"' * 128_000, b"a1" * 128_000, b"token=x1 " * 28_000, b"[" * 256_000]
)
def test_a_hostile_success_costs_no_time(body):
    begun = time.process_time()
    refused(body)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32-be"])
def test_json_is_read_in_every_unicode_encoding(encoding):
    assert read(good().decode().encode(encoding)).refresh_token.get_secret_value() == "new-refresh"


def test_a_form_of_many_fields_is_read():
    body = b"&".join(b"x%d=1" % number for number in range(500)) + b"&access_token=a&refresh_token=r"
    assert read(body).refresh_token.get_secret_value() == "r"


@pytest.mark.parametrize(
    ("scope", "kept"),
    [("a b", "a b"), (["a", "b"], "a b"), ("", None), (None, None), (7, None), ("a\r\nb\u2028c", "a b c")],
)
def test_scope_is_kept_in_one_line(scope, kept):
    assert read(good(scope=scope)).scope == kept


def jwt(**claims):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': 'none'})}.{part(claims)}.sig"


@pytest.mark.parametrize(
    ("changes", "lifetime", "rung"),
    [
        ({}, 3600, LifetimeRung.REPLY),
        ({"expires_in": None, "access_token": jwt(exp=NOW.timestamp() + 90)}, 90, LifetimeRung.JWT),
        ({"expires_in": 60, "access_token": jwt(exp=NOW.timestamp() + 90)}, 60, LifetimeRung.REPLY),
        ({"expires_in": None, "access_token": jwt(exp=1e99)}, LONGEST_LIFETIME, LifetimeRung.JWT),
        ({"expires_in": None, "access_token": jwt(exp=10**400)}, None, LifetimeRung.UNKNOWN),
        ({"expires_in": None, "access_token": jwt(exp="soon")}, None, LifetimeRung.UNKNOWN),
        ({"expires_in": None, "access_token": jwt(exp=5)}, None, LifetimeRung.UNKNOWN),
        ({"expires_in": None, "access_token": "a.b.c"}, None, LifetimeRung.UNKNOWN),
        ({"expires_in": None}, None, LifetimeRung.UNKNOWN),
    ],
)
def test_the_lifetime_comes_from_the_first_rung_that_knows(changes, lifetime, rung):
    token = read(good(**changes))
    assert (token.lifetime, token.lifetime_rung) == (lifetime, rung)


def test_a_wrong_clock_of_ours_does_not_stretch_a_jwt():
    issued = NOW.timestamp() + 3600
    token = read(good(expires_in=None, access_token=jwt(iat=issued, exp=issued + 300)))
    assert token.lifetime == 300


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("30", 30),
        (" 30 ", 30),
        ("1000000000", 3600),
        ("Tue, 24 Nov 2026 12:01:30 GMT", 90),
        ("Tue, 24 Nov 2026 12:01:30 -0000", 90),
        ("Tue, 24 Nov 2026 18:00:00 GMT", 3600),
        ("Tue, 24 Nov 2026 11:00:00 GMT", None),
        ("0", None),
        ("-5", None),
        ("1e9", None),
        ("soon", None),
        ("", None),
        ("Tue, 24 Nov 2026 12:01:30 +99999999999999", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("٣٠", None),
    ],
)
def test_retry_after_is_understood_in_both_forms_and_junk_is_ignored(value, wait):
    assert refused(b"", 429, {"Retry-After": value}).retry_after == wait


ECHOES = {
    "raw": lambda secret: secret,
    "URL-encoded": lambda secret: quote(secret, safe=""),
    "URL-encoded in small letters": lambda secret: quote(secret, safe="").lower(),
    "form-encoded": quote_plus,
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 inside a pair": lambda secret: base64.b64encode(f"client:{secret}".encode()).decode(),
    "JSON-escaped": json.dumps,
    "HTML-escaped": lambda secret: secret.replace("&", "&amp;"),
    "hex": lambda secret: secret.encode().hex(),
    "after a long text": lambda secret: "word " * 400 + secret,
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("place", ["error_description", "error", "message", "page"])
def test_a_secret_that_the_provider_echoes_is_starred(echo, place):
    secret = "p%w+ d:é&=/long enough to be cut in half somewhere" * 3
    said = f"You sent {echo(secret)} to us"
    body = f"<html><p>{said}</p></html>".encode() if place == "page" else {"error": "invalid_client", place: said}
    failure = refused(body, 400, secrets=[secret])
    shown = f"{failure.provider_said} {failure.code} {failure}"
    whole = echo(secret).replace("word ", "")
    assert not [whole[start : start + 12] for start in range(len(whole) - 12) if whole[start : start + 12] in shown]


def test_a_token_that_came_back_is_never_shown():
    failure = refused({"access_token": "brand-new", "error": "odd", "error_description": "here: brand-new"})
    assert "brand-new" not in failure.provider_said


@pytest.mark.parametrize(
    "body",
    [
        b'["eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.signature-of-it"]',
        b'"eyJhbGciOiJub25lIn0-and-more"',
        b"token: eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.signature-of-it",
        b"<p>access_token=short1</p>",
        b'{"access_token": "eyJhbGciOiJub25lIn0", "broken',
    ],
)
def test_an_unreadable_reply_shows_no_token_it_may_hold(body):
    failure = refused(body)
    assert not any(part in failure.provider_said for part in ("eyJhbGci", "signature", "short1"))


NEW = ("k3J9xQ2mV7bN4pL8wR5t", "z8Y7w6V5u4T3s2R1q0PnM9", "rt-of-words")
NEW_FIELDS = dict(zip(("access_token", "id_token", "refresh_token"), NEW, strict=True))


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [
        "Notice: Undefined index in /x.php on line 3\n" + json.dumps({"refresh_token": NEW[1], "token": NEW[2]}),
        f"<r><access_token>{NEW[0]}</access_token><refresh_token>{NEW[2]}</refresh_token></r>",
        f"<!doctype html><p>refresh_token: {NEW[2]}</p><p>{NEW[0]}</p>",
        f"access_token: {NEW[0]}\nrefresh_token: {NEW[2]}",
        {"error": "invalid_request", "error_description": f"issued {NEW[0]} already"},
        {"error": NEW[1], "error_description": json.dumps(NEW_FIELDS)},
        {"ok": False, "error": "x", "message": f"new token {NEW[1]}"},
        f"your new one is {NEW[0]}",
    ],
)
def test_a_live_token_of_any_length_that_nobody_knows_is_not_shown(body, status):
    failure = refused(body.encode() if isinstance(body, str) else body, status)
    shown = f"{failure.provider_said} {failure.code} {failure}"
    assert not [token for token in NEW if token in shown]


def test_a_page_gives_its_words_without_tags_and_scripts():
    page = b"<html><style>p{}</style><script>var token</script><h1>Down for <b>maintenance</b></h1>\x1b[31m</html>"
    assert refused(page, 503).provider_said == "Down for maintenance \\u001b[31m"


def test_what_is_stored_of_an_error_stays_small_and_in_one_line():
    failure = refused(error("e" * 100_000, error_description="line\r\n" * 100_000), 400)
    assert len(failure.provider_said) <= 2048
    assert len(failure.code) <= 100
    assert "\n" not in failure.provider_said
    assert len(str(failure)) < 300


@pytest.mark.parametrize(
    "body", [b"<" * 256_000, b"<script>" * 32_000, b"a&" * 128_000 + b"error=x", b"\x00 " * 128_000]
)
def test_a_hostile_page_costs_no_time(body):
    begun = time.process_time()
    refused(body, 500)
    assert time.process_time() - begun < 1


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([SENT, "bearer", "Bearer", "1e999"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(
    "access_token refresh_token token_type expires_in scope error error_description ok message id_token".split()
)
objects = st.dictionaries(names, values).map(lambda fields: json.dumps(fields).encode())
statuses = st.integers(100, 599)


@patiently
@given(body=st.binary() | objects, status=statuses, header=st.text(max_size=40))
@example(body=b"a=1&" * 200 + b"access_token=x", status=200, header="")
@example(body=b'{"access_token":"a.eyJleHAiOjFlOTk5fQ.c"}', status=200, header="")
def test_whatever_comes_the_answer_is_a_token_or_a_failure(body, status, header):
    answer = outcome(body, status, {"Retry-After": header})
    if isinstance(answer, TokenReply):
        assert answer.access_token.get_secret_value().isascii()
        assert answer.lifetime is None or 0 < answer.lifetime <= LONGEST_LIFETIME
    else:
        assert answer.retry_after is None or 0 < answer.retry_after <= 3600
        assert len(answer.provider_said) <= 2048
        lost = answer.raw is None
        assert not lost or (answer.failure_class is FailureClass.REPLY_UNUSABLE and not answer.may_hold_token)


tokens = st.text(st.characters(codec="utf-8"), min_size=1).filter(
    lambda text: not renewal.is_none(text) and text != SENT
)


@patiently
@given(fields=st.dictionaries(names, values), token=tokens, status=statuses)
def test_a_readable_refresh_token_is_never_lost(fields, token, status):
    answer = outcome({**fields, "refresh_token": token}, status)
    if isinstance(answer, TokenReply):
        assert answer.refresh_token.get_secret_value() == token
    else:
        assert answer.failure_class is FailureClass.REPLY_UNUSABLE
        assert json.loads(answer.raw.get_secret_value())["refresh_token"] == token


@patiently
@given(
    token=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).filter(
        lambda text: not renewal.is_none(text)
    )
)
def test_a_form_encoded_token_comes_out_as_it_went_in(token):
    body = f"access_token=a&refresh_token={quote_plus(token)}".encode()
    assert dict(parse_qsl(body.decode()))["refresh_token"] == read(body).refresh_token.get_secret_value() == token

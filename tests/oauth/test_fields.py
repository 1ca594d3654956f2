"""Where in a reply the fields stand: usual nestings, an admin's mapping, what neither may do. TK-01 to TK-05."""

import json
import time
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from oauth import fields, reply
from oauth.vocabulary import FailureClass, OAuthFailure
from tests.oauth.replies import CASES, SUCCESSES, good
from tests.oauth.test_expressions import JSON_VALUES, PIECES

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MAPPING = {"access_token": "data.token", "refresh_token": "data.renew", "expires_in": "data.ttl"}
ODD = {"data": {"token": "new-access", "renew": "new-refresh", "ttl": 600}}


def read(body, mapping, status=200):
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reply.parse(status, {}, text, received_at=NOW, secrets=[SecretStr("old")], step="refresh", mapping=mapping)


def refused(body, mapping, status=200):
    with pytest.raises(OAuthFailure) as caught:
        read(body, mapping, status)
    return caught.value


def test_a_mapping_finds_what_a_provider_calls_otherwise():
    token = read(ODD, MAPPING)
    assert token.access_token.get_secret_value() == "new-access"
    assert token.refresh_token.get_secret_value() == "new-refresh"
    assert token.lifetime == 600


@pytest.mark.parametrize("case", SUCCESSES, ids=lambda case: case.name)
def test_a_mapping_that_finds_nothing_leaves_the_usual_names(case):
    token = read(case.body, {**MAPPING, "error": "data.failed", "scope": "data.scopes", "token_type": "data.kind"})
    assert token.access_token.get_secret_value() == "new-access"
    assert (token.refresh_token and token.refresh_token.get_secret_value()) == case.refresh


def test_a_form_is_mapped_as_well():
    token = read(b"oauth_token=new-access&ttl=60", {"access_token": "oauth_token", "expires_in": "ttl"})
    assert (token.access_token.get_secret_value(), token.lifetime) == ("new-access", 60)


def test_a_mapped_refresh_token_may_be_a_number():
    found = read({"access_token": "a", "renew": 9000000002}, {"refresh_token": "renew"})
    assert found.refresh_token.get_secret_value() == "9000000002"


@pytest.mark.parametrize("nothing", ["''", "`null`"])
def test_an_admin_may_say_that_what_looks_like_a_refresh_token_is_none(nothing):
    theirs = {"access_token": "a", "authed_user": {"access_token": "b", "refresh_token": "c"}}
    assert refused(theirs, {}).brings_refresh_token
    assert read(theirs, {"refresh_token": nothing}).refresh_token is None
    mapped = read(theirs, {"refresh_token": "authed_user.refresh_token"})
    assert mapped.refresh_token.get_secret_value() == "c"


@pytest.mark.parametrize("value", [None, "", "  ", 0, {"a": 1}, ["x"]])
def test_a_mapped_refresh_token_that_is_none_is_left_to_the_usual_name(value):
    """TK-05: what says nothing replaces nothing."""
    assert read({**json.loads(good()), "renew": value}, {"refresh_token": "renew"}).refresh_token
    assert read({"access_token": "a", "renew": value}, {"refresh_token": "renew"}).refresh_token is None


@pytest.mark.parametrize("value", ["soon", -1, 0, 10**400, [1], {"s": 1}])
def test_a_mapped_lifetime_that_is_junk_costs_no_token(value):
    """TK-04."""
    found = read({"access_token": "a", "refresh_token": "r", "ttl": value}, {"expires_in": "ttl"})
    assert found.refresh_token.get_secret_value() == "r"


def test_a_strange_type_is_refused_by_name_unless_an_admin_says_that_it_is_sent_as_bearer():
    """TK-03."""
    failure = refused(good(token_type="bot"), {})
    assert failure.failure_class is FailureClass.REPLY_UNUSABLE
    assert "bot" in str(failure)
    assert "token_type='Bearer'" in str(failure)
    assert read(good(token_type="bot"), {"token_type": "'Bearer'"}).token_type == "Bearer"
    assert "called mac" in str(refused(good(kind="mac"), {"token_type": "kind"}))


def test_a_mapped_access_token_that_cannot_be_sent_is_refused():
    """TK-01."""
    failure = refused({"t": "a\r\nX-Evil: 1"}, {"access_token": "t"})
    assert failure.failure_class is FailureClass.REPLY_UNUSABLE


@pytest.mark.parametrize(
    ("body", "expression", "code"),
    [
        ({"code": 40001, "message": "no"}, "code", "40001"),
        ({"success": False}, "!success", "error"),
        ({"meta": {"problem": "invalid_grant"}}, "meta.problem", "invalid_grant"),
        ({**json.loads(good()), "success": False}, "success == `false`", "error"),
    ],
)
def test_an_error_where_an_admin_points_is_an_error_whatever_the_status(body, expression, code):
    """TK-02."""
    assert refused(body, {"error": expression}).code == code


@pytest.mark.parametrize("expression", ["code", "error != 'OK'"])
def test_an_error_that_means_none_is_none(expression):
    body = {**json.loads(good()), "code": 0, "error": "OK", "ok": False}
    assert read(body, {"error": expression}).access_token.get_secret_value() == "new-access"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_5xx_never_ends_a_grant_and_no_mapping_makes_a_token_of_it(case):
    """TK-11."""
    failure = refused(case.body, {**MAPPING, "error": "code"}, 503)
    assert failure.failure_class in (FailureClass.PROVIDER_DOWN, FailureClass.REPLY_UNUSABLE)


@pytest.mark.parametrize(
    ("body", "may"),
    [
        ({"data": {"token": "abc"}}, True),
        ({"credential": "8f14e45fceea167a5a36dedd4bea2543"}, True),
        ([{"access_token": "a"}], True),
        (json.loads(good(token_type="mac")), True),
        ({"message": "Maintenance until ten o'clock, sorry"}, False),
        ({"status": "maintenance-in-progress", "trace_id": "8f14e45fceea167a5a36dedd4bea2543"}, False),
        ({"help": "https://status.provider.example/incidents/8f14e45fce"}, False),
        ({"expires_in": 3600, "token_type": "bearer", "scope": "orders.read orders.write"}, False),
        ({}, False),
        (b"<html>token</html>", False),
        (b"", False),
        (good()[:-20], True),
        (b"access_token: abc123", True),
        (b"<x><refresh_token>abc123</refresh_token></x>", True),
    ],
)
def test_only_a_reply_that_may_hold_a_token_is_left_to_a_person(body, may):
    assert refused(body, {}).may_hold_token is may


def test_tokens_that_were_not_found_are_starred_in_what_is_said():
    said = "your token is not-found-token-1234"
    failure = refused({"error": "odd", "message": said, "user": {"token": "not-found-token-1234"}}, {}, 400)
    assert "not-found" not in failure.provider_said
    assert "your token is" in failure.provider_said


@pytest.mark.parametrize(
    ("code", "said", "do"),
    [
        ("invalid_scope", "", "Check Scope."),
        ("invalid_target", "", "Audience"),
        ("unsupported_grant_type", "", "Token Endpoint"),
        ("invalid_request", "missing required parameter: audience", "Check Audience."),
        ("invalid_request", "The 'redirect_uri' does not match", "Redirect URL"),
        ("invalid_request", "no", ""),
        ("redirect_uri_mismatch", "", "Redirect URL"),
        ("invalid_client", "AADSTS7000222: expired", "secret has expired"),
        ("invalid_client", "AADSTS7000215: wrong", "its value, and not its id"),
        ("out_of_cheese", "", ""),
    ],
)
def test_a_refusal_names_what_to_correct(code, said, do):
    failure = refused({"error": code, "error_description": said}, {}, 400)
    assert code in str(failure)
    assert do in str(failure)
    assert str(failure).endswith(".")


def test_a_web_page_is_called_one():
    assert "web page" in str(refused(b"<html>Sign in to the Wi-Fi</html>", {}))
    assert "web page" in str(refused(b"<html>Not found</html>", {}, 404))
    assert "more than one access token" in str(refused({"data": json.loads(good()), "auth": json.loads(good())}, {}))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from([*fields.MAPPABLE, "id_token", "other"]),
        st.lists(st.sampled_from(PIECES), max_size=6).map("".join),
    ),
    JSON_VALUES | st.dictionaries(st.sampled_from([*fields.MAPPABLE, "a", "data", "ok"]), JSON_VALUES, max_size=4),
    st.sampled_from([200, 204, 302, 400, 401, 503]),
)
def test_no_mapping_and_no_reply_raises_anything_but_a_sorted_failure(mapping, body, status):
    try:
        found = read(body, mapping, status)
    except OAuthFailure as failure:
        found = failure
    assert found.raw is not None or not found.may_hold_token


def test_a_large_reply_with_a_long_mapping_is_read_quickly():
    body = json.dumps({"data": [{"token": "x" * 20, "a": {"b": i}} for i in range(1200)]}).encode()
    assert len(body) <= fields.LONGEST_MAPPED
    mapping = dict.fromkeys(fields.MAPPABLE, "data[?a.b > `1`].token | [?contains(@, 'y')] | [0]")
    started = time.process_time()
    refused(body, mapping)
    assert time.process_time() - started < 2

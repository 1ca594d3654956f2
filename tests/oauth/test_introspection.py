"""Introspection replies (RFC 7662): how long a token lives, or a plain sentence why nobody knows."""

import json
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from werkzeug.wrappers import Response

from oauth.introspection import seconds_left
from oauth.session import TokenClient
from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
TOKEN = "at-9f8e7d6c5b4a39281706f5e4d3c2b1a0"


def read(body, status=200):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return seconds_left(status, {}, body, received_at=NOW, secrets=[SecretStr(TOKEN)])


@pytest.mark.parametrize(
    ("claims", "left"),
    [
        ({"exp": EPOCH + 900}, 900),
        ({"exp": str(EPOCH + 900)}, 900),
        ({"exp": (EPOCH + 900) * 1000}, 900),
        ({"exp": EPOCH + 7200, "iat": EPOCH + 3600}, 3600),
    ],
)
def test_the_end_of_an_active_token_is_read(claims, left):
    assert read({"active": True, **claims}) == left


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"active": False}, "not active"),
        ({"active": False, "exp": EPOCH + 900}, "not active"),
        ({"active": True}, "does not say when it ends"),
        ({"active": True, "exp": EPOCH - 5}, "does not say when it ends"),
        ({"active": True, "exp": "soon"}, "does not say when it ends"),
        ({"active": "yes", "exp": EPOCH + 900}, "not one that RFC 7662 describes"),
        ({"exp": EPOCH + 900}, "not one that RFC 7662 describes"),
        ([], "not one that RFC 7662 describes"),
        (b"<html>", "not one that RFC 7662 describes"),
        (b"[" * 100_000, "not one that RFC 7662 describes"),
        (b"\xff\xfe", "not one that RFC 7662 describes"),
        (b"", "not one that RFC 7662 describes"),
    ],
)
def test_what_says_nothing_is_told_in_a_plain_sentence(body, words):
    with pytest.raises(OAuthFailure, match=words) as caught:
        read(body)
    assert caught.value.failure_class is FailureClass.REPLY_UNUSABLE


def test_an_error_is_sorted_like_any_other_and_repeats_no_token():
    with pytest.raises(OAuthFailure) as caught:
        read({"error": "invalid_client", "error_description": f"who sent {TOKEN}?"}, 401)
    assert caught.value.failure_class is FailureClass.CLIENT_BAD
    assert TOKEN not in caught.value.provider_said
    with pytest.raises(OAuthFailure) as caught:
        read(f"strange {TOKEN}".encode())
    assert TOKEN not in caught.value.provider_said


def test_the_client_proves_itself_as_at_the_token_endpoint(stub, http, limits, registration):
    from dataclasses import replace

    asked = replace(registration, introspection_endpoint=stub.url_for("/introspect"))
    stub.expect_ordered_request("/introspect", method="POST").respond_with_response(Response("", 401))
    stub.expect_ordered_request("/introspect", method="POST").respond_with_json({"active": True, "exp": 99999999999})
    client = TokenClient(http, asked, limits, step="introspection", worked=ClientAuthMethod.BASIC)
    assert http.run(client.introspect(SecretStr(TOKEN))) > 0
    first, second = (request for request, _ in stub.log)
    assert first.authorization.username == "client"
    assert (second.form["client_secret"], second.form["token"]) == ("plain-secret", TOKEN)
    assert second.form["token_type_hint"] == "access_token"

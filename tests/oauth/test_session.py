"""Requests as the token and revocation endpoints receive them."""

import asyncio
import json
import time
from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from pydantic import SecretStr
from werkzeug import Response

from oauth.grants import GRANTS, PROTECTED_PARAMS
from oauth.session import TokenClient, request_token
from oauth.vocabulary import ClientAuthMethod, FailureClass, GrantType, OAuthFailure
from outbound import Limits

GOOD = {"access_token": "at", "token_type": "Bearer", "expires_in": 3600, "refresh_token": "rt2"}


@pytest.fixture
def received(stub):
    """Every form the token endpoint was sent; it always gives a token."""
    forms = []

    def answer(request):
        forms.append(request.form.to_dict())
        return Response(json.dumps(GOOD), content_type="application/json")

    stub.expect_request("/token", method="POST").respond_with_handler(answer)
    return forms


@pytest.fixture
def code_registration(registration):
    return replace(registration, grant_type=GrantType.AUTHORIZATION_CODE, scope="read  write", audience="https://api")


@pytest.fixture
def client(http, limits, code_registration):
    return TokenClient(http, code_registration, limits, step="token request", redirect_uri="https://cards/cb")


def test_a_code_is_exchanged_with_what_the_authorization_request_named(client, received):
    token = client.fetch_token("ignored", code="c+/=", state="s", code_verifier="v" * 43)["reply"]
    assert token.refresh_token.get_secret_value() == "rt2"
    assert received == [
        {
            "grant_type": "authorization_code",
            "redirect_uri": "https://cards/cb",
            "code": "c+/=",
            "code_verifier": "v" * 43,
        }
    ]


def test_a_refresh_sends_no_scope(http, limits, code_registration, received):
    params = GRANTS[GrantType.AUTHORIZATION_CODE].renewal_params(code_registration, SecretStr("rt 1+"))
    http.run(request_token(http, code_registration, params, limits=limits, step="refresh"))
    assert received == [{"grant_type": "refresh_token", "refresh_token": "rt 1+"}]


def test_client_credentials_send_scope_and_audience_as_typed(http, limits, code_registration, received):
    registration = replace(code_registration, grant_type=GrantType.CLIENT_CREDENTIALS)
    params = GRANTS[GrantType.CLIENT_CREDENTIALS].renewal_params(registration, None)
    http.run(request_token(http, registration, params, limits=limits, step="refresh"))
    assert received == [{"grant_type": "client_credentials", "scope": "read  write", "audience": "https://api"}]


@pytest.mark.parametrize("name", ["body", "url", "self", "method", "grant", "kwargs", "uri", "step", "params"])
def test_extra_parameters_may_have_any_name(http, limits, registration, received, name):
    registration = replace(registration, token_params={name: "x y"})
    params = GRANTS[registration.grant_type].renewal_params(registration, None)
    http.run(request_token(http, registration, params, limits=limits, step="refresh"))
    assert received[0][name] == "x y"


@pytest.mark.parametrize("name", [*sorted(PROTECTED_PARAMS), "Grant_Type", "STATE"])
def test_extra_parameters_never_replace_the_protocols_own(http, limits, registration, received, name):
    registration = replace(registration, token_params={name: "evil"}, authorization_params={name: "evil"})
    params = GRANTS[registration.grant_type].renewal_params(registration, None)
    http.run(request_token(http, registration, params, limits=limits, step="refresh"))
    assert "evil" not in received[0].values()
    code = replace(registration, grant_type=GrantType.AUTHORIZATION_CODE)
    client = TokenClient(http, code, limits, step="x", redirect_uri="https://cards/cb")
    assert "evil" not in GRANTS[code.grant_type].authorization_params(code).values()
    client.fetch_token(code="c")
    assert "evil" not in received[1].values()


def test_the_authorization_request_names_everything_once(client):
    address, state = client.create_authorization_url(
        "https://a.example/auth?tenant=1", state="s" * 22, code_verifier="v" * 43, scope="read  write"
    )
    pairs = parse_qsl(urlsplit(address).query)
    assert state == "s" * 22
    assert len(dict(pairs)) == len(pairs)
    assert dict(pairs) == {
        "tenant": "1",
        "response_type": "code",
        "client_id": "client",
        "redirect_uri": "https://cards/cb",
        "scope": "read  write",
        "state": "s" * 22,
        "code_challenge": create_s256_code_challenge("v" * 43),
        "code_challenge_method": "S256",
    }


def test_without_pkce_there_is_no_challenge(http, limits, code_registration):
    client = TokenClient(http, replace(code_registration, pkce=False), limits, step="x")
    address, _ = client.create_authorization_url("https://a.example/", code_verifier="v" * 43)
    assert "challenge" not in address


def test_a_redirect_of_the_token_endpoint_is_not_followed(stub, ask):
    stub.expect_request("/token").respond_with_data("", 307, {"Location": stub.url_for("/elsewhere")})
    stub.expect_request("/elsewhere").respond_with_json(GOOD)
    with pytest.raises(OAuthFailure) as caught:
        ask()
    assert caught.value.failure_class is FailureClass.REPLY_UNUSABLE
    assert "does not redirect" in str(caught.value)
    assert [request.path for request, _ in stub.log] == ["/token"]


def test_revocation_names_the_token_and_its_kind(stub, client, http):
    forms = []

    def answer(request):
        forms.append(request.form.to_dict())
        return Response("")

    stub.expect_request("/revoke", method="POST").respond_with_handler(answer)
    http.run(client.revoke(SecretStr("rt+1"), "refresh_token"))
    assert forms == [{"token": "rt+1", "token_type_hint": "refresh_token"}]


def test_revocation_finds_the_authentication_that_works(stub, client, http):
    methods = []

    def answer(request):
        methods.append("basic" if "Authorization" in request.headers else "body")
        return Response("", 401 if methods[-1] == "basic" else 200)

    stub.expect_request("/revoke").respond_with_handler(answer)
    http.run(client.revoke(SecretStr("rt"), "refresh_token"))
    assert methods == ["basic", "body"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, FailureClass.REQUEST_BAD), (503, FailureClass.PROVIDER_DOWN), (302, FailureClass.REPLY_UNUSABLE)],
)
def test_a_refused_revocation_is_sorted_and_says_nothing_secret(stub, client, http, status, kind):
    stub.expect_request("/revoke").respond_with_json({"message": "cannot revoke rt-secret"}, status=status)
    with pytest.raises(OAuthFailure) as caught:
        http.run(client.revoke(SecretStr("rt-secret"), "refresh_token"))
    assert caught.value.failure_class is kind
    assert "rt-secret" not in caught.value.provider_said


def test_extra_parameters_that_are_called_like_secrets_are_starred_like_them(stub, ask):
    stub.expect_request("/token").respond_with_json({"message": "no words of shop for canary key"}, status=400)
    with pytest.raises(OAuthFailure) as caught:
        ask({"grant_type": "client_credentials", "api_key": "canary-key", "shop": "words of shop"})
    assert caught.value.provider_said == "no words of shop for •••"


def test_a_provider_that_cannot_be_reached_is_down(ask, monkeypatch):
    async def lookup(_host, _port):
        raise OSError("no such name")

    monkeypatch.setattr("outbound.client.lookup", lookup)
    with pytest.raises(OAuthFailure) as caught:
        ask(token_endpoint="https://nowhere.example/token")
    assert caught.value.failure_class is FailureClass.PROVIDER_DOWN


def test_an_address_that_is_not_allowed_is_our_own_refusal(ask):
    with pytest.raises(OAuthFailure) as caught:
        ask(token_endpoint="https://127.0.0.1/token")
    assert caught.value.failure_class is FailureClass.LOCAL


def test_an_answer_that_does_not_come_leaves_the_outcome_unknown(stub, http, registration):
    stub.expect_request("/token").respond_with_handler(lambda _: time.sleep(1) or Response(""))
    request = request_token(
        http, registration, {"grant_type": "client_credentials"}, limits=Limits(0.2, 0.1, 1000), step="refresh"
    )
    with pytest.raises(OAuthFailure) as caught:
        http.run(request)
    assert caught.value.failure_class is FailureClass.UNKNOWN


def test_an_answer_that_is_too_long_leaves_the_outcome_unknown(stub, ask):
    stub.expect_request("/token").respond_with_data("x" * 70_000)
    with pytest.raises(OAuthFailure) as caught:
        ask()
    assert caught.value.failure_class is FailureClass.UNKNOWN


def test_many_requests_share_one_loop(http, limits, registration, received):
    async def all_at_once():
        requests = [
            request_token(http, registration, {"grant_type": "client_credentials"}, limits=limits, step="refresh")
            for _ in range(20)
        ]
        return await asyncio.gather(*requests)

    tokens = http.run(all_at_once())
    assert {token.auth_method for token in tokens} == {ClientAuthMethod.BASIC}
    assert len(received) == 20

"""Client authentication at a token endpoint that does as RFC 6749 §2.3.1 says: TK-15."""

import base64
from urllib.parse import quote, unquote_plus

import pytest
from pydantic import SecretStr
from werkzeug import Response

from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure

HARD = "p%w+ d:é&="
AWKWARD = [HARD, "a b+c", "100%25", "colon:colon", "Пароль", "密码", "quote\"'", "~-._", "x" * 300]


class Server:
    """A token endpoint that knows one client and takes the methods it is told to."""

    def __init__(self, client_id, secret, *, basic="decoded", body=True):
        self.client_id, self.secret, self.basic, self.body = client_id, secret, basic, body
        self.seen = []

    def __call__(self, request):
        header = request.headers.get("Authorization", "")
        in_body = "client_secret" in request.form
        self.seen.append("both" if header and in_body else "basic" if header else "body" if in_body else "none")
        if self._knows(header, request.form):
            return Response('{"access_token": "at", "token_type": "Bearer"}', content_type="application/json")
        return Response('{"error": "invalid_client"}', 401, content_type="application/json")

    def _knows(self, header, form):
        if header:
            user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
            if self.basic == "decoded":
                user, password = unquote_plus(user), unquote_plus(password)
            return bool(self.basic) and (user, password) == (self.client_id, self.secret)
        return self.body and (form.get("client_id"), form.get("client_secret")) == (self.client_id, self.secret)


@pytest.fixture
def serve(stub):
    def serve(secret, client_id="client", **kwargs):
        server = Server(client_id, secret, **kwargs)
        stub.expect_request("/token", method="POST").respond_with_handler(server)
        return server

    return serve


@pytest.mark.parametrize("secret", AWKWARD)
@pytest.mark.parametrize("method", [ClientAuthMethod.BASIC, ClientAuthMethod.POST, ClientAuthMethod.AUTOMATIC])
def test_any_secret_arrives_as_it_is(serve, ask, method, secret):
    server = serve(secret)
    ask(client_secret=SecretStr(secret), token_endpoint_auth_method=method)
    assert len(server.seen) == 1
    assert "both" not in server.seen


@pytest.mark.parametrize("secret", AWKWARD)
def test_a_server_that_decodes_nothing_gets_basic_raw(serve, ask, secret):
    server = serve(secret, basic="raw", body=False)
    ask(client_secret=SecretStr(secret), token_endpoint_auth_method=ClientAuthMethod.BASIC_RAW)
    assert server.seen == ["basic"]


def test_an_awkward_client_id_is_encoded_too(serve, ask):
    serve("secret-value", client_id="id:with %+", body=False)
    token = ask(client_id="id:with %+", client_secret=SecretStr("secret-value"))
    assert token.auth_method is ClientAuthMethod.BASIC


@pytest.mark.parametrize(
    ("server", "tried", "worked"),
    [
        ({"basic": "decoded"}, ["basic"], ClientAuthMethod.BASIC),
        ({"basic": ""}, ["basic", "body"], ClientAuthMethod.POST),
        ({"basic": "raw", "body": False}, ["basic", "body", "basic"], ClientAuthMethod.BASIC_RAW),
    ],
)
def test_automatic_tries_until_one_works_and_says_which(serve, ask, server, tried, worked):
    endpoint = serve(HARD, **server)
    assert ask(client_secret=SecretStr(HARD)).auth_method is worked
    assert endpoint.seen == tried


def test_what_worked_last_is_tried_first(serve, ask):
    endpoint = serve("plain-secret", basic="")
    ask(worked=ClientAuthMethod.POST)
    assert endpoint.seen == ["body"]


def test_raw_basic_is_not_tried_where_encoding_changes_nothing(serve, ask):
    endpoint = serve("another-secret")
    with pytest.raises(OAuthFailure) as caught:
        ask()
    assert caught.value.failure_class is FailureClass.CLIENT_BAD
    assert endpoint.seen == ["basic", "body"]


def test_a_chosen_method_is_the_only_one(serve, ask):
    endpoint = serve("plain-secret", basic="")
    with pytest.raises(OAuthFailure):
        ask(token_endpoint_auth_method=ClientAuthMethod.BASIC)
    assert endpoint.seen == ["basic"]


@pytest.mark.parametrize("code", ["invalid_grant", "invalid_scope", "unauthorized_client", "invalid_request"])
def test_no_other_answer_leads_to_a_second_request(stub, ask, code):
    seen = []

    def answer(request):
        seen.append(request.form["grant_type"])
        return Response(f'{{"error": "{code}"}}', 400)

    stub.expect_request("/token").respond_with_handler(answer)
    with pytest.raises(OAuthFailure):
        ask()
    assert len(seen) == 1


def test_a_client_without_a_secret_names_itself_in_the_body(stub, ask):
    forms = []

    def answer(request):
        forms.append((request.form.to_dict(), "Authorization" in request.headers))
        return Response('{"access_token": "at"}')

    stub.expect_request("/token").respond_with_handler(answer)
    assert ask(client_secret=None).auth_method is ClientAuthMethod.NONE
    assert forms == [({"grant_type": "client_credentials", "client_id": "client"}, False)]


@pytest.mark.parametrize("secret", AWKWARD)
def test_an_authorization_header_that_is_echoed_is_starred(stub, ask, secret):
    def answer(request):
        return Response(f"error=invalid_request&error_description={quote(request.headers['Authorization'])}", 400)

    stub.expect_request("/token").respond_with_handler(answer)
    with pytest.raises(OAuthFailure) as caught:
        ask(client_secret=SecretStr(secret))
    assert caught.value.provider_said == "Basic •••"

"""Both flows against authorization servers nobody here wrote, as the engine speaks them."""

from dataclasses import replace

import pytest
from pydantic import SecretStr

from oauth.grants import GRANTS
from oauth.issuer import wrong_issuer
from oauth.session import TokenClient, request_token
from oauth.vocabulary import ClientAuthMethod, FailureClass, GrantType, LifetimeRung, OAuthFailure, Registration
from outbound import Client, Limits, Policy
from tests.real_servers.person import agree, answer_in
from tests.real_servers.servers import (
    CODE_BASIC,
    CODE_BODY,
    LIFETIME,
    MACHINE_BASIC,
    MACHINE_BODY,
    REDIRECT_URI,
)

VERIFIER = "v" * 60
STATE = "s" * 43
LIMITS = Limits(deadline=20, connect=5, max_bytes=256 * 1024)
METHODS = {ClientAuthMethod.BASIC: MACHINE_BASIC, ClientAuthMethod.POST: MACHINE_BODY}


@pytest.fixture
def http(server):
    client = Client(Policy.parse(server.address))
    yield client
    client.close()


@pytest.fixture
def registration(server):
    """Make a registration for one of the clients."""

    def make(client, **changes):
        flow = GrantType.AUTHORIZATION_CODE if client["person"] else GrantType.CLIENT_CREDENTIALS
        return Registration(
            grant_type=flow,
            client_id=client["client_id"],
            client_secret=SecretStr(client["client_secret"]),
            scope="read",
            **{**server.endpoints, **changes},
        )

    return make


@pytest.fixture
def flow(http, registration):
    """The authorization code flow's steps for one client."""

    class Flow:
        def __init__(self, client, **changes):
            self.registration = registration(client, **changes)

        def client(self, step="token request"):
            return TokenClient(http, self.registration, LIMITS, step=step, redirect_uri=REDIRECT_URI)

        def answer(self, **kwargs):
            address, _ = self.client().create_authorization_url(
                self.registration.authorization_endpoint, state=STATE, code_verifier=VERIFIER, scope="read"
            )
            return answer_in(agree(address, REDIRECT_URI, **kwargs))

        def redeem(self, code, verifier=VERIFIER):
            return self.client().fetch_token(code=code, code_verifier=verifier)["reply"]

        def renew(self, refresh_token=None):
            params = GRANTS[self.registration.grant_type].renewal_params(self.registration, refresh_token)
            return http.run(request_token(http, self.registration, params, limits=LIMITS, step="refresh"))

    return Flow


@pytest.fixture
def orders(http, server):
    """The API's status for a token."""

    def status(token):
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"}
        return http.send_now("GET", server.api, headers=headers, limits=LIMITS).status

    return status


def refused(action, *args):
    with pytest.raises(OAuthFailure) as caught:
        action(*args)
    return caught.value


@pytest.mark.parametrize("client", [CODE_BASIC, CODE_BODY], ids=lambda client: client["method"])
def test_a_code_becomes_a_token_that_is_refreshed_again_and_again(server, flow, orders, client):
    there = flow(client)
    answer = there.answer()
    assert answer["state"] == STATE
    assert wrong_issuer(server.issuer, answer.get("iss")) == ""
    token = there.redeem(answer["code"])
    assert (token.lifetime, token.lifetime_rung) == (LIFETIME, LifetimeRung.REPLY)
    seen = {token.refresh_token.get_secret_value()}
    for _ in range(10):
        assert orders(token.access_token) == 200
        token = there.renew(token.refresh_token)
        seen.add(token.refresh_token.get_secret_value())
    assert len(seen) == 11


def test_a_second_use_of_a_refresh_token_ends_the_grant(flow):
    there = flow(CODE_BASIC)
    first = there.redeem(there.answer()["code"])
    second = there.renew(first.refresh_token)
    assert refused(there.renew, first.refresh_token).failure_class is FailureClass.GRANT_DEAD
    assert refused(there.renew, second.refresh_token).failure_class is FailureClass.GRANT_DEAD


def test_a_revoked_authorization_is_dead(http, flow):
    there = flow(CODE_BASIC)
    token = there.redeem(there.answer()["code"])
    http.run(there.client("revocation").revoke(token.refresh_token, "refresh_token"))
    failure = refused(there.renew, token.refresh_token)
    assert (failure.failure_class, failure.code) == (FailureClass.GRANT_DEAD, "invalid_grant")
    assert token.refresh_token.get_secret_value() not in f"{failure} {failure.provider_said}"


def test_a_code_works_with_its_own_verifier_only(flow):
    there = flow(CODE_BASIC)
    failure = refused(there.redeem, there.answer()["code"], "w" * 60)
    assert failure.failure_class is FailureClass.GRANT_DEAD


def test_a_code_works_once(flow):
    there = flow(CODE_BASIC)
    code = there.answer()["code"]
    there.redeem(code)
    assert refused(there.redeem, code).failure_class is FailureClass.GRANT_DEAD


def test_a_refusal_comes_back_with_its_state(flow):
    answer = flow(CODE_BASIC).answer(refuse=True)
    assert (answer["error"], answer["state"]) == ("access_denied", STATE)
    assert "code" not in answer


def test_a_request_without_pkce_is_refused(flow):
    answer = flow(CODE_BASIC, pkce=False).answer()
    assert answer["error"] == "invalid_request"


@pytest.mark.parametrize("client", [MACHINE_BASIC, MACHINE_BODY], ids=lambda client: client["method"])
def test_client_credentials_get_a_token_and_then_another(flow, orders, client):
    there = flow(client)
    first, second = there.renew(), there.renew()
    assert first.access_token != second.access_token
    assert first.lifetime == LIFETIME
    assert orders(first.access_token) == orders(second.access_token) == 200


@pytest.mark.parametrize("method", [ClientAuthMethod.BASIC, ClientAuthMethod.POST])
def test_a_chosen_method_is_used(flow, method):
    assert flow(METHODS[method], token_endpoint_auth_method=method).renew().auth_method is method


def test_a_secret_sent_raw_is_not_understood_by_servers_that_decode(flow):
    raw = flow(MACHINE_BASIC, token_endpoint_auth_method=ClientAuthMethod.BASIC_RAW)
    assert refused(raw.renew).failure_class in (FailureClass.CLIENT_BAD, FailureClass.REQUEST_BAD)


def test_a_wrong_secret_is_the_clients_fault(flow):
    there = flow(MACHINE_BASIC)
    there.registration = replace(there.registration, client_secret=SecretStr("another secret"))
    failure = refused(there.renew)
    assert (failure.failure_class, failure.code) == (FailureClass.CLIENT_BAD, "invalid_client")


def test_a_scope_nobody_knows_is_refused_or_not_given(flow):
    there = flow(MACHINE_BASIC)
    there.registration = replace(there.registration, scope="read everything")
    try:
        token = there.renew()
    except OAuthFailure as failure:
        answer = failure.failure_class, failure.code
    else:
        answer = token.scope
    assert answer in ((FailureClass.REQUEST_BAD, "invalid_scope"), "read")


def test_an_access_token_that_was_made_up_is_refused(orders):
    assert orders(SecretStr("made-up")) in (401, 403)


def test_the_wrong_address_of_the_token_endpoint_is_recognised(server, flow):
    there = flow(MACHINE_BASIC, token_endpoint=f"{server.url}/nowhere")
    failure = refused(there.renew)
    assert failure.failure_class in (FailureClass.REPLY_UNUSABLE, FailureClass.REQUEST_BAD)
    assert failure.status == 404

"""The rehearsal provider is honest: it holds clients to the RFCs, and its switches do what they say."""

import base64
import hashlib

import pytest

from rehearsal.authorize import ODD_ANSWERS
from rehearsal.failures import SWITCHES
from rehearsal.token import BEHAVIOURS, ODD_REPLIES
from tests.support.practice import REDIRECT, ask, authorize, exchange, orders, refresh, token

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
KNOWN = {
    "token": {*BEHAVIOURS, *ODD_REPLIES},
    "api": {"401_once", "status", "delay"},
    "authorize": {"deny", "never", *ODD_ANSWERS},
}


@pytest.fixture(autouse=True)
def agreeing(provider):
    provider.control(auto_consent=True)


def test_a_code_gives_a_token_that_its_api_takes(provider):
    status, reply = exchange(provider, authorize(provider)["code"])
    assert status == 200
    assert provider.alive(reply["access_token"])
    assert reply["token_type"] == "Bearer"


def test_a_code_works_once_and_a_second_use_revokes_what_the_first_gave(provider):
    code = authorize(provider)["code"]
    _status, reply = exchange(provider, code)
    assert exchange(provider, code)[1]["error"] == "invalid_grant"
    assert not provider.alive(reply["access_token"])


def test_a_code_is_bound_to_its_redirect_url(provider):
    code = authorize(provider)["code"]
    assert exchange(provider, code, redirect_uri=f"{REDIRECT}/")[1]["error"] == "invalid_grant"


@pytest.mark.parametrize("verifier", ["", "w" * 43])
def test_a_challenge_wants_its_verifier(provider, verifier):
    code = authorize(provider, code_challenge=CHALLENGE, code_challenge_method="S256")["code"]
    assert exchange(provider, code, code_verifier=verifier)[1]["error"] == "invalid_grant"
    assert exchange(provider, code, code_verifier=VERIFIER)[0] == 200


def test_a_verifier_without_a_challenge_is_refused(provider):
    assert exchange(provider, authorize(provider)["code"], code_verifier=VERIFIER)[1]["error"] == "invalid_grant"


def test_a_wrong_secret_is_refused(provider):
    status, reply = exchange(provider, authorize(provider)["code"], secret="another")
    assert (status, reply["error"]) == (401, "invalid_client")


def test_a_refresh_token_used_twice_ends_the_whole_authorization(provider):
    _status, first = exchange(provider, authorize(provider)["code"])
    status, second = token(provider, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert status == 200
    assert token(provider, grant_type="refresh_token", refresh_token=first["refresh_token"])[0] == 400
    assert not provider.alive(second["access_token"])


def test_client_credentials_give_a_token_without_a_person(provider):
    form = {"grant_type": "client_credentials", "scope": "orders.read"}
    status, reply = token(provider, client_id="rehearsal-machine", secret="practice-secret-machine", **form)
    assert status == 200
    assert "refresh_token" not in reply


def test_nobody_is_sent_to_a_redirect_url_that_is_not_registered(provider):
    with pytest.raises(AssertionError, match="not registered"):
        authorize(provider, redirect_uri="https://evil.example/auth/provider/callback")


@pytest.mark.parametrize(
    ("switch", "expected"),
    [
        ("", {"state": "the state", "iss": "{url}"}),
        ("wrong_state", {"state": "not-the-state-that-was-sent"}),
        ("missing_state", {"state": None}),
        ("cut_state:5", {"state": "the s"}),
        ("missing_iss", {"iss": None}),
        ("iss:https://evil.example", {"iss": "https://evil.example"}),
        ("extra_fields", {"authuser": "0", "state": "the state"}),
        ("other_name", {"code": None}),
        ("error:server_error=went wrong", {"error": "server_error", "error_description": "went wrong", "code": None}),
        ("deny", {"error": "access_denied", "code": None}),
    ],
)
def test_each_switch_changes_what_goes_back(provider, switch, expected):
    provider.control(behaviours={"authorize": switch} if switch else {})
    given = authorize(provider)
    assert {name: given.get(name) for name in expected} == {
        name: value.format(url=provider.url) if value else value for name, value in expected.items()
    }


def test_every_switch_of_the_answer_has_a_test():
    [mark] = [mark for mark in test_each_switch_changes_what_goes_back.pytestmark if mark.name == "parametrize"]
    assert set(ODD_ANSWERS) <= {switch.partition(":")[0] for switch, _expected in mark.args[1]}


def test_a_provider_that_never_goes_back_stays_on_its_own_page(provider):
    provider.control(behaviours={"authorize": "never"})
    with pytest.raises(AssertionError, match="told not to go back"):
        authorize(provider)


def test_a_reply_can_leave_fields_out_and_tell_another_scope(provider):
    provider.control(behaviours={"token": "without:refresh_token,expires_in"})
    _status, reply = exchange(provider, authorize(provider)["code"])
    assert not {"refresh_token", "expires_in"} & set(reply)
    provider.control(behaviours={"token": "scope:orders.read customers.read"})
    _status, reply = exchange(provider, authorize(provider)["code"])
    assert reply["scope"] == "orders.read customers.read"


def test_every_refusal_on_its_pages_leads_back(provider):
    status, text = ask(f"{provider.url}/lifetime", {"lifetime": "half an hour"})
    assert (status, '<a href="/">' in text) == (422, True)
    status, text = ask(f"{provider.url}/authorise")
    assert (status, '<a href="/">' in text, "/authorise" in text) == (404, True, True)


def test_a_whole_number_of_seconds_is_shown_as_one(provider):
    provider.control(lifetime=45)
    assert 'value="45"' in ask(f"{provider.url}/")[1]


def test_failures_are_switched_on_and_off_on_a_page_and_told_on_the_first_one(provider):
    _status, given = exchange(provider, authorize(provider)["code"])
    access = given["access_token"]
    assert orders(provider, access) == 200
    page = f"{provider.url}/failures/"
    assert ask(page, {"token": "status:503", "api": "status:401", "authorize": "nonsense"})[0] == 200
    assert ask(f"{provider.url}/token", {"grant_type": "refresh_token"})[0] == 503
    assert orders(provider, access) == 401
    assert set(provider.control()["behaviours"]) == {"token", "api"}
    for words in ("Token endpoint: answers 503, as when it is down", "API: turns every token down"):
        assert words in ask(provider.url)[1]
    assert '<option value="status:503" selected>answers 503, as when it is down</option>' in ask(page)[1]
    ask(page, {"token": "", "api": "status:503"})
    assert orders(provider, access) == 503
    ask(page, {"api": "401_once"})
    assert [orders(provider, access) for _ in range(2)] == [401, 200]
    assert provider.control()["behaviours"] == {}
    _status, text = ask(f"{page}end", {"anything": ""})
    assert "Ended: 1." in text
    assert orders(provider, access) == 401
    assert refresh(provider, given["refresh_token"])[1]["error"] == "invalid_grant"


def test_a_foreign_page_switches_nothing(provider):
    for path, form in (
        ("failures/", {"api": "status:503"}),
        ("failures/end", {"x": ""}),
        ("lifetime", {"lifetime": "9"}),
    ):
        assert ask(f"{provider.url}/{path}", form, **{"Sec-Fetch-Site": "cross-site"})[0] == 403
    stands = provider.control()
    assert (stands["behaviours"], stands["lifetime"], stands["dead_families"]) == ({}, 3600, 0)


def test_every_switch_of_the_page_is_one_that_the_endpoint_knows(provider):
    for endpoint, (_name, choices) in SWITCHES.items():
        names = {choice.partition(":")[0] for choice in choices if choice}
        assert names <= KNOWN[endpoint]

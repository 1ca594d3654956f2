"""Who answered the authorization request: AC-08."""

import pytest

from oauth.issuer import wrong_issuer

ISSUER = "https://issuer.example"


def test_the_right_issuer_may_go_on():
    assert wrong_issuer(ISSUER, ISSUER) == ""


@pytest.mark.parametrize(
    "received",
    [None, "", "https://issuer.example/", "https://ISSUER.example", "https://evil.example", "http://issuer.example"],
)
def test_any_other_issuer_is_stopped_in_words(received):
    assert wrong_issuer(ISSUER, received).endswith(".")


@pytest.mark.parametrize("received", [None, ISSUER])
def test_without_a_configured_issuer_nothing_is_known(received):
    assert wrong_issuer("", received) == ""

"""What a provider may send back to the redirect URL, and what it may not."""

import pytest
from pydantic import SecretStr

from oauth.authorization_response import LONGEST_CODE, LONGEST_SAID, Odd, parse
from oauth.vocabulary import FailureClass


def test_a_code_is_read_with_its_state_and_issuer():
    answer = parse([("code", "abc"), ("state", "s"), ("iss", "https://as.example"), ("scope", "x"), ("scope", "y")])
    assert (answer.code.get_secret_value(), answer.state, answer.iss) == ("abc", "s", "https://as.example")
    assert not answer.denied


def test_a_missing_issuer_is_told_from_an_empty_one():
    assert parse([("code", "abc"), ("state", "s")]).iss is None
    assert parse([("code", "abc"), ("state", "s"), ("iss", "")]).iss == ""


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("state", "s")],
        [("code", "c")],
        [("state", ""), ("code", "c")],
        [("state", "s" * 101), ("code", "c")],
        [("state", "s"), ("code", "")],
        [("state", "s"), ("code", "c"), ("error", "access_denied")],
        [("state", "s"), ("code", "c"), ("code", "c")],
        [("state", "s"), ("state", "s"), ("code", "c")],
        [("state", "s"), ("code", "c"), ("iss", "a"), ("iss", "b")],
        [("state", "s"), ("error", "a"), ("error_description", "x"), ("error_description", "y")],
        [("state", "s"), ("code", "c" * (LONGEST_CODE + 1))],
        [("state", "s"), ("code", "c\r\nX: 1")],
        [("state", "s"), ("code", "é")],
        [("state", "s"), ("error", "a\nb")],
        [("state", "s"), ("error", "e" * 101)],
    ],
)
def test_what_no_provider_sends_is_odd(pairs):
    with pytest.raises(Odd):
        parse(pairs)


def test_a_denial_is_told_from_an_error():
    assert parse([("state", "s"), ("error", "access_denied")]).denied
    assert not parse([("state", "s"), ("error", "server_error")]).denied


def test_the_providers_words_are_cut_escaped_to_one_line_and_rid_of_our_secrets():
    words = "our s3cret!word\r\nand \x1b[1mred " + "on and on " * 100
    failure = parse([("state", "s"), ("error", "nobody_knows"), ("error_description", words)]).failure(
        [SecretStr("s3cret!word"), None]
    )
    assert failure.failure_class is FailureClass.REQUEST_BAD
    assert len(failure.provider_said) == LONGEST_SAID
    assert failure.provider_said.startswith("our ••• and \\u001b[1mred on")
    assert failure.code == "nobody_knows"

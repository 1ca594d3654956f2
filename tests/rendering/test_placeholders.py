"""A conversation's values fill the place they stand in and never more than it."""

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rendering import placeholders
from rendering.placeholders import PlaceholderProblem

URL = "https://api.example/c/{{csid}}/orders?email={{customer_email}}&v=1"
HOSTILE = [
    "../../admin",
    "a/b",
    "x?y=1",
    "x#y",
    "a&b=c",
    "%2e%2e",
    "..",
    ".",
    "a b",
    "ø@é",
    "\r\nHost: x",
    "\u0000",
    "{{csid}}",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_in_a_url_is_one_segment_or_one_query_value(value):
    parts = urlsplit(placeholders.fill_url(URL, {"csid": value, "customer_email": value}))
    assert parts.hostname == "api.example"
    assert len(parts.path.split("/")) == 4
    assert parts.path.split("/")[2] not in (".", "..")
    assert parts.fragment == ""
    assert parse_qs(parts.query, keep_blank_values=True) == {"email": [value], "v": ["1"]}


@given(some.text(max_size=60))
def test_any_value_comes_back_from_a_query_as_it_was(value):
    if any("\ud800" <= char <= "\udfff" for char in value):
        return
    filled = placeholders.fill_url("https://api.example/?q={{csid}}&end=1", {"csid": value})
    assert parse_qs(urlsplit(filled).query, keep_blank_values=True) == {"q": [value], "end": ["1"]}
    assert filled.isascii() and filled.isprintable() and " " not in filled


def test_a_value_that_is_missing_is_empty():
    assert placeholders.fill_url("https://api.example/?q={{csid}}", {}) == "https://api.example/?q="


@pytest.mark.parametrize(
    "url", ["https://{{csid}}.example/", "https://api.example{{csid}}/", "{{csid}}://api.example/"]
)
def test_no_value_decides_which_host_is_called(url):
    with pytest.raises(PlaceholderProblem, match="host"):
        placeholders.fill_url(url, {"csid": "x"})


def test_a_placeholder_nobody_knows_is_named_with_those_that_exist():
    with pytest.raises(PlaceholderProblem, match=r"named customer_mail\. There are: agent_email, csid"):
        placeholders.fill_url("https://api.example/?q={{customer_mail}}", {})


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\u0000b", "a\u007fb", "a\u001bb"])
def test_a_value_that_would_break_a_header_is_refused(value):
    with pytest.raises(PlaceholderProblem):
        placeholders.fill_header("X {{csid}}", {"csid": value})


def test_values_in_headers_stand_as_they_are():
    assert placeholders.fill_header("id={{ csid }}; q", {"csid": "a/b c"}) == "id=a/b c; q"


def test_every_placeholder_has_a_label_and_a_sample():
    assert len(placeholders.NAMES) == len(placeholders.KNOWN)
    assert all(known.label and known.sample for known in placeholders.KNOWN)

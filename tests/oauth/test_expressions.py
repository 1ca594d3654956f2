"""Expressions of admins: what they may say, and that none of them can do harm."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oauth import expressions

REPLY = {"data": {"token": "abc", "users": [{"type": "bot", "t": "b"}, {"type": "user", "t": "u"}]}, "code": 0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("data.token", "abc"),
        ("data.users[0].t", "b"),
        ("data.users[?type=='user'].t | [0]", "u"),
        ("missing || data.token", "abc"),
        ("code != `0`", False),
        ("'Bearer'", "Bearer"),
        ("contains(data.token, 'b')", True),
        ('data."token"', "abc"),
        ("data.nothing", None),
        ("data.token.deeper", None),
        ("length(code)", None),
        ("data.users[::0]", None),
        ("data.users[99999999999999999999]", None),
    ],
)
def test_an_expression_points_at_what_it_names(text, found):
    assert expressions.problem(text) == ""
    assert expressions.find(text, REPLY) == found


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[@,@][]", "multi select list"),
        ("{a: data}", "multi select dict"),
        ("join('x', data.users)", "join()"),
        ("map(&t, data.users)", "map()"),
        ("data.", "no JMESPath"),
        ("data[", "no JMESPath"),
        ("", "no JMESPath"),
        ("data token", "no JMESPath"),
        ("`{", "no JMESPath"),
        ("é", "no JMESPath"),
        ("a" * 301, "at most 300"),
        ("!" * 30 + "a", ""),
        ("[]" * 140, "too often"),
        ("[?@]|" * 55 + "[0]", "too often"),
        ("(" * 140 + "a" + ")" * 140, ""),
    ],
)
def test_an_expression_that_builds_or_cannot_be_read_is_refused_in_words(text, named):
    words = expressions.problem(text)
    assert named in words
    assert bool(words) is bool(named)
    if words:
        assert expressions.find(text, REPLY) is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
PIECES = [
    "a",
    "b",
    ".",
    "[0]",
    "[]",
    "[?a==b]",
    "[?a<b]",
    "||",
    "&&",
    "!",
    "*",
    "|",
    "'x'",
    "`1`",
    "@",
    "[::2]",
    "[1:]",
]
PIECES += [
    "(",
    ")",
    "to_number(a)",
    "length(@)",
    "contains(a, b)",
    "not_null(a, b)",
    "type(@)",
    "to_string(b)",
    '"',
    " ",
]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join) | st.text(max_size=12), JSON_VALUES)
def test_no_expression_raises_whatever_the_reply_holds(text, reply):
    expressions.find(text, reply)


def test_the_slowest_expression_on_a_large_reply_takes_about_a_second():
    reply = json.loads(f"[{','.join('1' for _ in range(128_000))}]")
    for text in ("[?@]|" * 7 + "[0]", "[]" * 13):
        assert expressions.problem(text) == ""
        started = time.process_time()
        expressions.find(text, reply)
        assert time.process_time() - started < 5

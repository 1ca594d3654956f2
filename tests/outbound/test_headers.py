"""Headers an admin may set, and those that may leave at all: EG-07."""

import pytest

from outbound import BadHeader, BadRequest, check_header
from tests.outbound.conftest import answer

REFUSED = (
    "Host Authorization Content-Length Transfer-Encoding Connection Keep-Alive TE Trailer Upgrade Expect Via Forwarded "
    "Proxy-Authorization Proxy-Connection Cookie Sec-Fetch-Site X-Forwarded-For X-Real-IP Metadata-Flavor Metadata "
    "X-aws-ec2-metadata-token X-Google-Metadata-Request X-HTTP-Method-Override"
).split()


@pytest.mark.parametrize("name", [variant for name in REFUSED for variant in (name, name.lower(), name.upper())])
def test_a_header_that_cardkey_sets_itself_is_refused(name):
    with pytest.raises(BadHeader):
        check_header(name, "x")


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "é", "a\x00", "(x)", " x", "x "])
def test_a_name_that_is_no_token_is_refused(name):
    with pytest.raises(BadHeader):
        check_header(name, "x")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\x00b", "\x7f", "\x1b[31m", "日本", "\u2028"])
def test_a_value_of_more_than_one_line_of_latin_letters_is_refused(value):
    with pytest.raises(BadHeader):
        check_header("X-Mine", value)


@pytest.mark.parametrize(
    ("name", "value"), [("X-Api-Key", "k"), ("Accept", "a/b"), ("Notion-Version", "é\t1"), ("X", "")]
)
def test_an_ordinary_header_is_accepted(name, value):
    check_header(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", "evil.example"),
        ("Content-Length", "0"),
        ("X-A", "a\r\nX-Evil: 1"),
        ("X\r\nEvil", "1"),
        ("X-A", "\ud800"),
    ],
)
def test_a_header_that_got_past_a_form_does_not_leave(serve, client_for, limits, name, value):
    server = serve(answer())
    with pytest.raises(BadRequest):
        client_for(server.address).send_now("GET", server.url, headers={name: value}, limits=limits)
    assert server.connections == 0

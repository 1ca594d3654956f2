"""Which addresses may be called: EG-01, EG-03, EG-05."""

import ipaddress

import pytest

from outbound import BadAddress, Blocked, OutboundFailure, Policy, check_url, origin
from outbound.addresses import is_own, is_special

FRESH = Policy()
# Those that Python's own is_global lets through come first; 127.0.0.1 in every wrapping, then the registries.
INTERNAL = (
    "192.0.0.192 224.0.0.1 192.88.99.1 168.63.129.16 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::a9fe:a9fe 64:ff9b:1::a00:1 "
    "2002:7f00:1:: 2002:a9fe:a9fe:: fec0::1 ff02::1 3fff::1 5f00::1 ::ffff:0:127.0.0.1 "
    "0.0.0.0 10.0.0.1 100.64.0.1 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 172.31.255.255 192.168.1.1 "
    "192.0.2.1 198.18.0.1 198.51.100.7 203.0.113.9 240.0.0.1 255.255.255.255 "
    "::1 :: ::ffff:10.0.0.1 2001::1 2001:db8::1 100::1 fc00::1 fe80::1 2a01:4f8::5efe:a9fe:a9fe"
).split()
PUBLIC = "1.1.1.1 8.8.8.8 93.184.216.34 172.32.0.1 100.128.0.1 2606:4700::1111 2a00:1450:4001:81b::200e".split()


def test_there_are_thirty_nine_internal_addresses():
    assert len(set(INTERNAL)) == 39


@pytest.mark.parametrize("address", INTERNAL)
def test_an_internal_address_is_refused_as_literal_and_as_answer(address):
    number = ipaddress.ip_address(address)
    host = f"[{address}]" if number.version == 6 else address
    with pytest.raises(Blocked):
        check_url(f"https://{host}/", FRESH)
    with pytest.raises(Blocked):
        FRESH.check_address("api.example.com", 443, address)
    assert is_special(number)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address):
    host = f"[{address}]" if ":" in address else address
    assert check_url(f"https://{host}/x?y=1", FRESH) == f"https://{host}/x?y=1"
    FRESH.check_address("api.example.com", 443, address)


@pytest.mark.parametrize("address", ["fe80::1%eth0", "::ffff:127.0.0.1%1", "fe80::1%"])
def test_a_zone_does_not_hide_an_address(address):
    with pytest.raises(Blocked):
        FRESH.check_address("api.example.com", 443, address)


def test_addresses_of_this_very_machine_are_known(monkeypatch):
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert not is_own(ipaddress.ip_address("1.1.1.1"))
    monkeypatch.setattr("outbound.addresses.SPECIAL", ())
    with pytest.raises(Blocked):
        FRESH.check_address("api.example.com", 443, "127.0.0.1")


# Each form, to the word, must be refused by a fresh policy: {canary} is a listener's port on 127.0.0.1.
FORMS = [
    "https://127.0.0.1/",
    "https://127.0.0.1:{canary}/",
    "http://127.0.0.1:{canary}/",
    "https://localhost/",
    "https://localhost:{canary}/",
    "https://LOCALHOST:{canary}/",
    "https://localhost.:{canary}/",
    "https://a.localhost/",
    "https://foo.local/",
    "https://metadata.google.internal/",
    "https://router/",
    "https://127.1/",
    "https://127.1:{canary}/",
    "https://127.0.1/",
    "https://2130706433/",
    "https://2130706433:{canary}/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0x7f.0.0.1:{canary}/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0177.0.0.0x1/",
    "https://0/",
    "https://0:{canary}/",
    "https://0.0.0.0:{canary}/",
    "https://127.0.0.1./",
    "https://example.com.127/",
    "https://example.0x7f/",
    "https://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
    "https://\u24dbocalhost/",
    "https://l\u043ecalhost/",
    "https://127\u30020\u30020\u30021/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://xn--localhost-/",
    "https://xn--localhost-.example.com/",
    "https://xn--ocalhost-in2e.example.com/",
    "https://xn--\u00e9.example.com/",
    "https://xn--.example.com/",
    "https://xn--99999999999.example.com/",
    "https://[::1]/",
    "https://[::1]:{canary}/",
    "https://[::ffff:127.0.0.1]:{canary}/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::127.0.0.1]/",
    "https://[fe80::1%25lo]/",
    "https://[::1%25lo]:{canary}/",
    "https://[2606:4700::1111%25lo]/",
    "https://[v1.127]/",
    "https://[::1/",
    "https://::1/",
    "https://user@127.0.0.1:{canary}/",
    "https://user:password@api.example.com/",
    "https://@api.example.com/",
    "https://api.example.com@127.0.0.1:{canary}/",
    "https://127.0.0.1:{canary}@api.example.com/",
    "https://127.0.0.1:{canary}#@api.example.com/",
    "https://127.0.0.1:{canary}\\@api.example.com/",
    "https://api.example.com\\@127.0.0.1:{canary}/",
    "https:\\\\127.0.0.1:{canary}/",
    "https:/127.0.0.1:{canary}/",
    "https:127.0.0.1:{canary}/",
    "https:///127.0.0.1:{canary}/",
    "//127.0.0.1:{canary}/",
    "127.0.0.1:{canary}",
    "https://1.1.1.1 &@127.0.0.1:{canary}/",
    "https://127.0.0.1\t:{canary}/",
    "https://127.0.0.1\n:{canary}/",
    "\x00https://127.0.0.1:{canary}/",
    " https://127.0.0.1:{canary}/",
    "https://127.0.0.1:{canary}/\r\nX-Evil: 1",
    "https://127.0.0.1%00.example.com/",
    "https://1.1.1.1%2f@127.0.0.1/",
    "https://127%2e0%2e0%2e1/",
    "https://api.example.com:99999/",
    "https://api.example.com:-1/",
    "https://api.example.com:0/",
    "https://api.example.com:\u0664\u0664\u0663/",
    "https://api.example.com:22/",
    "https://api..example.com/",
    "https://-api.example.com/",
    "https://api_.-example.com/",
    "https://" + "a" * 64 + ".example.com/",
    "https://" + "a." * 130 + "example.com/",
    "https://api.example.com/" + "a" * 5000,
    "https://api.example.com/#fragment",
    "https://api.example.com/caf\u00e9",
    "http://api.example.com/",
    "ftp://api.example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{canary}/_",
    "javascript:alert(1)//https://api.example.com/",
    "data:text/html,x",
    "",
    "https://",
    "https://?x",
]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_refused_is_never_connected(form, canary, client_for, limits):
    url = form.format(canary=canary.port) if "{canary}" in form else form
    with pytest.raises((BadAddress, Blocked)) as caught:
        check_url(url, FRESH)
    assert str(caught.value).endswith((".", "https://"))
    with pytest.raises(OutboundFailure):
        client_for().send_now("GET", url, limits=limits)


@pytest.mark.parametrize("name", ["xn--strae-oqa.de", "xn--bcher-kva.example", "a_b.example.com", "api.example.com."])
def test_ordinary_names_may_be_called(name):
    assert check_url(f"https://{name}/", FRESH)


def test_a_fresh_installation_calls_nothing_inside(canary, client_for, limits):
    for url in (canary.url, f"https://{canary.address}/", f"https://localhost:{canary.port}/"):
        with pytest.raises((BadAddress, Blocked)):
            client_for().send_now("GET", url, limits=limits)


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9000/"),
        ("LocalHost:9000", "http://localhost:9000/"),
        ("[::1]:9000", "http://[::1]:9000/"),
        ("127.0.0.1:9000", "https://127.0.0.1:9000/"),
        ("api.corp.internal:8443", "https://api.corp.internal:8443/"),
        ("10.1.0.0/16", "https://10.1.2.3/"),
        ("fd00::/8", "https://[fd00::1]/"),
    ],
)
def test_what_an_operator_names_may_be_called(allow, url):
    assert check_url(url, Policy.parse(f" {allow} , ")) == url


@pytest.mark.parametrize(
    ("allow", "url"),
    [
        ("127.0.0.1:9000", "http://127.0.0.1:9001/"),
        ("127.0.0.1:9000", "http://localhost:9000/"),
        ("10.1.2.3:9000", "http://10.1.2.3:9000/"),
        ("api.corp.internal:80", "http://api.corp.internal/"),
        ("10.1.0.0/16", "https://10.2.0.1/"),
        ("10.1.0.0/16", "https://10.1.0.1:22/"),
        ("10.1.0.0/16", "http://10.1.0.1/"),
        ("127.0.0.0/8", "http://127.0.0.1:443/"),
    ],
)
def test_allowing_one_place_allows_no_other_and_plain_http_only_on_loopback(allow, url):
    with pytest.raises((BadAddress, Blocked)):
        check_url(url, Policy.parse(allow))


@pytest.mark.parametrize(
    "text", ["localhost", "host:port", "host:0", "host:70000", "10.0.0.0/33", "10.0.0.1/8", "https://a"]
)
def test_an_unreadable_allow_list_is_explained(text):
    with pytest.raises(ValueError, match="CARDKEY_OUTBOUND_ALLOW"):
        Policy.parse(text)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://API.example.com/x", "api.example.com"),
        ("https://api.example.com:443/", "api.example.com"),
        ("https://api.example.com:8443/", "api.example.com:8443"),
        ("http://localhost:80/", "localhost"),
        ("https://[::1]:9/", "[::1]:9"),
    ],
)
def test_an_origin_is_host_and_unusual_port(url, expected):
    assert origin(url) == expected

"""Secrets in other people's words: starred in whatever case, letters and encodings they come back."""

import base64
import html
import itertools
import json
import re
import sys
import time
import unicodedata
from urllib.parse import quote, quote_plus

import pytest
from pydantic import SecretStr

from oauth.scrub import BARE, NOTHING, STARS, Hidden, scrub, star, star_page

SECRET = "Kiosk-secret/With=Letters-" + "x" * 40
CANARIES = (
    "Q7k+canary/Zx9+Lm2/pp8Q==",
    "Ca\"na'ry&<sec>+/é ret%2F9 ü",
    "1//0gHk3J9xQ2mV7-bN4pL8wR5t_z8Y7w6V5u4T3s2R1q0PnM9",
    "9f1c2b3a-5d4e-4f60-8a7b-6c5d4e3f2a1b",
    "hunter2-Winter9!",
)
ENCODINGS = {
    "percent": lambda text: quote(text, safe=""),
    "percent in small letters": lambda text: re.sub("%..", lambda match: match[0].lower(), quote(text, safe="")),
    "percent for everything": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "percent for the plus": lambda text: text.replace("+", "%2B"),
    "percent for the equals sign": lambda text: text.replace("=", "%3D"),
    "form": quote_plus,
    "a blank for the plus": lambda text: text.replace("+", " "),
    "HTML": html.escape,
    "HTML as Go writes it": lambda text: html.escape(text).replace("+", "&#43;").replace("&quot;", "&#34;"),
    "HTML numbers": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "HTML numbers for signs": lambda text: re.sub(r"\W", lambda match: f"&#x{ord(match[0]):X};", text),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON as .NET writes it": lambda text: json.dumps(text)[1:-1].replace("+", "\\u002B").replace("/", "\\/"),
    "backslash u for everything": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text),
    "backslash x for everything": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    "Python's repr": lambda text: repr(text)[1:-1],
    "Python's repr of bytes": lambda text: repr(text.encode())[2:-1],
    "backslash before quotes": lambda text: text.replace('"', '\\"').replace("'", "\\'"),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 in lines": lambda text: re.sub("(.{12})", r"\1\n", base64.b64encode(text.encode()).decode()),
    "base64 of more": lambda text: base64.b64encode(f"client:{text}:yy".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex in capitals": lambda text: text.encode().hex().upper(),
    "hex with colons": lambda text: text.encode().hex(":"),
    "hex as C writes it": lambda text: ", ".join(f"0x{byte:02x}" for byte in text.encode()),
    "capitals": str.upper,
    "small letters": str.lower,
    "accents apart": lambda text: unicodedata.normalize("NFD", text),
    "double width": lambda text: "".join(
        chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text
    ),
    "signs that show nothing": "\u200b".join,
    "UTF-8 taken for Latin-1": lambda text: text.encode().decode("latin-1"),
    "without its end": lambda text: text.rstrip("="),
    "as it is": str,
}
ORDINARY = (
    "AADSTS70008: The provided authorization code or refresh token has expired due to inactivity.",
    "The client secret supplied for a request expired. Visit https://portal.example/keys?x=1%2B2&y=%20 to renew it.",
    '{"orders": [{"id": 10427, "item": "Canary, yellow", "total": "12.50"}], "next": null}',
    "VGhpcyBpcyBvbmx5IHNvbWUgYmFzZTY0IG9mIG5vdGhpbmcgc2VjcmV0LCBhbmQgbG9uZyBlbm91Z2g=",
    "68656c6c6f20776f726c642c2068656c6c6f20776f726c64",
    "Größe &amp; Gewicht: 5 &lt; 6 \\u00e9t\\u00e9 \u200b",
)


def left(starred):
    """Letters and digits that are still to be seen."""
    return [letter for letter in starred if letter.isalnum()]


@pytest.mark.parametrize("secret", CANARIES, ids=range(len(CANARIES)))
def test_a_secret_is_starred_under_any_two_encodings_and_nothing_around_it(secret):
    hidden = Hidden([SecretStr(secret)])
    before, after = "You sent ", " to us, sorry."
    found = {}
    for outer, inner in itertools.product(ENCODINGS, repeat=2):
        echo = ENCODINGS[outer](ENCODINGS[inner](secret))
        starred = star(f"{before}{echo}{after}", hidden)
        around = STARS in starred and starred.startswith(before) and starred.endswith(after)
        # Padding and whatever stood beside it, encoded with it, leave a few letters at its edges.
        if not around or (len(left(starred[len(before) : -len(after)])) > 15 and "more" not in inner + outer):
            found[outer, inner] = starred
    assert list(found.items())[:10] == []


def test_ordinary_text_stays_as_it_is():
    hidden = Hidden([SecretStr(secret) for secret in CANARIES])
    assert [star(text, hidden) for text in ORDINARY] == list(ORDINARY)
    assert star("nothing to hide", NOTHING) == star("nothing to hide", Hidden([None, SecretStr("")]))
    assert not Hidden([None, SecretStr(""), SecretStr("ab")])


def test_letters_that_pass_for_ascii_ones_are_compared_as_those():
    others = "".join(map(chr, range(128, sys.maxunicode + 1)))
    for letter in re.findall("[a-z]", others, re.IGNORECASE):
        assert re.fullmatch(BARE[ord(letter)], letter, re.IGNORECASE)


def test_a_secret_is_starred_in_any_case_and_amid_any_text():
    hidden = Hidden([SecretStr(SECRET)])
    lookalikes = SECRET.replace("K", "\u212a").replace("s", "\u017f").replace("i", "\u0131")
    for echo in (SECRET, SECRET.upper(), SECRET.lower(), lookalikes, SECRET.encode().hex().upper()):
        for text in (f"got {echo}.", f"Größe {echo}, \u0130stanbul", f"{'z ' * 35_000}{echo}"):
            assert star(text, hidden) == text.replace(echo, STARS)


def test_a_secret_of_other_letters_is_starred_too():
    secret = "geheimnis-mit-Ärger-und-Kummer"
    hidden = Hidden([SecretStr(secret)])
    for echo in (secret, secret.upper(), secret.lower(), secret.encode().hex()):
        assert star(f"so {echo} da", hidden) == f"so {STARS} da"


def test_a_piece_of_a_secret_is_starred_and_a_word_it_shares_is_not():
    hidden = Hidden([SecretStr("k3J9xQ2mV7bN4pL8wR5t")])
    assert star("begins with k3J9xQ2mV7bN4pL8", hidden) == f"begins with {STARS}"
    assert star("ends in Q2mV7-bN4pL8wR5t", hidden) == f"ends in {STARS}"
    wordy = Hidden([SecretStr("the-refresh-token-of-monday")])
    assert star("the refresh of Monday failed", wordy) == "the refresh of Monday failed"


@pytest.mark.parametrize(
    ("secret", "text", "starred"),
    [
        ("abc", "wrong abc, not abcdef", "wrong •••, not abcdef"),
        ("abc", "wrong %61bc", "wrong •••"),
        ("pass", "wrong PASS given", "wrong ••• given"),
        ("p+ss", "wrong p ss and p%2Bss given", "wrong ••• and ••• given"),
        ("!?$%&/()=", "wrong !?$%&amp;/()= given", "wrong ••• given"),
        ("пароль", "wrong Пароль given", "wrong ••• given"),
        ("$ecret$", "wrong $ecret$ given", "wrong ••• given"),
    ],
)
def test_short_secrets_and_such_of_signs_are_starred_sign_by_sign(secret, text, starred):
    assert star(text, Hidden([SecretStr(secret)])) == starred


def test_a_secret_cut_off_with_the_text_is_not_shown():
    secret = "q9" * 30
    for length in range(8_000, 9_000, 50):
        assert "q9q9" not in scrub("word " * (length // 5) + secret + " more" * 2000, [SecretStr(secret)])


def test_a_page_is_starred_across_its_tags_which_stay():
    hidden = Hidden([SecretStr("k3J9xQ2mV7bN4pL8wR5t")])
    page = "<p title='k3J9xQ2mV7bN4pL8wR5t'>key <b>k3J9x</b><i>Q2mV7</i>bN4p<br>L8wR5t</p><p>rest</p>"
    assert star_page(page, hidden) == "<p title='•••'>key <b>•••</b><i>•••</i>•••<br>•••</p><p>rest</p>"
    dotted = "".join(f"<span>{letter}.</span>" for letter in "k3J9xQ2mV7bN4pL8wR5t")
    assert not left(re.sub("<[^>]*>", "", star_page(dotted, hidden)))
    assert star_page("<p>nothing</p>", hidden) == "<p>nothing</p>"


@pytest.mark.parametrize(
    "unit",
    ["%", "%25", "&#43;", "&amp;", "\\", "\\u002b", "QUJD", "41", "a", "<", "<b>", "k3J9xQ2mV7", "é", "Ã©", "\u200b"],
)
def test_hostile_texts_of_any_kind_cost_little_time(unit):
    hidden = Hidden([SecretStr(secret) for secret in (*CANARIES, "k3J9xQ2mV7" * 100, "aa", "a" * 60)])
    text = (unit * (256 * 1024 // len(unit) + 1))[: 256 * 1024]
    begun = time.process_time()
    star_page(text, hidden)
    assert time.process_time() - begun < 4

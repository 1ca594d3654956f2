"""Secrets in other people's words: starred in whatever case and letters they come back."""

import re
import sys

from pydantic import SecretStr

from oauth import scrub

SECRET = "Kiosk-secret/With=Letters-" + "x" * 40


def test_every_letter_that_passes_for_an_ascii_one_is_known():
    others = "".join(map(chr, range(128, sys.maxunicode + 1)))
    assert set(re.findall("[a-z]", others, re.IGNORECASE)) == set(scrub.FOLDED)
    for letter, like in scrub.FOLDED.items():
        assert re.fullmatch(like, letter, re.IGNORECASE)


def test_a_secret_is_starred_in_any_case_and_amid_any_text():
    hidden = scrub.forms([SecretStr(SECRET)])
    lookalikes = SECRET.replace("K", "\u212a").replace("s", "\u017f").replace("i", "\u0131")
    echoes = (SECRET, SECRET.upper(), SECRET.lower(), lookalikes, SECRET.encode().hex().upper())
    for echo in echoes:
        for text in (f"got {echo}.", f"Größe {echo}, \u0130stanbul", f"{'z' * 70_000}{echo}"):
            assert scrub.star(text, hidden) == text.replace(echo, scrub.STARS)


def test_a_secret_of_other_letters_is_starred_too():
    secret = "geheimnis-mit-Ärger-und-Kummer"
    hidden = scrub.forms([SecretStr(secret)])
    for echo in (secret, secret.upper(), secret.lower(), secret.encode().hex()):
        assert scrub.star(f"so {echo} da", hidden) == f"so {scrub.STARS} da"


def test_looking_for_each_alone_finds_what_looking_for_all_at_once_does():
    secrets = [
        SecretStr("\u212aelvin-und-\u017fonne"),
        SecretStr("kelvin-und-sonne"),
        SecretStr("Bearer kelvin-und-sonne"),
    ]
    hidden = scrub.forms(secrets)
    pattern = re.compile("|".join(map(re.escape, hidden)), re.IGNORECASE)
    for text in (
        "BEARER KELVIN-UND-SONNE",
        "\u212aelvin-und-sonne",
        "kelvin-und-\u017fonne é",
        "kelvin",
        "",
        "kelvin und",
    ):
        assert scrub.star(text, hidden) == pattern.sub(scrub.STARS, text)
    assert scrub.star("nothing to hide", []) == scrub.star("nothing to hide", [""]) == "nothing to hide"

"""Settings: the environment read once, and weak ones refused in plain sentences. SS-02."""

import base64
import importlib.util
import secrets
from pathlib import Path

import pytest
from pydantic import ValidationError

import app
import config

CHECKOUT = Path(__file__).parents[1]
STRONG = "Zk3v9-QpL0xR7tYw2sUe8BnM4cHj6GfD1aVi5oKq"
KEY = base64.b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """Set the environment an installation starts with; None leaves a variable out."""

    def set_up(**changes):
        usual = {"SECRET_KEY": STRONG, "ENCRYPTION_KEYS": f"k1:{KEY}", "DATA_DIR": str(tmp_path)}
        for name, value in {**usual, **changes}.items():
            if value is None:
                monkeypatch.delenv(f"CARDKEY_{name}", raising=False)
            else:
                monkeypatch.setenv(f"CARDKEY_{name}", value)

    return set_up


BAD_KEYS = {
    "no secret key": ({"SECRET_KEY": None}, "CARDKEY_SECRET_KEY is missing"),
    "a short secret key": ({"SECRET_KEY": "Zk3v9-QpL0xR"}, "CARDKEY_SECRET_KEY is too short"),
    "a sample secret key": (
        {"SECRET_KEY": "changeme-Zk3v9-QpL0xR7tYw2sUe8BnM4"},
        "CARDKEY_SECRET_KEY looks like a sample",
    ),
    "a repeated secret key": ({"SECRET_KEY": "abcdefghij"[:8] * 5}, "CARDKEY_SECRET_KEY repeats itself"),
    "no encryption key": ({"ENCRYPTION_KEYS": None}, "CARDKEY_ENCRYPTION_KEYS is missing"),
    "a short encryption key": (
        {"ENCRYPTION_KEYS": "k1:" + base64.b64encode(secrets.token_bytes(16)).decode()},
        "must be 32 bytes long",
    ),
    "a repeated encryption key": ({"ENCRYPTION_KEYS": "k1:" + base64.b64encode(b"ab" * 16).decode()}, "repeats itself"),
    "an encryption key that is no base64": ({"ENCRYPTION_KEYS": "k1:not base64!"}, "must read id:base64"),
    "the same encryption key twice": ({"ENCRYPTION_KEYS": f"k1:{KEY},k2:{KEY}"}, "twice"),
    "one key for both": ({"SECRET_KEY": KEY}, "must not be the same key"),
    "an unreadable allow list": ({"OUTBOUND_ALLOW": "everything"}, "CARDKEY_OUTBOUND_ALLOW"),
}


@pytest.mark.parametrize(("changes", "words"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_missing_or_weak_key_refuses_to_start_in_one_sentence(environment, changes, words):
    environment(**changes)
    with pytest.raises(SystemExit) as caught:
        app.create_app()
    message = str(caught.value)
    assert message.startswith("Cardkey does not start: ")
    assert words in message
    assert "\n" not in message
    assert not any(value and value in message for value in changes.values() if value != "everything")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"PORT": "abc"}, "CARDKEY_PORT must be a valid integer."),
        ({"PORT": "70000"}, "CARDKEY_PORT must be less than or equal to 65535."),
        ({"TICK": "0"}, "CARDKEY_TICK must be greater than 0."),
        ({"LEASE": "20"}, "CARDKEY_LEASE must be longer than CARDKEY_TOKEN_DEADLINE."),
        ({"LOG_LEVEL": "loud"}, "CARDKEY_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR."),
    ],
)
def test_an_unusable_setting_is_named(environment, changes, sentence):
    environment(**changes)
    with pytest.raises(config.SettingsProblem) as caught:
        config.load()
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    "address",
    ["cards.example.com", "ftp://x", "https://", "https://x/?a", "https://x/#a", "https://a@x", "https://[x", "https://x:0",
     "https://x:99999", "https://x y", "https://x\\y", "https://\u2460.example"],
)  # fmt: skip
def test_a_public_address_has_to_be_a_base_address(environment, address):
    environment(PUBLIC_URL=address)
    with pytest.raises(config.SettingsProblem, match="CARDKEY_PUBLIC_URL must be an address such as"):
        config.load()


@pytest.mark.parametrize(
    ("address", "redirect_url", "is_https"),
    [
        ("https://cards.example.com/", "https://cards.example.com/auth/provider/callback", True),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/auth/provider/callback", False),
        ("https://example.com/cards", "https://example.com/cards/auth/provider/callback", True),
    ],
)
def test_the_redirect_url_is_the_public_address_and_a_fixed_path(environment, address, redirect_url, is_https):
    environment(PUBLIC_URL=address)
    settings = config.load()
    assert (settings.redirect_url, settings.is_https) == (redirect_url, is_https)


def test_an_empty_variable_counts_as_unset(environment):
    environment(PORT="", LOG_LEVEL="", PUBLIC_URL="")
    settings = config.load()
    assert (settings.port, settings.log_level, settings.public_url) == (8000, "INFO", "http://127.0.0.1:8000")


def test_settings_cannot_be_changed_and_show_no_secret(environment):
    environment()
    settings = config.load()
    with pytest.raises(ValidationError):
        settings.port = 9000
    assert STRONG not in repr(settings)
    assert KEY not in repr(settings)


def test_no_file_in_the_working_directory_is_read(environment, monkeypatch, tmp_path):
    environment()
    (tmp_path / ".env").write_text("CARDKEY_PORT=9999\n")
    monkeypatch.chdir(tmp_path)
    assert config.load().port == 8000


def test_every_setting_says_what_it_does():
    assert [name for name, field in config.Settings.model_fields.items() if not field.description] == []


def test_the_page_of_settings_is_as_the_code_says():
    spec = importlib.util.spec_from_file_location("make_settings", CHECKOUT / "docs" / "make_settings.py")
    make_settings = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_settings)
    written = (CHECKOUT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == make_settings.page(), "run: .venv/bin/python docs/make_settings.py"

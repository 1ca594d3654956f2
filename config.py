"""Settings of one installation: the only reader of the environment.

Nothing here opens a file, a socket or a database. `docs/settings.md` is made from the docstrings below.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

MINIMUM_SECRET_LENGTH = 32
SAMPLE_WORDS = ("changeme", "change-me", "secret", "example", "password", "default", "insecure")


class SettingsProblem(Exception):
    """A setting is missing, weak or unusable; the message is one plain sentence for the operator."""


class Settings(BaseSettings):
    """Everything an operator can set, each as `CARDKEY_<NAME>`. Times are seconds, sizes are bytes."""

    model_config = SettingsConfigDict(
        env_prefix="CARDKEY_", frozen=True, use_attribute_docstrings=True, env_ignore_empty=True, extra="ignore"
    )

    public_url: str = "http://127.0.0.1:8000"
    """Address people open; the redirect URL is this plus `/auth/provider/callback`."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port the portal listens on."""
    data_dir: Path = Path("var")
    """Where the embedded default keeps its SQLite file, keys and Redis data."""
    database_url: str = ""
    """Database; SQLite in the data directory when empty. PostgreSQL: `postgresql+psycopg://…`."""
    redis_url: str = ""
    """Redis for the queue; `make run` provides one when empty."""
    secret_key: SecretStr = SecretStr("")
    """Signs cookies and form tokens; at least 32 characters, random. Made by `make run` for itself only."""
    encryption_keys: SecretStr = SecretStr("")
    """Keys for stored secrets: comma-separated `id:base64 of 32 bytes`; the first encrypts, all decrypt."""
    outbound_allow: str = ""
    """Internal places that may be called all the same: comma-separated `host:port` or CIDR."""
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    """How many reverse proxies in front of the portal may set forwarded headers."""
    log_level: str = "INFO"
    """`DEBUG`, `INFO`, `WARNING` or `ERROR`."""
    rehearsal_url: str = ""
    """Address of the rehearsal provider; offers "Try it" on the new-card page. Set by `make run`."""

    tick: float = Field(default=1.0, gt=0)
    """How often the scheduler looks for due tokens."""
    token_deadline: float = Field(default=20.0, gt=0)
    """Whole outgoing token request."""
    connect_deadline: float = Field(default=5.0, gt=0)
    """Connecting, as part of any outgoing request."""
    lease: float = Field(default=40.0, gt=0)
    """How long a process owns a connection's refresh; must exceed the token deadline."""
    caller_wait: float = Field(default=10.0, gt=0)
    """How long a preview waits for somebody else's refresh."""
    call_deadline: float = Field(default=10.0, gt=0)
    """Whole call of a card's API."""
    call_bytes: int = Field(default=1024 * 1024, gt=0)
    """Largest API reply, after decompression."""
    calls_per_card: int = Field(default=2, ge=1)
    """Calls of one card's API at once, in each web process."""
    calls_per_workspace: int = Field(default=8, ge=1)
    """Calls of card APIs for one workspace at once, in each web process."""
    due_fraction: float = Field(default=0.75, gt=0, lt=1)
    """Share of a token's lifetime after which it is refreshed."""
    due_jitter: float = Field(default=0.10, ge=0, lt=0.5)
    """Largest share of a token's lifetime by which a refresh is moved forward at random."""
    manual_cooldown: float = Field(default=30.0, ge=0)
    """Further presses of Refresh now within this time join the one before."""
    host_concurrency: int = Field(default=16, ge=1)
    """Token requests in flight at one provider host, all processes together."""
    agent_reserve: int = Field(default=2, ge=0)
    """Of these, places kept for cards that wait for a token while much else is due; a quarter at the most."""
    strict_concurrency: int = Field(default=4, ge=1)
    """Of those in flight at a host, at most so many whose grant may be lost when a refresh is cut short."""
    drain_time: float = Field(default=60.0, gt=0)
    """How long one drain job goes on before it gives way to the next."""
    retry_first: float = Field(default=30.0, gt=0)
    """Wait before the first retry while a provider is down; doubles from there."""
    retry_longest: float = Field(default=3600.0, gt=0)
    """Longest wait between retries."""
    breaker_after: int = Field(default=5, ge=1)
    """Requests in a row that find a provider's host down before nothing is sent there for a while."""
    breaker_first: float = Field(default=30.0, gt=0)
    """How long nothing is sent to such a host before one request tries; doubles each time that one fails."""
    breaker_longest: float = Field(default=300.0, gt=0)
    """Longest time for which nothing is sent to such a host."""
    attempt_ttl: float = Field(default=600.0, gt=0)
    """How long a press of Authorize may take until the callback."""
    link_ttl: float = Field(default=7 * 86400.0, gt=0)
    """How long set-up, invitation and password links work."""
    session_idle: float = Field(default=12 * 3600.0, gt=0)
    """A session unused for this long ends."""
    session_longest: float = Field(default=14 * 86400.0, gt=0)
    """A session ends after this long whatever happens."""
    journal_keep: int = Field(default=20, ge=1)
    """Closed refreshes kept for each connection."""
    journal_failures_days: int = Field(default=30, ge=1)
    """Days for which failed refreshes are kept."""
    journal_counts_days: int = Field(default=90, ge=30)
    """Days for which the number of refreshes of each connection is kept."""

    @field_validator("public_url", "rehearsal_url")
    @classmethod
    def _a_base_address(cls, value: str) -> str:
        value = value.rstrip("/")
        if value and not _is_base_address(value):
            raise ValueError("must be an address such as https://cards.example.com")
        return value

    @field_validator("log_level")
    @classmethod
    def _a_log_level(cls, value: str) -> str:
        if value.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("secret_key")
    @classmethod
    def _a_strong_key(cls, value: SecretStr) -> SecretStr:
        problem = weakness(value.get_secret_value())
        if problem:
            raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _a_lease_longer_than_the_request(self) -> Settings:
        if self.lease <= self.token_deadline:
            raise ValueError("CARDKEY_LEASE must be longer than CARDKEY_TOKEN_DEADLINE")
        return self

    @property
    def redirect_url(self) -> str:
        """The one redirect URL of this installation, byte for byte as providers receive it."""
        return f"{self.public_url}/auth/provider/callback"

    @property
    def is_https(self) -> bool:
        """Whether people reach the portal over TLS, which decides cookie names and flags."""
        return self.public_url.startswith("https://")

    @property
    def sqlalchemy_url(self) -> str:
        """`database_url`, or the embedded default's SQLite file."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'cardkey.sqlite3'}"


def weakness(key: str) -> str:
    """Why `key` cannot sign cookies, in words; empty when it can."""
    if not key:
        return 'is missing; make one with: python3 -c "import secrets; print(secrets.token_urlsafe(48))"'
    if len(key) < MINIMUM_SECRET_LENGTH:
        return f"is too short: {MINIMUM_SECRET_LENGTH} characters or more are needed"
    if len(set(key)) < 10 or re.fullmatch(r"(.{1,8})\1+", key):
        return "repeats itself; it has to be random"
    if any(word in key.lower() for word in SAMPLE_WORDS):
        return "looks like a sample value; it has to be random"
    return ""


def _is_base_address(value: str) -> bool:
    """Whether `value` can stand before a path: scheme, host, port, nothing a browser would read differently."""
    if not value.isascii() or any(ord(char) < 33 or char in '\\"<>?#@' for char in value):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def load(**overrides: Any) -> Settings:
    """Settings from the environment. Raises SettingsProblem with one plain sentence."""
    try:
        return Settings(_env_file=None, **overrides)  # type: ignore[call-arg]  # an argument of pydantic-settings
    except ValidationError as error:
        raise SettingsProblem(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """The first finding as a sentence; the offending value is left out since it may be a secret."""
    first = error.errors(include_input=False, include_url=False)[0]
    words = str(first["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    words = words.partition(", unable to parse")[0]
    if not first["loc"]:
        return f"{words}."
    return f"CARDKEY_{str(first['loc'][0]).upper()} {words[:1].lower() + words[1:]}."

"""What the rehearsal provider remembers: clients, people, codes, tokens. What a person gave outlives a restart."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rehearsal.shelves import Shelf, Store

CODE_SECONDS = 60
LIFETIME = 3600.0
"""Seconds an access token lives unless somebody has changed it."""
TIDIED_EVERY = 500
"""Access tokens that are added until the expired ones are thrown away."""
SCOPES = ("orders.read", "customers.read", "offline_access")
AUDIENCE = "https://orders.rehearsal.example"
PEOPLE = {"sam@rehearsal.example": "practice", "kim@rehearsal.example": "practice"}


@dataclass(frozen=True)
class Client:
    """A registered client (RFC 6749 §2)."""

    client_id: str
    secret: str
    name: str
    grant_types: frozenset[str]


CLIENTS = {
    client.client_id: client
    for client in (
        Client(
            "rehearsal-code",
            "practice-secret-code",
            "Cardkey (a person signs in)",
            frozenset({"authorization_code", "refresh_token"}),
        ),
        Client(
            "rehearsal-machine",
            "practice-secret-machine",
            "Cardkey (client credentials)",
            frozenset({"client_credentials"}),
        ),
    )
}


@dataclass(frozen=True)
class Code:
    """An authorization code, good once."""

    client_id: str
    redirect_uri: str
    scope: str
    person: str
    challenge: str
    expires: float
    family: str
    used: bool = False


@dataclass(frozen=True)
class Token:
    """An access or refresh token; tokens of one consent share a family."""

    client_id: str
    scope: str
    person: str
    family: str
    expires: float
    audience: str = ""
    used: bool = False
    """A refresh token that was rotated away; coming back it kills its family."""


class State:
    """Everything, under one lock. What is on the shelves is changed inside of `change` and outlives a restart.

    Codes, tokens and sessions are found by their `digest`: what is kept gives nobody a token.
    """

    codes: Shelf[Code]
    access: Shelf[Token]
    refresh: Shelf[Token]
    dead_families: Shelf[float]
    """Families whose tokens are good no more, and since when."""
    sessions: Shelf[str]
    settings: Shelf[float]
    behaviours: Shelf[str]
    """What is switched on, by endpoint."""

    def __init__(self, issuer: str, store: Store | None = None, *, auto_consent: bool = False) -> None:
        """Remember what is in `store`, and throw away what is over. Raises shelves.Unreadable."""
        self.issuer, self.auto_consent = issuer, auto_consent
        self.lock = threading.RLock()
        self.counts: Counter[str] = Counter()
        self.events: list[tuple[float, str]] = []
        self._store = store or Store()
        self._take_out()
        with self.change():
            self._tidy()

    @property
    def lifetime(self) -> float:
        """Seconds an access token lives."""
        return self.settings.get("lifetime", LIFETIME)

    @lifetime.setter
    def lifetime(self, seconds: float) -> None:
        self.settings["lifetime"] = seconds

    @contextmanager
    def change(self) -> Iterator[None]:
        """For whoever changes something: alone, and on disk before anybody is answered.

        What ends with an exception, such as that of a full disk, has not happened.
        """
        with self.lock:
            written = False
            try:
                with self._store.whole():
                    yield
                written = True
            finally:
                if not written:
                    self._take_out()

    def switched(self, endpoint: str) -> tuple[str, str]:
        """Name and argument of the oddity that is switched on for an endpoint; both empty when none is."""
        name, _, argument = self.behaviours.get(endpoint, "").partition(":")
        return name, argument

    def note(self, event: str, words: str = "") -> None:
        """Count something and remember it for the start page; never a token itself."""
        self.counts[event] += 1
        self.events = [*self.events[-49:], (time.time(), words or event.replace("_", " "))]

    def new_code(self, client_id: str, redirect_uri: str, scope: str, person: str, challenge: str) -> str:
        """A fresh code for a consent."""
        value = secrets.token_urlsafe(32)
        made = Code(client_id, redirect_uri, scope, person, challenge, time.time() + CODE_SECONDS, secrets.token_hex(8))
        self.codes[digest(value)] = made
        return value

    def issue(
        self, client_id: str, scope: str, person: str, family: str, audience: str, renewable: bool
    ) -> dict[str, object]:
        """A token reply (RFC 6749 §5.1)."""
        if len(self.access) % TIDIED_EVERY == TIDIED_EVERY - 1:
            self._tidy()
        access = f"at_{secrets.token_urlsafe(32)}"
        self.access[digest(access)] = Token(client_id, scope, person, family, time.time() + self.lifetime, audience)
        lifetime = int(self.lifetime) if self.lifetime == int(self.lifetime) else self.lifetime
        reply: dict[str, object] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "scope": scope,
        }
        if renewable:
            refresh = f"rt_{secrets.token_urlsafe(32)}"
            self.refresh[digest(refresh)] = Token(client_id, scope, person, family, float("inf"))
            reply["refresh_token"] = refresh
        return reply

    def alive(self, token: Token | None) -> bool:
        """Whether a token can be used."""
        return token is not None and token.expires > time.time() and token.family not in self.dead_families

    def end(self, *families: str) -> None:
        """Let every token of these authorizations be good no more."""
        for family in families:
            self.dead_families[family] = time.time()

    def end_all(self) -> int:
        """The same for whatever was authorized so far; returns how many authorizations that ended."""
        living = {token.family for token in (*self.access.values(), *self.refresh.values()) if self.alive(token)}
        self.end(*living)
        return len(living)

    def reset(self) -> None:
        """Forget everything but the settings."""
        for shelf in (self.codes, self.access, self.refresh, self.dead_families, self.sessions, self.behaviours):
            shelf.clear()
        self.counts.clear()
        self.events = []

    def _take_out(self) -> None:
        """Everything on the shelves, as it is on disk."""
        self.codes = Shelf(self._store, "codes", Code)
        self.access = Shelf(self._store, "access", Token)
        self.refresh = Shelf(self._store, "refresh", Token)
        self.dead_families = Shelf(self._store, "dead_families", float)
        self.sessions = Shelf(self._store, "sessions", str)
        self.settings = Shelf(self._store, "settings", float)
        self.behaviours = Shelf(self._store, "behaviours", str)

    def _tidy(self) -> None:
        """Throw away what can be used no more: expired, or of an authorization that has ended."""
        now = time.time()
        kept: tuple[Shelf[Code] | Shelf[Token], ...] = (self.codes, self.access, self.refresh)
        for shelf in kept:
            over = [key for key, row in shelf.items() if row.expires < now or row.family in self.dead_families]
            for key in over:
                del shelf[key]


def digest(value: str) -> str:
    """By which a code, a token or a session is found."""
    return hashlib.sha256(value.encode()).hexdigest()

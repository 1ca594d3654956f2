"""What the rehearsal provider remembers: clients, people, codes, tokens. In memory; a restart forgets it."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

CODE_SECONDS = 60
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


@dataclass
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


@dataclass
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


@dataclass
class State:
    """Everything, under one lock. `lifetime` in seconds; `behaviours` maps an endpoint to its switched-on oddity."""

    issuer: str
    lifetime: float = 3600.0
    auto_consent: bool = False
    behaviours: dict[str, str] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    codes: dict[str, Code] = field(default_factory=dict)
    access: dict[str, Token] = field(default_factory=dict)
    refresh: dict[str, Token] = field(default_factory=dict)
    dead_families: set[str] = field(default_factory=set)
    sessions: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    events: list[tuple[float, str]] = field(default_factory=list)

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
        expires = time.time() + CODE_SECONDS
        self.codes[value] = Code(client_id, redirect_uri, scope, person, challenge, expires, secrets.token_hex(8))
        return value

    def issue(
        self, client_id: str, scope: str, person: str, family: str, audience: str, renewable: bool
    ) -> dict[str, object]:
        """A token reply (RFC 6749 §5.1)."""
        access = f"at_{secrets.token_urlsafe(32)}"
        self.access[access] = Token(client_id, scope, person, family, time.time() + self.lifetime, audience)
        lifetime = int(self.lifetime) if self.lifetime == int(self.lifetime) else self.lifetime
        reply: dict[str, object] = {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "scope": scope,
        }
        if renewable:
            refresh = f"rt_{secrets.token_urlsafe(32)}"
            self.refresh[refresh] = Token(client_id, scope, person, family, float("inf"))
            reply["refresh_token"] = refresh
        return reply

    def alive(self, token: Token | None) -> bool:
        """Whether a token can be used."""
        return token is not None and token.expires > time.time() and token.family not in self.dead_families

    def reset(self) -> None:
        """Forget everything but the settings."""
        for store in (self.codes, self.access, self.refresh, self.dead_families, self.sessions, self.counts):
            store.clear()
        self.events, self.behaviours = [], {}


def fingerprint(value: str) -> str:
    """A few characters by which to recognise a token on the start page."""
    return hashlib.sha256(value.encode()).hexdigest()[:8]

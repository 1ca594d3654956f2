"""What a provider knows: every grant, its live refresh token, and what became of each use. Knows no network."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

CLIENT_SECRET = "a secret of the fault harness"
HOSTS = 120
"""Loopback addresses the provider listens on, each a host of its own to the product."""
COPIES = 5
"""Hosts of each case of a reply; times four modes, each case is played to twenty connections at once."""
GRACE_SECONDS = 30.0
"""For how long a replaced token goes on working in `GRACE`."""


class Mode(StrEnum):
    """What a provider does with refresh tokens; each is a client of its own."""

    STRICT = "rotate-strict"
    """A second use of a replaced token ends the whole grant."""
    REJECT = "rotate-reject"
    """A replaced token is turned down, and nothing else happens."""
    GRACE = "rotate-grace"
    """A replaced token works a while longer."""
    STATIC = "static"
    """Never replaced."""
    SOMETIMES = "rotate-sometimes"
    """Replaced at every second refresh; a replaced one is turned down."""

    @property
    def forgives(self) -> bool:
        """Whether a reply that got lost costs nothing."""
        return self in (Mode.GRACE, Mode.STATIC)


@dataclass
class Grant:
    """One person's consent."""

    number: int
    mode: Mode
    token: str = ""
    access: str = ""
    replaced: dict[str, float] = field(default_factory=dict)
    """Earlier tokens, and when each was replaced."""
    ended: str = ""
    """Why it is no longer alive; empty while it is."""
    uses: Counter[str] = field(default_factory=Counter)
    """How often each refresh token was sent."""
    codes: Counter[str] = field(default_factory=Counter)
    """How often each authorization code was sent."""
    refused: int = 0
    issued: int = 0
    hits: list[float] = field(default_factory=list)
    """When requests for it arrived."""
    acted: float = 0.0
    """When the last request was acted on."""
    replied: float = 0.0
    """When the last byte of the last reply was given to the system."""

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Somebody consented again: a new family, nothing held against us."""
        self.token, self.access = self._new("rt"), self._new("at")
        self.replaced, self.ended, self.refused = {}, "", 0

    def use(self, token: str) -> bool:
        """A refresh token is sent; whether new tokens are to be given."""
        self.uses[token] += 1
        self.acted = time.time()
        if not self.ended and self._takes(token):
            self._issue()
            return True
        self.refused += 1
        if not self.ended and self.mode is Mode.STRICT and token in self.replaced:
            self.ended = "reuse"
        return False

    def redeem(self, code: str) -> bool:
        """An authorization code is sent: a new family of tokens. A second time ends the grant (RFC 6749 §4.1.2)."""
        self.codes[code] += 1
        if self.codes[code] > 1:
            self.ended = "code reuse"
            return False
        self.renew()
        return True

    def verdict(self, token: str) -> str:
        """What the next use of `token` would meet: empty when it is the live token of a living grant."""
        if self.ended:
            return f"grant ended: {self.ended}"
        return "" if token == self.token else "not the live token"

    def _takes(self, token: str) -> bool:
        if token == self.token:
            return True
        forgiven = self.mode is Mode.GRACE and time.time() - self.replaced.get(token, 0.0) < GRACE_SECONDS
        return forgiven and token in self.replaced

    def _issue(self) -> None:
        self.access = self._new("at")
        self.issued += 1
        rotates = self.mode is not Mode.STATIC
        if self.mode is Mode.SOMETIMES:
            rotates = self.issued % 2 == 0
        if rotates:
            self.replaced[self.token] = time.time()
            self.token = self._new("rt")

    def _new(self, kind: str) -> str:
        return f"{kind}.{self.number}.{secrets.token_hex(12)}"


class Ledger:
    """All grants of one provider."""

    def __init__(self) -> None:
        """Empty."""
        self.grants: list[Grant] = []

    def add(self, mode: Mode, count: int) -> list[Grant]:
        """New consents."""
        start = len(self.grants)
        self.grants += [Grant(start + place, mode) for place in range(count)]
        return self.grants[start:]

    def of_token(self, token: str) -> Grant | None:
        """The grant a token of either kind belongs to."""
        parts = token.split(".")
        if len(parts) != 3 or not parts[1].isdecimal() or int(parts[1]) >= len(self.grants):
            return None
        return self.grants[int(parts[1])]

    def record(self, numbers: list[int]) -> list[dict[str, Any]]:
        """What is known of some grants, as plain values."""
        return [self._plain(self.grants[number]) for number in numbers]

    @staticmethod
    def _plain(grant: Grant) -> dict[str, Any]:
        return {
            "number": grant.number,
            "token": grant.token,
            "access": grant.access,
            "ended": grant.ended,
            "refused": grant.refused,
            "hits": len(grant.hits),
            "last_hit": grant.hits[-1] if grant.hits else 0.0,
            "most_uses": max(grant.uses.values(), default=0) if grant.mode is not Mode.STATIC else 0,
            "codes": sum(grant.codes.values()),
            "acted": grant.acted,
            "replied": grant.replied,
        }

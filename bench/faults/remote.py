"""The harness' hand on the provider."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from bench.faults.ledger import Mode
from bench.remote import Server


class Remote(Server):
    """The provider in its own process; every verb of its `Control` is a method here."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it listens."""
        super().__init__("bench.faults.provider", folder / "provider.sock")
        self.port = int(self.said)

    def add(self, mode: Mode, count: int) -> list[dict[str, Any]]:
        """New grants: number, token, access."""
        found: list[dict[str, Any]] = self.ask("add", mode=mode.value, count=count)
        return found

    def record(self, numbers: list[int]) -> dict[int, dict[str, Any]]:
        """The truth about some grants."""
        return {entry["number"]: entry for entry in self.ask("record", numbers=numbers)}

    def judge(self, stored: dict[int, str]) -> dict[int, str]:
        """Which stored tokens the provider would turn down, and why."""
        pairs = list(stored.items())
        verdicts = self.ask("judge", pairs=pairs)
        return {number: verdict for (number, _), verdict in zip(pairs, verdicts, strict=True) if verdict}

    def hold(self, phase: str) -> None:
        """Hold every request that comes to a phase."""
        self.ask("hold", phase=phase)

    def wait_held(self, count: int, seconds: float) -> list[int]:
        """Which grants' requests are held, when so many are or so long has passed."""
        held: list[int] = self.ask("wait_held", count=count, seconds=seconds)
        return held

    def release(self, *, drop: bool = False, replies: int = 0) -> float:
        """Let go or close what is held, after which so many replies are waited for; when the last was sent."""
        return float(self.ask("release", drop=drop, replies=replies))

    def hits(self, numbers: list[int]) -> dict[int, list[float]]:
        """When requests for each grant arrived."""
        return dict(zip(numbers, self.ask("hits", numbers=numbers), strict=True))

    def stand(self) -> dict[str, Any]:
        """Counts of everything."""
        found: dict[str, Any] = self.ask("stand")
        return found

    def wait_for_hits(self, count: int, seconds: float) -> int:
        """Wait until so many requests have come; how many have."""
        until = time.monotonic() + seconds
        while (hits := int(self.stand()["hits"])) < count and time.monotonic() < until:
            time.sleep(0.02)
        return hits

    def wait_until_quiet(self, seconds: float) -> None:
        """Wait until no request is under way there, or so long."""
        until = time.monotonic() + seconds
        while self.stand()["in_flight"] and time.monotonic() < until:
            time.sleep(0.02)

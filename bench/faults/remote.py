"""The harness' hand on the provider: its process, and its control line."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from bench.faults.ledger import Mode
from bench.installation import ROOT

START_SECONDS = 20.0


class Remote:
    """The provider in its own process; every verb of its `Control` is a method here."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it listens."""
        path = str(folder / "provider.sock")
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.faults.provider", path],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(path)
        self._file = self._line.makefile("rwb")

    def ask(self, do: str, **wishes: Any) -> Any:
        """Any verb by its name."""
        with self._lock:
            self._file.write(json.dumps({"do": do, **wishes}).encode() + b"\n")
            self._file.flush()
            return json.loads(self._file.readline())

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

    def close(self) -> None:
        """End it."""
        self._file.close()
        self._line.close()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(START_SECONDS)
        self._process.stdout.close()

"""What a row of the matrix is, what a round of it gives, and how rounds add up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.stage import Stage

RESULTS = Path(__file__).resolve().parent.parent / "faults.json"


@dataclass
class Outcome:
    """One fault that happened, as one part of a row sees it."""

    part: str
    """What the figure is about: a mode, a case; empty when the row has one part only."""
    kept: bool
    """Whether the promise held."""
    grants: int = 1
    """How many were at risk."""
    lost: int = 0
    recovery: Sequence[float] = ()
    """Seconds from the fault until each grant was fresh again, or known to be lost."""
    note: str = ""
    """What went wrong, or a figure worth telling."""
    ran: bool = True
    """False: this machine cannot play it, and nothing is claimed."""


Run = Callable[[Stage, int, bool], Iterator[Outcome]]
"""`(stage, rounds, full)`: plays so many rounds, `full` with long outages at their real length."""


@dataclass(frozen=True)
class Row:
    """One line of the fault matrix."""

    name: str
    words: str
    promise: str
    run: Run
    rounds: int = 20
    quick: int = 2
    databases: Sequence[str] = ("sqlite", "postgresql")
    options: Mapping[str, Any] = field(default_factory=dict)
    """How its stage is set."""
    alone: bool = False
    """Whether no other row may be played beside it."""


ROWS: list[Row] = []


def row(name: str, words: str, promise: str, **more: Any) -> Callable[[Run], Run]:
    """Enter the function below into the matrix."""

    def enter(run: Run) -> Run:
        ROWS.append(Row(name, words, promise, run, **more))
        return run

    return enter


@dataclass
class Tally:
    """All rounds of one part of a row on one database."""

    row: Row
    part: str
    setup: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def entry(self) -> dict[str, Any]:
        """The figures as they are kept."""
        ran = [outcome for outcome in self.outcomes if outcome.ran]
        waits = sorted(wait for outcome in self.outcomes for wait in outcome.recovery)
        notes = sorted({outcome.note for outcome in self.outcomes if outcome.note})
        return {
            "name": f"{self.row.name} {self.part}".strip(),
            "words": self.row.words,
            "promise": self.row.promise,
            "tried": len(ran),
            "survived": sum(outcome.kept for outcome in ran),
            "rounds": sum(outcome.grants for outcome in self.outcomes),
            "lost": sum(outcome.lost for outcome in self.outcomes),
            "recovery_p99": round(percentile(waits, 0.99), 4) if waits else None,
            "setup": self.setup,
            "notes": notes[:20],
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def add_up(line: Row, kind: str, setup: str, outcomes: Iterable[Outcome]) -> list[Tally]:
    """Rounds sorted by part, in the order in which parts first came."""
    tallies: dict[str, Tally] = {}
    for outcome in outcomes:
        tally = tallies.setdefault(outcome.part, Tally(line, outcome.part, f"{kind}, {setup}"))
        tally.outcomes.append(outcome)
    return list(tallies.values())


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value below which so large a share lies."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def keep(entries: Sequence[dict[str, Any]], names: set[str], kind: str) -> None:
    """Put the figures of some rows on one database into the file, in place of older ones."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    rest = [
        entry for entry in kept if entry["name"].split()[0] not in names or not entry["setup"].startswith(f"{kind},")
    ]
    merged = sorted([*rest, *entries], key=lambda entry: (entry["name"][0], int(entry["name"].split()[0][1:])))
    RESULTS.write_text(json.dumps(merged, indent=1) + "\n")

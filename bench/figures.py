"""What a figure is, the goal it has, and the file figures are kept in."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results.json"


@dataclass(frozen=True)
class Goal:
    """What a ratio, or a value that has no reference, is to reach."""

    at_least: float | None = None
    at_most: float | None = None

    def holds(self, number: float) -> bool:
        """Whether `number` reaches it."""
        return (self.at_least is None or number >= self.at_least) and (self.at_most is None or number <= self.at_most)

    def __str__(self) -> str:
        bounds = [("≥", self.at_least), ("≤", self.at_most)]
        return " ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None) or "reported"


REPORTED = Goal()


@dataclass
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    setup: str
    goal: Goal = REPORTED
    reference: str = ""
    reference_value: float | None = None
    ratio: float | None = None
    spread: tuple[float, float] | None = None
    """Least and greatest ratio of the rounds."""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def judged(self) -> float:
        """What the goal is about."""
        return self.value if self.ratio is None else self.ratio

    @property
    def holds(self) -> bool:
        """Whether the goal is reached."""
        return self.goal.holds(self.judged)

    def entry(self) -> dict[str, Any]:
        """As it is kept."""
        return {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "reference": self.reference,
            "reference_value": rounded(self.reference_value),
            "ratio": rounded(self.ratio),
            "setup": self.setup,
            "goal": str(self.goal),
            "holds": self.holds,
            "spread": [rounded(bound) for bound in self.spread] if self.spread else None,
            "notes": self.notes,
            "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }


def compare(
    name: str,
    unit: str,
    setup: str,
    goal: Goal,
    ours: Sequence[float],
    reference: str,
    theirs: Sequence[float],
    **notes: Any,
) -> Figure:
    """A figure from interleaved rounds: medians, and the ratio of each round for the spread."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return Figure(
        name,
        statistics.median(ours),
        unit,
        setup,
        goal,
        reference,
        statistics.median(theirs),
        statistics.median(ratios),
        (min(ratios), max(ratios)),
        notes,
    )


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    only: tuple[str, ...] = ()
    quick: bool = False
    rounds: int = 5
    seconds: float = 620.0
    """Of each run against the clock, warmed up."""

    def wants(self, name: str) -> bool:
        """Whether a figure is asked for, by name or by how its name begins."""
        return not self.only or any(name.startswith(wish) for wish in self.only)


Measure = Callable[[Wanted], Iterator[Figure]]


@dataclass(frozen=True)
class Part:
    """A measurement that gives one figure or several."""

    names: tuple[str, ...]
    run: Measure
    long: bool = False
    """Left out of quick runs unless asked for by name."""

    def is_wanted(self, wanted: Wanted) -> bool:
        """Whether any of its figures is asked for."""
        if self.long and wanted.quick and not wanted.only:
            return False
        return any(wanted.wants(name) for name in self.names)


def rounded(number: float | None) -> float | None:
    """Four digits that count."""
    return None if number is None else float(f"{number:.4g}")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which so large a share lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def keep(figures: Sequence[Figure], path: Path = RESULTS) -> None:
    """Put figures into the file in place of older ones of the same name."""
    names = {figure.name for figure in figures}
    kept = json.loads(path.read_text()) if path.exists() else []
    entries = [entry for entry in kept if entry["name"] not in names] + [figure.entry() for figure in figures]
    path.write_text(json.dumps(sorted(entries, key=lambda entry: entry["name"]), indent=1, ensure_ascii=False) + "\n")


def markdown(path: Path = RESULTS) -> str:
    """The kept figures as the table that stands in docs/performance.md."""
    lines = ["| figure | value | ÷ reference | ratio (rounds) | goal | |", "|---|---|---|---|---|---|"]
    for entry in json.loads(path.read_text()):
        spread = " ({:g} … {:g})".format(*entry["spread"]) if entry["spread"] else ""
        number = "" if entry["reference_value"] is None else f"{entry['reference_value']:g}: "
        reference = number + entry["reference"]
        ratio = f"**{entry['ratio']:g}**{spread}" if entry["ratio"] is not None else ""
        value = f"{entry['value']:g} {entry['unit']}"
        held = "" if entry["goal"] == "reported" else "yes" if entry["holds"] else "**no**"
        lines.append(f"| `{entry['name']}` | {value} | {reference} | {ratio} | {entry['goal']} | {held} |")
    return "\n".join(lines)

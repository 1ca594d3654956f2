"""`python -m bench.faults`: play the fault matrix, print what was survived, and fail when a promise was broken."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from bench.faults import crowds, kills, operation, outages, replies, slow
from bench.faults.rows import RESULTS, ROWS, Outcome, Row, add_up, keep
from bench.faults.stage import EVERYBODY, Stage
from bench.installation import NotPermitted

SUBJECTS = (kills, outages, crowds, replies, slow, operation)
"""Imported so that their rows are entered."""
QUICK_SHARE = 0.5
"""Share of the grants that play in `--quick`."""
LINE = "  {name:<46} {survived:>12} {lost:>16} {recovery:>9}   {setup}"


def main() -> int:
    """Play what was asked for; returns the exit status."""
    wanted = arguments()
    print(
        LINE.format(
            name="row",
            survived="survived",
            lost="lost of grants",
            recovery="p99 (s)",
            setup="database, grants, workers",
        )
    )
    broken = 0
    for line in chosen(wanted.only):
        print(f"{line.name} {line.words}: {line.promise}", flush=True)
        for kind in [kind for kind in line.databases if kind in wanted.databases]:
            entries = [tally.entry for tally in play(line, kind, wanted)]
            keep(entries, {line.name}, kind)
            for entry in entries:
                show(entry)
            broken += sum(entry["survived"] < entry["tried"] for entry in entries)
    print(f"\nFigures are in {RESULTS}.", f"{broken} promises were BROKEN." if broken else "Every promise was kept.")
    return 1 if broken else 0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--only", default="", help="rows, such as F2,F7")
    parser.add_argument("--quick", action="store_true", help="a few rounds of each row")
    parser.add_argument("--full", action="store_true", help="long outages at their real length as well")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each row, instead of its own number")
    parser.add_argument("--databases", default="sqlite,postgresql", type=lambda text: text.split(","))
    return parser.parse_args()


def chosen(only: str) -> Sequence[Row]:
    """The rows to play, in order."""
    names = {name.strip().upper() for name in only.split(",") if name.strip()}
    unknown = names - {line.name for line in ROWS}
    if unknown:
        sys.exit(f"There is no row {', '.join(sorted(unknown))}.")
    rows = [line for line in ROWS if not names or line.name in names]
    return sorted(rows, key=lambda line: (line.name[0], int(line.name[1:])))


def play(line: Row, kind: str, wanted: argparse.Namespace) -> Any:
    """All rounds of a row on one database."""
    rounds = wanted.rounds or (line.quick if wanted.quick else line.rounds)
    mix = line.options.get("mix", EVERYBODY)
    if wanted.quick:
        mix = {mode: max(1, int(count * QUICK_SHARE)) for mode, count in mix.items()}
    setup = f"{sum(mix.values()) or 'single'} grants, {line.options.get('workers', 2)} workers"
    return add_up(line, kind, setup, _rounds(line, kind, rounds, wanted.full, {**line.options, "mix": mix}))


def _rounds(line: Row, kind: str, rounds: int, full: bool, options: dict[str, Any]) -> Iterator[Outcome]:
    """The row's outcomes; a harness that stumbles counts as a promise not kept."""
    began = time.monotonic()
    try:
        with Stage(kind, **options) as stage:
            try:
                yield from line.run(stage, rounds, full)
            except Exception:
                print(stage.installation.said()[-3000:], file=sys.stderr)
                raise
    except NotPermitted as problem:
        yield Outcome("", kept=False, grants=0, note=f"NOT RUN: {problem}", ran=False)
    except Exception as problem:  # noqa: BLE001  # told as what it is, and the other rows go on
        traceback.print_exc()
        yield Outcome("harness", kept=False, grants=0, note=f"the harness stumbled: {problem!r}"[:300])
    print(f"# {line.name} on {kind}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def show(entry: dict[str, Any]) -> None:
    """One line of the table, and below it what went wrong."""
    p99 = entry["recovery_p99"]
    print(
        LINE.format(
            name=entry["name"],
            survived=f"{entry['survived']} of {entry['tried']}",
            lost=f"{entry['lost']} of {entry['rounds']}",
            recovery="-" if p99 is None else f"{p99:.2f}",
            setup=entry["setup"],
        ),
        flush=True,
    )
    for note in entry["notes"]:
        print(f"    {note}")


if __name__ == "__main__":
    sys.exit(main())

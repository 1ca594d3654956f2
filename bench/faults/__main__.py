"""`python -m bench.faults`: play the fault matrix, print what was survived, and fail when a promise was broken."""

from __future__ import annotations

import argparse
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any

from bench.faults import crowds, kills, operation, outages, replies, slow
from bench.faults.rows import RESULTS, ROWS, Outcome, Row, add_up, keep
from bench.faults.stage import EVERYBODY, Stage
from bench.installation import NotPermitted

SUBJECTS = (kills, outages, crowds, replies, slow, operation)
"""Imported so that their rows are entered."""
DATABASES = ("sqlite", "postgresql")
QUICK_SHARE, QUICK_MOST = 0.5, 300
"""Share of the grants that play in `--quick`, and how many of a mode at most."""
LINE = "  {name:<46} {survived:>12} {lost:>16} {recovery:>9}   {setup}"
Entries = list[dict[str, Any]]


def main() -> int:
    """Play what was asked for; returns the exit status."""
    wanted, stop = arguments(), threading.Event()
    jobs = [(line, kind) for line in chosen(wanted.only) for kind in databases(line, wanted)]
    title = {"name": "row", "survived": "survived", "lost": "lost of grants", "recovery": "p99 (s)"}
    print(LINE.format(**title, setup="database, grants, workers"), flush=True)
    broken = 0
    for alone in (False, True):
        with ThreadPoolExecutor(1 if alone else wanted.lanes) as lanes:
            under_way = {lanes.submit(play, *job, wanted, stop): job for job in jobs if job[0].alone is alone}
            try:
                for ended in as_completed(under_way):
                    broken += finish(*under_way[ended], ended)
            except KeyboardInterrupt:
                print("Stopping: the rows under way are taken down. What is finished is kept.", file=sys.stderr)
                stop.set()
    words = f"{broken} promises were BROKEN." if broken else "Every promise that was tried was kept."
    print(f"\nFigures are in {RESULTS}. {'Stopped before the end: not every row was played. ' * stop.is_set()}{words}")
    return 1 if broken or stop.is_set() else 0


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--only", default="", help="rows, such as F2,F7")
    parser.add_argument("--quick", action="store_true", help="a few rounds of each row, on one database")
    parser.add_argument("--full", action="store_true", help="long outages at their real length as well")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of each row, instead of its own number")
    parser.add_argument("--databases", default="", help="sqlite, postgresql or both, separated by a comma")
    parser.add_argument("--lanes", type=int, default=3, help="rows played at the same time")
    return parser.parse_args()


def chosen(only: str) -> Sequence[Row]:
    """The rows to play, in order."""
    names = {name.strip().upper() for name in only.split(",") if name.strip()}
    unknown = names - {line.name for line in ROWS}
    if unknown:
        sys.exit(f"There is no row {', '.join(sorted(unknown))}.")
    rows = [line for line in ROWS if not names or line.name in names]
    return sorted(rows, key=lambda line: (line.name[0], int(line.name[1:])))


def databases(line: Row, wanted: argparse.Namespace) -> Sequence[str]:
    """On which databases a row is played."""
    asked = [name.strip() for name in wanted.databases.split(",") if name.strip()]
    kinds = [kind for kind in line.databases if kind in (asked or DATABASES)]
    return kinds[:1] if wanted.quick and not asked else kinds


def play(line: Row, kind: str, wanted: argparse.Namespace, stop: threading.Event) -> Entries:
    """All rounds of a row on one database."""
    if stop.is_set():
        return []
    rounds = wanted.rounds or (line.quick if wanted.quick else line.rounds)
    mix = line.options.get("mix", EVERYBODY)
    if wanted.quick:
        mix = {mode: max(1, min(QUICK_MOST, int(count * QUICK_SHARE))) for mode, count in mix.items()}
    setup = f"{sum(mix.values()) or 'single'} grants, {line.options.get('workers', 2)} workers"
    options = {**line.options, "mix": mix}
    outcomes = []
    for outcome in _rounds(line, kind, rounds, wanted.full, options):
        outcomes.append(outcome)
        if stop.is_set():
            break
    return [tally.entry for tally in add_up(line, kind, setup, outcomes)]


def _rounds(line: Row, kind: str, rounds: int, full: bool, options: dict[str, Any]) -> Iterator[Outcome]:
    """The row's outcomes; a harness that stumbles counts as a promise not kept."""
    began = time.monotonic()
    try:
        with Stage(kind, **options) as stage:
            try:
                yield from line.run(stage, rounds, full)
            except (NotPermitted, GeneratorExit):
                raise
            except Exception:
                print(stage.installation.said()[-3000:], file=sys.stderr)
                raise
    except NotPermitted as problem:
        yield Outcome("", kept=False, grants=0, note=f"NOT RUN: {problem}", ran=False)
    except Exception as problem:  # noqa: BLE001  # told as what it is, and the other rows go on
        traceback.print_exc()
        yield Outcome("harness", kept=False, grants=0, note=f"the harness stumbled: {problem!r}"[:300])
    print(f"# {line.name} on {kind}: {time.monotonic() - began:.0f} s", file=sys.stderr)


def finish(line: Row, kind: str, ended: Future[Entries]) -> int:
    """Keep and print the figures of a row; returns how many of its promises were broken."""
    entries = ended.result()
    if not entries:
        return 0
    keep(entries, {line.name}, kind)
    print(f"{line.name} {line.words}: {line.promise}")
    for entry in entries:
        show(entry)
    return sum(entry["survived"] < entry["tried"] for entry in entries)


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
        print(f"    {note}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

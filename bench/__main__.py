"""`python -m bench`: measure, print the table of ratios with their goals, and fail when a promise was broken."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Sequence

from bench import clock, costs, pages, peek, rates
from bench.arena import Broken
from bench.figures import RESULTS, Figure, Part, Wanted, keep, markdown

LINE = "{name:<32} {value:>10} {unit:<18} {reference:>10} {ratio:>8} {goal:>9}  {holds:<4} {spread}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; returns the exit status."""
    given = read(arguments)
    if given.show:
        print(markdown())
        return 0
    wanted = Wanted(tuple(filter(None, given.only.split(","))), given.quick, given.rounds, given.seconds)
    parts = [part for part in all_parts() if part.is_wanted(wanted)]
    if not parts:
        sys.exit(
            "There is no such figure. There are: " + ", ".join(name for part in all_parts() for name in part.names)
        )
    print(f"# {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    heads = "name value unit reference ratio goal holds spread".split()
    print(LINE.format(**dict(zip(heads, heads, strict=True)) | {"holds": "ok?", "spread": "ratios of the rounds"}))
    missed, broken = [], []
    for part in parts:
        try:
            figures = measure(part, wanted)
        except (Broken, TimeoutError) as problem:
            traceback.print_exc()
            broken.append(f"{', '.join(part.names)}: {problem}".splitlines()[0])
            continue
        keep(figures)
        missed += [figure.name for figure in figures if not figure.holds]
    print(f"\nFigures are in {RESULTS.relative_to(RESULTS.parents[1])}.")
    for words, names in (("Goals missed", missed), ("BROKEN PROMISES", broken)):
        if names:
            print(f"{words}: {'; '.join(names)}")
    return 1 if missed or broken else 0


def read(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help="figures by the beginning of their names, such as rate-bare,cpu")
    parser.add_argument("--quick", action="store_true", help="short rounds, and no run against the clock")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=Wanted.seconds, help="of each run against the clock")
    parser.add_argument("--show", action="store_true", help="measure nothing; print the kept figures for the documents")
    return parser.parse_args(arguments)


def all_parts() -> list[Part]:
    """Every measurement, in the order in which they are made."""
    return [part for module in (rates, peek, pages, costs, clock) for part in module.parts()]


def measure(part: Part, wanted: Wanted) -> list[Figure]:
    """A part's figures that were asked for, each printed as it comes."""
    began, figures = time.monotonic(), []
    for figure in part.run(wanted):
        if wanted.wants(figure.name):
            show(figure)
            figures.append(figure)
    print(f"# {time.monotonic() - began:.0f} s", file=sys.stderr)
    return figures


def show(figure: Figure) -> None:
    """A line of the table; what it was compared with stands in the file."""
    spread = f"{figure.spread[0]:.3g} … {figure.spread[1]:.3g}" if figure.spread else ""
    print(
        LINE.format(
            name=figure.name,
            value=f"{figure.value:,.4g}",
            unit=figure.unit,
            reference="" if figure.reference_value is None else f"{figure.reference_value:,.4g}",
            ratio="" if figure.ratio is None else f"{figure.ratio:.3g}",
            goal=str(figure.goal),
            holds="yes" if figure.holds else "NO",
            spread=spread,
        ),
        flush=True,
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended."))  # so that all that was started is ended as well
    sys.exit(main())

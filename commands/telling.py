"""What `flask tokens refresh` says while refreshes go on, and at their end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence

import click

from commands.console import Report
from models import BulkRefresh
from services.operating import heartbeats, progress
from services.operating.progress import ItemState, Result
from services.resources import Resources

TOLD = 20
"""Connections named one by one in the words of a report; scripts get all of them."""
NOBODY = (
    "No worker and no scheduler has been heard of for 30 seconds: they are refreshed as soon as one runs. "
    "Start one with: flask scheduler"
)


class Telling:
    """Follows the bulk refreshes of one command; progress goes to standard error."""

    def __init__(self, resources: Resources) -> None:
        """Nothing has been started yet."""
        self.started: Sequence[BulkRefresh] = ()
        self._resources = resources
        self._said = ""

    def hear(self, started: Sequence[BulkRefresh], number: int) -> None:
        """Another part has been asked for."""
        self.started = started
        self._say(f"{number:,} connections looked at")

    def follow(self) -> None:
        """Tell how it goes until all is over, or at once if nobody is there to refresh."""
        while self._is_alive():
            standing = self._standing()
            total, counts = sum(one.total for one in standing), _sum(standing)
            self._say(f"{sum(one.done for one in standing):,} of {total:,} done{_parts(counts)}")
            if all(one.is_over for one in standing):
                return
            time.sleep(max(one.ask_again for one in standing) + len(standing) // 100)

    def interrupted(self) -> Report:
        """What goes on after Ctrl-C, and how to end that as well."""
        counts = _sum(self._standing())
        left = counts[ItemState.WAITING] + counts[ItemState.RUNNING]
        words = f"No longer followed. Nothing was cancelled: {left:,} connections are still to be refreshed, "
        words += "and workers and schedulers go on with that. To take back what has not been sent:\n"
        words += f"flask tokens cancel {' '.join(str(bulk.id) for bulk in self.started)}".rstrip()
        return Report(words, self._data(counts), ok=False)

    def ended(self, *, rung: bool) -> Report:
        """What came of it, with the first connections that failed or were left out by name."""
        counts = _sum(self._standing())
        total, skipped, failed = sum(counts.values()), counts[ItemState.SKIPPED], counts[ItemState.FAILED]
        left = counts[ItemState.WAITING] + counts[ItemState.RUNNING]
        recent = counts[ItemState.RECENT]
        lines = [f"{counts[ItemState.REFRESHED]:,} of {total:,} connections have been refreshed."]
        lines += [f"{recent:,} had been just before, so nothing was sent for them."] if recent else []
        if left:
            lines = [f"{left:,} of {total:,} connections are being refreshed."]
            lines += [] if self._is_alive() else [NOBODY]
            lines += [] if rung else ["Redis cannot be reached; the scheduler does it by itself, within seconds."]
        for state, words in ((ItemState.FAILED, "failed"), (ItemState.SKIPPED, "is left out")):
            lines += [f"{result.name} {words}. {result.words}" for result in self._results(state, TOLD)]
            lines += [f"… and {counts[state] - TOLD:,} more."] if counts[state] > TOLD else []
        return Report("\n".join(lines), self._data(counts), ok=not failed and (skipped < total or not total))

    def _data(self, counts: Counter[ItemState]) -> dict[str, object]:
        """For scripts."""
        named = {
            state.value: {str(result.connection_id): result.words for result in self._results(state)}
            for state in (ItemState.FAILED, ItemState.SKIPPED)
        }
        numbers = {state.value: counts[state] for state in ItemState if state.value not in named}
        return {**numbers, **named, "bulks": [bulk.id for bulk in self.started]}

    def _results(self, state: ItemState, most: int | None = None) -> Iterator[Result]:
        """Connections that stand like that, `most` of them or all."""
        number = 0
        with self._resources.database.session() as session:
            for result in progress.every(session, self.started, state):
                if number == most:
                    return
                number += 1
                yield result

    def _standing(self) -> list[progress.Progress]:
        with self._resources.database.session() as session:
            return [progress.progress(session, bulk) for bulk in self.started]

    def _is_alive(self) -> bool:
        with self._resources.database.session() as session:
            return bool(heartbeats.alive(session))

    def _say(self, words: str) -> None:
        if words != self._said:
            click.echo(words, err=True)
            self._said = words


def _sum(standing: Sequence[progress.Progress]) -> Counter[ItemState]:
    counts: Counter[ItemState] = Counter()
    for one in standing:
        counts.update(one.counts)
    return counts


def _parts(counts: Counter[ItemState]) -> str:
    over = (ItemState.REFRESHED, ItemState.RECENT, ItemState.FAILED, ItemState.SKIPPED, ItemState.CANCELLED)
    return "".join(f", {counts[state]:,} {state.shown.lower()}" for state in over if counts[state])

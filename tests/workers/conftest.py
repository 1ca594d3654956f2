"""Workers and schedulers as real processes, and a Valkey that can be killed."""

import tempfile
from pathlib import Path

import pytest

from tests.workers.parts import Process, Valkey


@pytest.fixture
def start(settings, tmp_path):
    """A starter of processes; what still runs at the end is killed."""
    started = []

    def starter(kind: str) -> Process:
        started.append(Process(kind, settings, tmp_path))
        return started[-1]

    yield starter
    for process in started:
        process.kill()
        print(f"--- {process.kind} {process.pid} said:\n{process.log}")  # noqa: T201  # shown when the test fails


@pytest.fixture
def valkey():
    """A Valkey of the test's own, running."""
    with tempfile.TemporaryDirectory(prefix="cardkey-vk-") as folder:
        server = Valkey(Path(folder))
        server.start()
        yield server
        server.kill()

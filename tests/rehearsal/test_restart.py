"""What the rehearsal provider has given outlives its end, however that comes: with real processes that are killed."""

import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from rehearsal.shelves import Store, Unreadable, set_aside
from rehearsal.state import State, digest
from tests.support import practice
from tests.support.provider import RemoteProvider

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "rehearsal.sqlite3"


@pytest.fixture
def start(kept, tmp_path):
    """Start one, on a port that stays the same; inside of the context it answers, at its end it is killed."""
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
    screen = tmp_path / "screen"
    command = [sys.executable, "-m", "rehearsal", "--port", str(port), "--auto-consent", "--keep", str(kept)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CARDKEY_")}

    @contextmanager
    def start():
        with screen.open("w") as file:
            process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=clean)
        try:
            until = time.monotonic() + 30
            while "answers on" not in screen.read_text() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.02)
            provider = RemoteProvider(f"http://localhost:{port}")
            provider.said = screen.read_text
            yield provider
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    return start


def test_grants_outlive_a_kill_at_every_step_and_what_has_ended_stays_so(start, kept):
    with start() as provider:
        practice.ask(f"{provider.url}/lifetime", {"lifetime": "900"})
        code = practice.authorize(provider)["code"]
    with start() as provider:
        status, first = practice.exchange(provider, code)
        assert (status, first["expires_in"]) == (200, 900)
    with start() as provider:
        assert practice.orders(provider, first["access_token"]) == 200
        assert practice.exchange(provider, "another")[0] == 400
        status, second = practice.refresh(provider, first["refresh_token"])
        assert status == 200
    with start() as provider:
        assert practice.orders(provider, second["access_token"]) == 200
        status, third = practice.refresh(provider, second["refresh_token"])
        assert status == 200
    with start() as provider:
        assert practice.refresh(provider, first["refresh_token"])[0] == 400, "it was used before"
    with start() as provider:
        assert practice.orders(provider, third["access_token"]) == 401
        status, reply = practice.refresh(provider, third["refresh_token"])
        assert (status, reply["error"]) == (400, "invalid_grant")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    content = kept.read_bytes()
    secrets = [code, *(reply[name] for reply in (first, second, third) for name in ("access_token", "refresh_token"))]
    assert [secret[:6] for secret in secrets if secret.encode() in content] == []


def test_a_file_nobody_can_read_is_set_aside_and_said_so(start, kept):
    kept.write_bytes(b"not a database, whatever its name says" * 100)
    with start() as provider:
        assert "cannot be read (file is not a database), so it begins anew" in provider.said()
        assert "need a new authorization" in provider.said()
        _status, reply = practice.exchange(provider, practice.authorize(provider)["code"])
    assert kept.with_suffix(".unreadable").read_bytes().startswith(b"not a database")
    with start() as provider:
        assert "begins anew" not in provider.said()
        assert practice.orders(provider, reply["access_token"]) == 200


def full(path):
    """A file with a grant in it; returns the refresh token."""
    state = State("", Store(path))
    with state.change():
        reply = state.issue("rehearsal-code", "orders.read", "sam", "a family", "", renewable=True)
    return reply["refresh_token"]


def execute(statement):
    def spoil(path):
        with sqlite3.connect(path) as line:
            line.execute(statement)

    return spoil


def cut(path):
    with path.open("r+b") as file:
        file.truncate(5000)


@pytest.mark.parametrize(
    "spoil",
    [
        cut,
        execute("PRAGMA user_version = 99"),
        execute("PRAGMA user_version = 0"),
        execute("""UPDATE kept SET value = '{"scope": '"""),
        execute("""UPDATE kept SET value = '{"scope": "orders.read"}'"""),
        execute("UPDATE kept SET value = CAST(x'ff00fe' AS TEXT)"),
        execute("ALTER TABLE kept RENAME TO kept_before"),
    ],
)
def test_damage_of_every_kind_is_noticed_at_the_start_and_the_next_file_is_a_new_one(kept, spoil):
    full(kept)
    spoil(kept)
    with pytest.raises(Unreadable):
        State("", Store(kept))
    set_aside(kept)
    token = full(kept)
    assert digest(token) in State("", Store(kept)).refresh


def test_a_file_that_is_only_in_use_is_left_alone(kept, monkeypatch):
    token = full(kept)
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, _real=sqlite3.connect, **more: _real(*args, timeout=0, **more)
    )
    with sqlite3.connect(kept, isolation_level=None) as line:
        line.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            Store(kept)
        line.execute("ROLLBACK")
    assert digest(token) in State("", Store(kept)).refresh


def test_what_cannot_be_written_has_not_happened(kept):
    token = full(kept)
    store = Store(kept)
    state = State("", store)
    store.whole().execute("PRAGMA query_only = 1")
    with pytest.raises(sqlite3.OperationalError), state.change():
        state.end("a family")
    assert state.alive(state.refresh[digest(token)])


def test_what_can_be_used_no_more_is_thrown_away_and_what_was_used_is_remembered(kept):
    state = State("", Store(kept))
    with state.change():
        state.lifetime = -1.0
        over = state.issue("rehearsal-code", "orders.read", "sam", "ended", "", renewable=True)
        good = state.issue("rehearsal-code", "orders.read", "sam", "going on", "", renewable=True)
        state.end("ended")
    again = State("", Store(kept))
    assert (len(again.access), list(again.refresh)) == (0, [digest(good["refresh_token"])])
    assert not again.alive(again.refresh.get(digest(over["refresh_token"])))

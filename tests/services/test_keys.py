"""Moving secrets to a new key while everything runs, and telling which key is needed for what."""

import base64
import json
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import func, select, update
from sqlmodel import col

from models import CardHeader, ClientSecret, ConnectionState
from models.database import Sealing
from services.engine import tokens
from services.operating import keys
from services.resources import Resources
from tests.workers.parts import environment

ROOT = Path(__file__).resolve().parents[2]
NEW = f"k2:{base64.b64encode(secrets.token_bytes(32)).decode()}"


@contextmanager
def ring(settings, text):
    """The same installation with another key ring, as after a restart."""
    opened = Resources.open(settings.model_copy(update={"encryption_keys": SecretStr(text)}))
    try:
        yield opened
    finally:
        opened.close()


def both(settings):
    """The new key first, the old one still there."""
    return f"{NEW},{settings.encryption_keys.get_secret_value()}"


def fill(world):
    """Secrets in several tables: a client secret, two tokens, a header."""
    connection = world.connection()
    world.authorize(connection, refresh_token="a refresh token", access_token="an access token")
    world.card(connection=connection, headers={"X-Key": "a header value"})
    return connection


def test_every_table_with_secrets_is_known():
    expected = {
        kind.__tablename__: {name for name in kind.model_fields if name.endswith("_sealed")}
        for kind in Sealing.__subclasses__()
    }
    known = {table.name: {column.name for column in columns} for table, columns in keys.sealed_columns()}
    assert known == {table: fields for table, fields in expected.items() if fields}


def test_after_a_rotation_the_old_key_is_not_needed_any_more(settings, world):
    connection = fill(world)
    with ring(settings, both(settings)) as after_restart:
        before = keys.check(after_restart)
        assert (before.current_id, dict(before.by_key), before.spare) == ("k2", {"k1": 4}, ())
        done = keys.rotate(after_restart)
        assert (done.moved, done.left, done.damaged) == (4, 0, [])
        assert keys.check(after_restart).spare == ("k1",)
        assert keys.rotate(after_restart).moved == 0
    with ring(settings, NEW) as without_the_old:
        assert dict(keys.check(without_the_old).by_key) == {"k2": 4}
        assert keys.check(without_the_old).damaged == []
        access = tokens.access(without_the_old, connection.workspace_id, connection.id)
        assert access.token.get_secret_value() == "an access token"


def test_a_damaged_secret_is_named_and_the_others_are_moved(settings, world, resources):
    fill(world)
    with resources.database.session(writing=True) as session:
        row = session.execute(select(ClientSecret.id, ClientSecret.value_sealed)).one()
        broken = row.value_sealed[:-1] + bytes([row.value_sealed[-1] ^ 1])
        session.execute(update(ClientSecret).values(value_sealed=broken))
        session.commit()
    with ring(settings, both(settings)) as after_restart:
        done = keys.rotate(after_restart)
        found = keys.check(after_restart)
    assert (done.moved, done.left) == (3, 0)
    for damaged in (done.damaged, found.damaged):
        assert [(one.table, one.row_id, one.field) for one in damaged] == [("client_secrets", row.id, "value")]
        assert damaged[0].reason == "a stored secret was altered or belongs to another row"
    assert dict(found.by_key) == {"k1": 1, "k2": 3}


def test_secrets_swapped_between_two_rows_and_those_without_a_key_are_found(settings, world, resources):
    first, second = world.connection(secret="one"), world.connection(secret="two")
    with resources.database.session(writing=True) as session:
        sealed = dict(session.execute(select(ClientSecret.connection_id, ClientSecret.value_sealed)).all())
        for connection, other in ((first, second), (second, first)):
            mine = update(ClientSecret).where(col(ClientSecret.connection_id) == connection.id)
            session.execute(mine.values(value_sealed=sealed[other.id]))
        session.commit()
    assert len(keys.check(resources).damaged) == 2
    with ring(settings, NEW) as without_the_old:
        reasons = {damage.reason for damage in keys.check(without_the_old).damaged}
        assert reasons == {"a stored secret needs the key 'k1', which is not in CARDKEY_ENCRYPTION_KEYS"}
        assert len(keys.rotate(without_the_old).damaged) == 2


def test_a_secret_written_during_the_rotation_is_kept(settings, world, resources):
    connection = fill(world)
    writing, rotated = threading.Event(), []
    with ring(settings, both(settings)) as after_restart:

        def rotate():
            writing.wait()
            rotated.append(keys.rotate(after_restart))

        thread = threading.Thread(target=rotate)
        thread.start()
        with resources.database.session(writing=True) as session:
            token = tokens.current_token(session, connection)
            session.refresh(token, with_for_update=True)
            token.seal("refresh_token", SecretStr("written meanwhile"), resources.database.keyring)
            session.add(token)
            session.flush()
            writing.set()
            thread.join(keys.PAUSE_SECONDS)  # ample for a rotation that does not mind what others write
            assert thread.is_alive()
            session.commit()
        thread.join(30)
    assert (rotated[0].moved, rotated[0].left) == (4, 0)
    with ring(settings, NEW) as without_the_old, without_the_old.database.session() as session:
        kept = tokens.current_token(session, connection).unseal("refresh_token", without_the_old.database.keyring)
        assert kept.get_secret_value() == "written meanwhile"


def moved(resources, key_id="k2"):
    """How many header values are under the new key."""
    start = bytes((1, len(key_id))) + key_id.encode()
    with resources.database.session() as session:
        query = select(func.count()).where(func.substr(CardHeader.value_sealed, 1, len(start)) == start)
        return session.execute(query).scalar_one()


def add_headers(world, number):
    """Many secrets, so that a rotation takes a while."""
    card = world.card()
    with world.resources.database.session(writing=True) as session:
        for place in range(number):
            header = CardHeader(workspace_id=card.workspace_id, card_id=card.id, position=place, name="X", secret=True)
            header.seal("value", SecretStr(f"value {place}"), world.resources.database.keyring)
            session.add(header)
        session.commit()


@contextmanager
def load(resources):
    """Refreshing whatever is due, again and again; ends with nothing under way."""
    over = threading.Event()

    def refresh():
        while not over.is_set():
            tokens.drain(resources, 1.0, stopping=over.is_set)
            over.wait(resources.settings.tick)

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.timeout(300)
def test_keys_rotate_under_load_and_through_three_kills(settings, world, resources, provider):
    provider.control(lifetime=2)
    connections = [world.connection() for _ in range(6)]
    for connection in connections:
        world.consent(connection, lifetime=2)
    add_headers(world, 4000)
    changed = settings.model_copy(update={"encryption_keys": SecretStr(both(settings))})
    command = [sys.executable, "-m", "flask", "--app", "app", "keys", "rotate", "--json"]
    rotation = {"args": command, "cwd": ROOT, "env": environment(changed)}
    with ring(changed, both(settings)) as after_restart, load(after_restart):
        for _ in range(3):
            before = moved(resources)
            process = subprocess.Popen(**rotation, stdout=subprocess.DEVNULL)
            while moved(resources) < before + 300:
                assert process.poll() is None
                time.sleep(0.02)
            process.kill()
            assert process.wait() == -signal.SIGKILL
            assert before < moved(resources) < 4000
        last = subprocess.run(**rotation, capture_output=True, text=True, check=False)
        assert json.loads(last.stdout)["ok"], last.stdout + last.stderr
    before = {connection.id: world.token(connection).generation for connection in connections}
    with ring(changed, NEW) as without_the_old:
        found = keys.check(without_the_old)
        assert (found.damaged, set(found.by_key)) == ([], {"k2"})
        world.make_due(*connections)
        tokens.drain(without_the_old, 10.0)
    for connection in connections:
        assert world.reread(connection).state is ConnectionState.ACTIVE
        assert world.token(connection).generation > before[connection.id] > 2
    assert provider.control()["dead_families"] == 0

"""The operator's commands: status 0 only when what was asked for happened, and one JSON object for scripts."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from commands import telling
from models import AuditEntry, Membership, Priority, Role, User, Workspace
from models.types import utc_now
from services.engine import tokens
from services.operating import heartbeats
from services.people import links, sign_in
from tests.workers.parts import until

PASSWORD = "a chair of cherry wood"


@pytest.fixture
def flask(app):
    """Types a command; returns its status, its words and, with `--json`, its object."""
    runner = app.test_cli_runner()

    def run(*arguments, stdin=""):
        done = runner.invoke(args=list(arguments), input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done

    return run


def data(done):
    """The one JSON object on standard output."""
    return json.loads(done.stdout)


def test_the_set_up_link_is_printed_only_while_nobody_can_sign_in(flask, settings):
    first, second = data(flask("setup", "--json"))["link"], flask("setup").stdout.strip()
    assert first.startswith(f"{settings.public_url}/setup?token=")
    assert second.startswith(f"{settings.public_url}/setup?token=")
    assert first != second
    flask("workspaces", "add", "Acme")
    added = flask("users", "add", "ada@example.com", "--workspace", "Acme", "--role", "admin", stdin=PASSWORD)
    assert added.exit_code == 0
    refused = flask("setup")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("Somebody can sign in already.")
    assert data(flask("setup", "--if-needed", "--json")) == {"ok": True, "link": None}


def test_an_earlier_set_up_link_stops_working(flask, client, settings):
    links_made = [data(flask("setup", "--json"))["link"] for _ in range(2)]
    paths = [link.removeprefix(settings.public_url) for link in links_made]
    assert [client.get(path).status_code for path in paths] == [410, 200]


def test_somebody_added_can_sign_in_and_the_first_one_owns_the_installation(flask, resources, world):
    done = flask("users", "add", "Ada@Example.com", "--workspace", "acme", "--role", "operator", stdin=f"{PASSWORD}\n")
    assert done.exit_code == 0
    with resources.database.session(writing=True) as session:
        user, _token = sign_in.sign_in(session, "ada@example.com", PASSWORD, "")
    assert not user.is_owner
    assert [row.role for row in world.all(Membership, user_id=user.id)] == [Role.OPERATOR]
    entry = world.all(AuditEntry, action="member.added")[0]
    assert (entry.actor, entry.workspace_id) == ("Command line", world.acme.id)


def test_a_known_person_joins_a_further_workspace_without_a_password(flask, world):
    done = flask("users", "add", world.ann.email, "--workspace", "Globex", "--role", "agent", "--json")
    assert data(done) == {"ok": True, "email": world.ann.email, "workspace": "Globex", "role": "agent", "new": False}
    again = flask("users", "add", world.ann.email, "--workspace", "Globex", "--role", "admin")
    assert again.exit_code == 1
    assert "is a member of Globex already" in again.stderr


@pytest.mark.parametrize(
    ("email", "workspace", "password", "words"),
    [
        ("ada@example.com", "Nowhere", PASSWORD, 'There is no workspace named "Nowhere".'),
        ("not an address", "Acme", PASSWORD, "Enter an e-mail address"),
        ("ada@example.com", "Acme", "short", "Use at least 12 characters"),
        ("ada@example.com", "Acme", "", "Use at least 12 characters"),
    ],
)
def test_nobody_is_added_half(flask, world, email, workspace, password, words):
    done = flask("users", "add", email, "--workspace", workspace, "--role", "admin", "--json", stdin=password)
    assert done.exit_code == 1
    assert words in done.stderr
    assert data(done)["ok"] is False
    assert words in data(done)["error"]
    assert len(world.all(User)) == 4


def test_a_password_is_never_an_argument(flask, world):
    done = flask("users", "add", "ada@example.com", PASSWORD, "--workspace", "Acme", "--role", "admin")
    assert done.exit_code == 2
    done = flask("users", "add", "ada@example.com", "--password", PASSWORD, "--workspace", "Acme", "--role", "admin")
    assert done.exit_code == 2


def test_a_reset_link_lets_somebody_choose_a_new_password_once(flask, world, settings, resources):
    link = data(flask("users", "reset", world.ann.email, "--json"))["link"]
    assert link.startswith(f"{settings.public_url}/password/")
    from services.people import members

    token = link.rpartition("/")[2]
    with resources.database.session(writing=True) as session:
        members.set_password(session, token, PASSWORD)
        with pytest.raises(links.LinkSpent):
            members.set_password(session, token, PASSWORD)
    unknown = flask("users", "reset", "nobody@example.com")
    assert (unknown.exit_code, unknown.stderr.strip()) == (1, "Nobody has the e-mail address nobody@example.com.")


def test_a_workspace_is_added_once(flask, world):
    assert data(flask("workspaces", "add", " Initech  Ltd ", "--json"))["name"] == "Initech Ltd"
    assert len(world.all(Workspace, name="Initech Ltd")) == 1
    again = flask("workspaces", "add", "initech ltd")
    assert (again.exit_code, again.stderr.strip()) == (1, "There is a workspace of that name already.")


def test_a_new_database_is_brought_up_to_date_and_until_then_commands_say_so(settings_for, empty_database_url):
    import app
    from services.resources import Resources

    settings = settings_for(database_url=empty_database_url)
    runner = app.build(settings, Resources.open(settings)).test_cli_runner()
    early = runner.invoke(args=["workspaces", "add", "Acme"])
    assert (early.exit_code, early.stderr.strip()) == (1, "The database is not up to date. Run: flask db upgrade")
    assert data(runner.invoke(args=["db", "upgrade", "--json"])) == {"ok": True, "changed": True}
    assert data(runner.invoke(args=["db", "upgrade", "--json"])) == {"ok": True, "changed": False}
    assert runner.invoke(args=["workspaces", "add", "Acme"]).exit_code == 0


def test_tokens_are_refreshed_on_request_and_others_left_out_with_a_reason(flask, world, redis_url, redis):
    ready, unready, foreign = world.connection(), world.connection(), world.connection(world.globex)
    for connection in (ready, foreign):
        world.authorize(connection)
    done = flask("tokens", "refresh", "--workspace", "Acme", "--json")
    found = data(done)
    assert (done.exit_code, found["waiting"], list(found["skipped"])) == (0, 1, [str(unready.id)])
    token = world.token(ready)
    assert (token.priority, token.next_refresh_at <= utc_now()) == (Priority.MANUAL, True)
    assert world.token(foreign).priority == Priority.SCHEDULED
    assert redis.llen("rq:queue:cardkey") == 1
    alone = flask("tokens", "refresh", "--connection", str(unready.id))
    assert alone.exit_code == 1
    assert f"{unready.name} is left out. It is not authorized." in alone.stderr
    everything = flask("tokens", "refresh", "--all")
    assert everything.stdout.startswith("2 of 3 connections are being refreshed.\nNo worker and no scheduler")


def test_only_what_is_due_in_time_is_refreshed(flask, world):
    soon, late = world.connection(), world.connection()
    world.authorize(soon, lifetime=600)
    world.authorize(late, lifetime=86400)
    done = flask("tokens", "refresh", "--due-within", "1h", "--json")
    assert data(done)["waiting"] == 1
    assert world.token(soon).priority == Priority.MANUAL
    assert world.token(late).priority == Priority.SCHEDULED


def test_a_refresh_of_all_is_followed_to_its_end(flask, world, provider, resources):
    many = [world.connection(name=f"Shop {number}") for number in range(4)]
    for connection in many[:3]:
        world.consent(connection)
    world.set_token(many[2], refresh_token_sealed=world.token(many[1]).refresh_token_sealed)
    with resources.database.session(writing=True) as session:
        heartbeats.beat(session, "worker:somewhere:1", "worker")
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(lambda: until(lambda: tokens.drain(resources, 5)))
        done = flask("tokens", "refresh", "--all")
        worker.result()
    assert done.exit_code == 1
    assert done.stderr.startswith("4 connections looked at\n")
    assert "4 of 4 done, 2 refreshed, 1 failed, 1 skipped\n" in done.stderr
    assert "2 of 4 connections have been refreshed.\nShop 2 failed. The refresh token was altered" in done.stderr
    assert "Shop 3 is left out. It is not authorized." in done.stderr
    again = flask("tokens", "refresh", "--connection", str(many[0].id), "--json")
    assert (again.exit_code, data(again)["recent"], data(again)["failed"]) == (0, 1, {}), "within the cool-down"


def test_ctrl_c_ends_the_telling_and_says_what_goes_on_and_how_to_end_that(flask, world, resources, monkeypatch):
    connection = world.connection()
    world.authorize(connection)
    with resources.database.session(writing=True) as session:
        heartbeats.beat(session, "worker:somewhere:1", "worker")

    def press(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(telling.time, "sleep", press)
    done = flask("tokens", "refresh", "--all")
    assert done.exit_code == 1
    assert "Nothing was cancelled: 1 connections are still to be refreshed" in done.stderr
    command = done.stderr.rstrip().rpartition("\n")[2].split()
    assert world.token(connection).priority == Priority.MANUAL
    assert command[:3] == ["flask", "tokens", "cancel"]
    assert flask(*command[1:]).stdout.startswith("Cancelled for 1, which go back to their own time.")
    assert world.token(connection).priority == Priority.SCHEDULED
    assert data(flask(*command[1:], "--json")) == {"ok": True, "cancelled": {command[3]: 0}}
    forgotten = flask("tokens", "cancel", str(uuid.uuid4()))
    assert (forgotten.exit_code, forgotten.stderr) == (1, "These refreshes are no longer followed.\n")


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "choice",
    [
        [],
        ["--all", "--workspace", "Acme"],
        ["--connection", "not-an-id"],
        ["--connection", str(uuid.uuid4())],
        ["--workspace", "Nowhere"],
        ["--due-within", "soon"],
        ["--due-within", "1h; rm"],
    ],
)
def test_an_unclear_choice_refreshes_nothing(flask, world, choice):
    connection = world.connection()
    world.authorize(connection)
    done = flask("tokens", "refresh", *choice)
    assert done.exit_code == 1
    assert done.stderr.strip()
    assert world.token(connection).priority == Priority.SCHEDULED


def test_the_status_tells_of_every_connection_and_holds_no_secret(flask, world):
    connection = world.connection(name="Shop\x1b[2J", secret="canary-secret")
    world.authorize(connection, access_token="canary-access", refresh_token="canary-refresh")
    words, found = flask("tokens", "status"), data(flask("tokens", "status", "--json"))
    assert "Acme / Shop\\x1b[2J: Connected, next refresh 20" in words.stdout
    assert "Redis cannot be reached" in words.stdout
    row = found["connections"][0]
    assert (row["id"], row["shown"], found["queue_depth"]) == (str(connection.id), "Connected", None)
    assert "canary" not in words.stdout + json.dumps(found)


def test_keys_are_counted_made_and_rotated(flask, world):
    world.connection()
    assert data(flask("keys", "check", "--json"))["by_key"] == {"k1": 1}
    assert flask("keys", "check").stdout == "1 secrets need the key k1.\n"
    assert data(flask("keys", "rotate", "--json"))["moved"] == 0
    first, second = (data(flask("keys", "new", "--json"))["key"] for _ in range(2))
    assert first != second
    from pydantic import SecretStr

    from models.types import Keyring

    assert len(Keyring.parse(SecretStr(f"{first},{second}")).ids) == 2


def test_a_damaged_secret_makes_the_check_fail_without_showing_it(flask, world, resources):
    from sqlalchemy import update

    from models import ClientSecret

    connection = world.connection()
    with resources.database.session(writing=True) as session:
        session.execute(update(ClientSecret).values(value_sealed=b"\x01\x02k1" + b"x" * 40))
        session.commit()
    done = flask("keys", "check")
    assert done.exit_code == 1
    assert "client_secrets" in done.stderr
    assert "1 secrets cannot be decrypted." in done.stderr
    assert connection.client_id not in done.stderr


def test_a_worker_without_redis_says_what_is_missing(flask):
    done = flask("worker")
    assert done.exit_code == 1
    assert done.stderr.strip() == "CARDKEY_REDIS_URL is not set, and a worker needs the queue in Redis."

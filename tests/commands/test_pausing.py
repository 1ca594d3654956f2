"""Pausing, resuming and limiting from the command line."""

import json

import pytest

from models import ConnectionState, ProviderHost

HOST = "provider.example"


@pytest.fixture
def flask(app):
    """Types a command; returns its status, and its object or words."""
    runner = app.test_cli_runner()

    def run(*arguments):
        done = runner.invoke(args=[*arguments, "--json"])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return done.exit_code, json.loads(done.stdout)

    return run


@pytest.fixture
def connection(world):
    made = world.connection()
    world.authorize(made)
    return made


def test_connections_are_paused_and_resumed(flask, world, connection):
    fresh = world.connection()
    status, said = flask("tokens", "pause", "--workspace", "Acme")
    assert (status, said["paused"], list(said["refused"])) == (0, [str(connection.id)], [str(fresh.id)])
    assert world.reread(connection).state is ConnectionState.PAUSED
    assert flask("tokens", "pause", "--connection", str(connection.id))[1]["already"] == 1
    status, said = flask("tokens", "resume", "--connection", str(connection.id))
    assert (status, said["resumed"]) == (0, [str(connection.id)])
    assert flask("tokens", "pause", "--connection", str(fresh.id))[0] == 1
    assert flask("tokens", "resume", "--connection", "nonsense")[0] == 1


def test_providers_and_everything_are_paused_and_resumed(flask, world, connection):
    for arguments, host in ((("--provider", HOST), HOST), (("--all",), "*")):
        assert flask("tokens", "pause", *arguments) == (0, {"ok": True, "host": host, "changed": True})
        assert world.all(ProviderHost, host=host)[0].paused_at is not None
        assert flask("tokens", "pause", *arguments)[1]["changed"] is False
    said = flask("providers", "list")[1]
    assert (said["paused"], said["providers"][0]["standing"]) == (True, "paused")
    for arguments in (("--provider", HOST), ("--all",)):
        assert flask("tokens", "resume", *arguments)[1]["changed"] is True
    assert flask("tokens", "pause", "--provider", "nobody.example")[0] == 1


@pytest.mark.parametrize("choice", [(), ("--all", "--provider", HOST), ("--provider", "*")])
def test_an_unclear_choice_pauses_nothing(flask, world, connection, choice):
    assert flask("tokens", "pause", *choice)[0] == 1
    assert world.all(ProviderHost) == []


def test_a_provider_gets_a_limit_of_its_own_and_loses_it(flask, settings, connection):
    assert flask("providers", "limit", HOST, "3") == (0, {"ok": True, "host": HOST, "limit": 3})
    (provider,) = flask("providers", "list")[1]["providers"]
    assert (provider["host"], provider["limit"], provider["connections"]) == (HOST, 3, 1)
    assert flask("providers", "limit", HOST, "0")[1]["limit"] == settings.host_concurrency
    assert flask("providers", "try", HOST)[1]["changed"] is False

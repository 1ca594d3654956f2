"""Refreshing by hand: who may, what joins, what is left out, and how it is followed to its end."""

import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import col, delete, update

from models import (
    AuditEntry,
    BulkRefresh,
    Connection,
    ConnectionState,
    Membership,
    Priority,
    Refresh,
    Role,
)
from models.types import utc_now
from oauth.vocabulary import GrantType
from services.audit import COMMAND_LINE, Actor
from services.engine import tokens
from services.operating import bulk, journal, overview, progress, refreshes
from services.operating.overview import Filter
from services.operating.progress import ItemState
from services.setup import connections

ROOT = Path(__file__).resolve().parents[2]
MOVED = ("connections", "tokens", "client_secrets")


def environment_of(settings) -> dict[str, str]:
    """What makes a process of its own work on this test's database with its keys."""
    names = ("data_dir", "database_url", "outbound_allow", "manual_cooldown")
    own = {f"CARDKEY_{name.upper()}": str(getattr(settings, name)) for name in names}
    secret = {name: getattr(settings, name).get_secret_value() for name in ("secret_key", "encryption_keys")}
    return own | {f"CARDKEY_{name.upper()}": value for name, value in secret.items()}


@pytest.fixture
def press(resources, world):
    """Press Refresh now as a person, Oscar by default."""

    def pressed(*rows, by=world.oscar):
        with resources.database.session(writing=True) as session:
            actor = Actor.person(by) if by else COMMAND_LINE
            return refreshes.refresh_now(session, resources.settings, rows, by.id if by else None, actor)

    return pressed


@pytest.fixture
def select(resources, world):
    """Press Refresh selected as Oscar."""

    def pressed(*rows):
        wanted = Filter(connection_ids=frozenset(row.id for row in rows))
        return bulk.ask(resources, wanted, world.oscar.id, Actor.person(world.oscar))

    return pressed


@pytest.fixture
def follow(resources):
    """How a bulk stands."""

    def followed(started):
        with resources.database.session() as session:
            return progress.progress(session, session.get_one(BulkRefresh, started.id))

    return followed


@pytest.fixture
def results(resources):
    """What came of each connection of a bulk."""

    def told(started):
        with resources.database.session() as session:
            return progress.results(session, session.get_one(BulkRefresh, started.id)).results

    return told


@pytest.fixture
def change(resources):
    """Change columns of rows behind everybody's back."""

    def changed(model, condition, **columns):
        with resources.database.session(writing=True) as session:
            session.execute(update(model).where(condition).values(**columns))
            session.commit()

    return changed


@pytest.fixture
def connected(world, provider):
    """A maker of connections with a token of the provider."""

    def make(**columns):
        connection = world.connection(**columns)
        world.consent(connection)
        return connection

    return make


def states(results) -> list[ItemState]:
    return [result.state for result in results]


def test_a_press_makes_the_token_due_before_everything_scheduled_and_is_on_record(world, press):
    connection = world.connection()
    world.authorize(connection)
    asked = press(connection)
    token = world.token(connection)
    assert asked.marked == {connection.id: 1}
    assert token.next_refresh_at <= utc_now()
    assert (token.priority, token.requested_by) == (Priority.MANUAL, world.oscar.id)
    (entry,) = world.all(AuditEntry, action="connection.refresh_requested")
    assert (entry.actor, entry.subject_id, entry.workspace_id) == ("oscar@acme.example", connection.id, world.acme.id)


def test_presses_within_the_cool_down_join_and_are_not_recorded_again(world, press, resources):
    connection = world.connection()
    world.authorize(connection)
    press(connection)
    again = press(connection)
    assert (dict(again.marked), again.joined) == ({}, {connection.id: 1})
    assert len(world.all(AuditEntry, action="connection.refresh_requested")) == 1
    world.set_token(connection, requested_at=utc_now() - timedelta(seconds=resources.settings.manual_cooldown))
    assert press(connection).marked


def test_a_press_joins_the_refresh_that_is_under_way(world, press):
    connection = world.connection()
    world.authorize(connection)
    world.set_token(connection, lease_owner="somebody", lease_until=utc_now() + timedelta(seconds=30))
    asked = press(connection)
    assert asked.joined
    assert not asked.marked
    assert world.token(connection).priority == Priority.SCHEDULED


def test_ten_thousand_presses_for_a_hundred_connections_make_a_hundred_requests(
    world, press, connected, provider, resources, settings
):
    hundred = [connected() for _ in range(100)]
    command = [sys.executable, "-m", "tests.support.presser", str(world.oscar.id), "250", "20"]
    environment = {**os.environ, **environment_of(settings)}
    pressers = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    while any(presser.poll() is None for presser in pressers):
        tokens.drain(resources, 5)
        time.sleep(0.05)
    tokens.drain(resources, 5)
    told = [json.loads(presser.communicate()[0]) for presser in pressers]
    assert [presser.returncode for presser in pressers] == [0, 0]
    assert sum(one["marked"] for one in told) == 100
    assert sum(one["marked"] + one["joined"] for one in told) == 10_000
    assert provider.hits() == 100
    assert {world.token(connection).generation for connection in hundred} == {2}


def test_what_cannot_be_refreshed_is_left_out_with_the_reason(world, press):
    never = world.connection()
    no_refresh_token = world.connection()
    world.authorize(no_refresh_token, refresh_token=None)
    ended = world.connection(state=ConnectionState.REAUTH_REQUIRED)
    paused = world.connection(state=ConnectionState.PAUSED)
    draft = world.connection(state=ConnectionState.DRAFT)
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    world.authorize(machine, refresh_token=None)
    asked = press(never, no_refresh_token, ended, paused, draft, machine)
    assert list(asked.marked) == [machine.id]
    assert asked.skipped == {
        never.id: "It is not authorized. An admin of its workspace has to press Authorize on the connection first.",
        no_refresh_token.id: "The provider gave no refresh token. To get a new access token, an admin of its workspace "
        "has to press Authorize on the connection.",
        ended.id: "A refresh cannot help: it needs authorization. An admin of its workspace has to press Authorize on "
        "it.",
        paused.id: "It is paused. Resume it first.",
        draft.id: "It is not configured yet. Save its configuration first.",
    }


def test_a_misconfigured_connection_may_be_tried_by_hand(world, press, connected, change, resources):
    connection = connected()
    change(Connection, col(Connection.id) == connection.id, state=ConnectionState.MISCONFIGURED)
    world.set_token(connection, next_refresh_at=None)
    assert press(connection).marked
    tokens.drain(resources, 5)
    assert world.reread(connection).state is ConnectionState.ACTIVE


def test_a_bulk_of_fifty_is_followed_to_its_end(world, select, results, follow, connected, provider, resources, change):
    fifty = [connected() for _ in range(50)]
    world.set_token(fifty[0], refresh_token_sealed=world.token(fifty[1]).refresh_token_sealed)
    (started,) = select(*fifty)
    assert follow(started).done == 0
    assert set(states(results(started))) == {ItemState.WAITING}
    tokens.drain(resources, 20)
    found = follow(started)
    assert found.is_over
    assert (found.total, found.count("refreshed"), found.count("failed")) == (50, 49, 1)
    assert provider.hits() == 49


def test_a_bulk_ends_although_its_connections_vanish(world, select, follow, connected, resources):
    kept, deleted = connected(), connected()
    (started,) = select(kept, deleted)
    connections.delete(resources, Actor.person(world.alice), deleted.id)
    tokens.drain(resources, 5)
    found = follow(started)
    assert (found.total, found.done, found.is_over) == (1, 1, True)


def test_a_bulk_nobody_takes_up_is_not_followed_for_ever(world, select, follow, connected, change):
    (started,) = select(connected())
    assert not follow(started).is_over
    change(BulkRefresh, col(BulkRefresh.id) == started.id, created_at=utc_now() - timedelta(minutes=16))
    assert follow(started).is_abandoned
    assert follow(started).is_over


def test_a_refusal_is_told_in_the_providers_words_and_ends_the_bulk(
    world, select, results, connected, provider, resources
):
    connection = connected()
    provider.control(behaviours={"token": "invalid_grant"})
    (started,) = select(connection)
    tokens.drain(resources, 5)
    assert states(results(started)) == [ItemState.FAILED]
    assert results(started)[0].words == world.reread(connection).failure_reason != ""


def test_an_earlier_failure_does_not_end_a_new_bulk(world, select, results, connected, provider, resources):
    connection = connected()
    provider.control(behaviours={"token": "status:500"})
    world.make_due(connection)
    tokens.drain(resources, 5)
    provider.control(behaviours={})
    (started,) = select(connection)
    assert states(results(started)) == [ItemState.WAITING]
    tokens.drain(resources, 5)
    assert states(results(started)) == [ItemState.REFRESHED]


@pytest.mark.parametrize(("behaviour", "ended"), [({}, "recent"), ({"token": "status:500"}, "failed")])
def test_a_bulk_that_joins_what_is_already_over_is_over(
    behaviour, ended, world, press, select, results, connected, provider, resources
):
    connection = connected()
    provider.control(behaviours=behaviour)
    press(connection)
    tokens.drain(resources, 5)
    (started,) = select(connection)
    [result] = results(started)
    assert result.state.value == ended
    assert "Nothing was sent for this" in result.words
    assert provider.hits() == 1


def test_a_bulk_that_joins_a_press_still_waiting_waits_with_it(world, press, select, results, connected, resources):
    connection = connected()
    press(connection)
    (started,) = select(connection)
    assert states(results(started)) == [ItemState.WAITING]
    tokens.drain(resources, 5)
    assert states(results(started)) == [ItemState.REFRESHED]


def test_a_disconnected_connection_ends_its_part_of_a_bulk(world, select, results, connected, resources, provider):
    connection = connected()
    (started,) = select(connection)
    connections.disconnect(resources, Actor.person(world.alice), connection.id)
    assert results(started)[0].words == "It was disconnected in the meantime."
    tokens.drain(resources, 5)
    assert provider.hits() == 0


def test_the_press_of_a_removed_member_is_dropped_and_the_schedule_kept(
    world, press, connected, provider, resources, change
):
    connection = connected()
    press(connection)
    with resources.database.session(writing=True) as session:
        session.execute(delete(Membership).where(col(Membership.user_id) == world.oscar.id))
        session.commit()
    tokens.drain(resources, 5)
    token = world.token(connection)
    assert provider.hits() == 0
    assert token.next_refresh_at > utc_now() + timedelta(minutes=20)
    assert (token.priority, token.lease_owner) == (Priority.SCHEDULED, None)


def test_a_press_taken_back_leaves_a_misconfigured_connection_alone(
    world, press, connected, change, provider, resources
):
    """It is due at no time of its own: to go back to one would be to send what nobody may ask for."""
    connection = connected()
    world.set_token(connection, next_refresh_at=None, expires_at=utc_now() - timedelta(hours=1))
    change(Connection, Connection.id == connection.id, state=ConnectionState.MISCONFIGURED)
    press(connection)
    world.leave(world.acme, world.oscar)
    tokens.drain(resources, 5)
    tokens.drain(resources, 5)
    assert provider.hits() == 0
    token = world.token(connection)
    assert (token.next_refresh_at, token.priority, token.lease_owner) == (None, Priority.SCHEDULED, None)


def test_the_press_of_somebody_made_an_agent_is_dropped(
    world, press, select, results, connected, provider, resources, change
):
    connection = connected()
    (started,) = select(connection)
    change(Membership, col(Membership.user_id) == world.oscar.id, role=Role.AGENT)
    tokens.drain(resources, 5)
    assert provider.hits() == 0
    assert results(started)[0].words == "The request was withdrawn."


def test_presses_of_the_owner_and_of_the_command_line_count_everywhere(world, press, connected, provider, resources):
    press(connected(workspace=world.globex), by=world.alice)
    press(connected(workspace=world.globex), by=None)
    tokens.drain(resources, 5)
    assert provider.hits() == 2


def test_a_connection_paused_after_the_press_is_not_refreshed(
    world, select, results, connected, provider, resources, change
):
    connection = connected()
    (started,) = select(connection)
    change(Connection, col(Connection.id) == connection.id, state=ConnectionState.PAUSED)
    tokens.drain(resources, 5)
    assert provider.hits() == 0
    assert results(started)[0].words == "It is paused. Resume it first."


def test_a_connection_deleted_after_the_press_is_not_refreshed(world, press, connected, provider, resources):
    connection = connected()
    press(connection)
    connections.delete(resources, Actor.person(world.alice), connection.id)
    assert tokens.drain(resources, 5) == 0
    assert provider.hits() == 0


def test_a_connection_moved_to_another_workspace_by_hand_is_not_refreshed_there(
    world, press, connected, provider, resources, database_kind
):
    connection = connected()
    press(connection)
    off = {"sqlite": "PRAGMA foreign_keys=OFF", "postgresql": "SET session_replication_role = replica"}[database_kind]
    database = resources.database.engine.raw_connection()
    cursor = database.cursor()
    for statement in (off, *(f"UPDATE {table} SET workspace_id = '{world.globex.id.hex}'" for table in MOVED)):
        cursor.execute(statement)
    database.commit()
    database.invalidate()
    tokens.drain(resources, 5)  # whoever pressed has no say there
    moved = world.reread(connection)
    assert world.token(moved).next_refresh_at > utc_now()
    world.make_due(moved)
    tokens.drain(resources, 5)  # and the secrets do not open there
    assert provider.hits() == 0
    assert (moved.workspace_id, world.reread(moved).state) == (world.globex.id, ConnectionState.MISCONFIGURED)
    assert world.token(moved).next_refresh_at is None


def test_a_scheduled_refresh_does_not_name_who_pressed_before(world, press, connected, resources):
    connection = connected()
    press(connection)
    tokens.drain(resources, 5)
    world.make_due(connection)
    tokens.drain(resources, 5)
    with resources.database.session() as session:
        newest, oldest = journal.history(session, connection)
    assert (oldest.refresh.trigger.value, oldest.refresh.requested_by) == ("manual", world.oscar.id)
    assert (newest.refresh.trigger.value, newest.refresh.requested_by) == ("scheduled", None)


def test_the_command_line_selects_by_workspace_by_time_and_everything(world, resources):
    soon, late, foreign = world.connection(), world.connection(), world.connection(workspace=world.globex)
    for connection, lifetime in ((soon, 600), (late, 86400), (foreign, 600)):
        world.authorize(connection, lifetime=lifetime)

    def ids(wanted):
        with resources.database.session() as session:
            return {row.connection.id for row in overview.every(session, wanted)}

    assert ids(Filter(workspace_id=world.acme.id)) == {soon.id, late.id}
    assert ids(Filter(due_until=utc_now() + timedelta(hours=1))) == {soon.id, foreign.id}
    assert ids(Filter()) == {soon.id, late.id, foreign.id}
    assert ids(Filter(connection_ids=frozenset({late.id, world.acme.id}))) == {late.id}
    assert ids(Filter(connection_ids=frozenset())) == set()


def test_the_overview_counts_and_puts_those_first_that_need_somebody(world, resources):
    fine = world.connection(name="A", state=ConnectionState.ACTIVE)
    broken = world.connection(name="Z", state=ConnectionState.EXPIRED_RETRYING)
    world.connection(workspace=world.globex, name="_", state=ConnectionState.ACTIVE)
    with resources.database.session() as session:
        counts = overview.counts(session, world.acme.id)
        assert (counts["Connected"], counts["Refresh failing"], counts["Paused"]) == (1, 1, 0)
        assert overview.counts(session)["Connected"] == 2
        rows = overview.page(session, Filter(world.acme.id)).rows
        assert [row.connection.id for row in rows] == [broken.id, fine.id]
        assert overview.page(session, Filter(text="_")).total == 1
        assert overview.page(session, Filter(text="GLOBEX")).total == 1
    assert world.all(Refresh) == []

"""Refreshing by hand: who may, what joins, what is left out, and how it is followed to its end."""

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

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
from services import bulk, connections, overview, refreshes, tokens
from services.audit import COMMAND_LINE, Actor
from services.bulk import ItemState
from services.errors import NotFound
from services.overview import Filter

MOVED = ("connections", "tokens", "client_secrets")


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
        with resources.database.session(writing=True) as session:
            actor = Actor.person(world.oscar)
            return refreshes.refresh_in_bulk(session, resources.settings, rows, world.oscar.id, actor)

    return pressed


@pytest.fixture
def follow(resources):
    """How a bulk stands."""

    def followed(started):
        with resources.database.session() as session:
            return bulk.progress(session, session.get_one(BulkRefresh, started.id))

    return followed


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


def states(progress) -> list[ItemState]:
    return [item.state for item in progress.items]


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


def test_a_thousand_presses_for_ten_connections_make_ten_requests(world, press, connected, provider, resources):
    ten = [connected() for _ in range(10)]
    wishes = [random.sample(ten, 1) for _ in range(500)] + [random.sample(ten, 3) for _ in range(500)]
    with ThreadPoolExecutor(8) as pool:
        asked = list(pool.map(lambda chosen: press(*chosen), wishes))
        pool.submit(tokens.drain, resources, 5).result()
    tokens.drain(resources, 5)
    assert sum(len(one.marked) for one in asked) == 10
    assert sum(len(one.marked) + len(one.joined) for one in asked) == 2000
    assert provider.hits() == 10


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
        never.id: "It is not authorized. Press Authorize on the connection first.",
        no_refresh_token.id: "The provider gave no refresh token. Press Authorize on the connection to get a new "
        "access token.",
        ended.id: "A refresh cannot help: it needs authorization. Press Authorize on it.",
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


def test_more_than_one_statement_holds_are_asked_for_at_once(world, press, monkeypatch):
    monkeypatch.setattr(refreshes, "AT_ONCE", 3)
    many = [world.connection() for _ in range(8)]
    for connection in many:
        world.authorize(connection)
    assert len(press(*many).marked) == 8
    assert len(press(*many).joined) == 8


def test_a_bulk_of_fifty_is_followed_to_its_end(world, select, follow, connected, provider, resources, change):
    fifty = [connected() for _ in range(50)]
    world.set_token(fifty[0], refresh_token_sealed=world.token(fifty[1]).refresh_token_sealed)
    (started,) = select(*fifty)
    assert follow(started).done == 0
    assert set(states(follow(started))) == {ItemState.WAITING}
    tokens.drain(resources, 20)
    progress = follow(started)
    assert progress.is_over
    assert (progress.total, progress.count("refreshed"), progress.count("failed")) == (50, 49, 1)
    assert provider.hits() == 49


def test_a_bulk_ends_although_its_connections_vanish(world, select, follow, connected, resources):
    kept, deleted = connected(), connected()
    (started,) = select(kept, deleted)
    connections.delete(resources, Actor.person(world.alice), deleted.id)
    tokens.drain(resources, 5)
    progress = follow(started)
    assert (progress.total, progress.done, progress.is_over) == (1, 1, True)


def test_a_bulk_nobody_takes_up_is_not_followed_for_ever(world, select, follow, connected, change):
    (started,) = select(connected())
    assert not follow(started).is_over
    change(BulkRefresh, col(BulkRefresh.id) == started.id, created_at=utc_now() - timedelta(minutes=16))
    assert follow(started).is_abandoned
    assert follow(started).is_over


def test_a_refusal_is_told_in_the_providers_words_and_ends_the_bulk(
    world, select, follow, connected, provider, resources
):
    connection = connected()
    provider.control(behaviours={"token": "invalid_grant"})
    (started,) = select(connection)
    tokens.drain(resources, 5)
    progress = follow(started)
    assert states(progress) == [ItemState.FAILED]
    assert progress.items[0].words == world.reread(connection).failure_reason != ""


def test_an_earlier_failure_does_not_end_a_new_bulk(world, select, follow, connected, provider, resources):
    connection = connected()
    provider.control(behaviours={"token": "status:500"})
    world.make_due(connection)
    tokens.drain(resources, 5)
    provider.control(behaviours={})
    (started,) = select(connection)
    assert states(follow(started)) == [ItemState.WAITING]
    tokens.drain(resources, 5)
    assert states(follow(started)) == [ItemState.REFRESHED]


@pytest.mark.parametrize(("behaviour", "ended"), [({}, "refreshed"), ({"token": "status:500"}, "failed")])
def test_a_bulk_that_joins_what_is_already_over_is_over(
    behaviour, ended, world, press, select, follow, connected, provider, resources
):
    connection = connected()
    provider.control(behaviours=behaviour)
    press(connection)
    tokens.drain(resources, 5)
    (started,) = select(connection)
    assert [state.value for state in states(follow(started))] == [ended]


def test_a_bulk_that_joins_a_press_still_waiting_waits_with_it(world, press, select, follow, connected, resources):
    connection = connected()
    press(connection)
    (started,) = select(connection)
    assert states(follow(started)) == [ItemState.WAITING]
    tokens.drain(resources, 5)
    assert states(follow(started)) == [ItemState.REFRESHED]


def test_a_disconnected_connection_ends_its_part_of_a_bulk(world, select, follow, connected, resources, provider):
    connection = connected()
    (started,) = select(connection)
    connections.disconnect(resources, Actor.person(world.alice), connection.id)
    assert follow(started).items[0].words == "It was disconnected in the meantime."
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


def test_the_press_of_somebody_made_an_agent_is_dropped(
    world, press, select, follow, connected, provider, resources, change
):
    connection = connected()
    (started,) = select(connection)
    change(Membership, col(Membership.user_id) == world.oscar.id, role=Role.AGENT)
    tokens.drain(resources, 5)
    assert provider.hits() == 0
    assert follow(started).items[0].words == "The request was withdrawn."


def test_presses_of_the_owner_and_of_the_command_line_count_everywhere(world, press, connected, provider, resources):
    press(connected(workspace=world.globex), by=world.alice)
    press(connected(workspace=world.globex), by=None)
    tokens.drain(resources, 5)
    assert provider.hits() == 2


def test_a_connection_paused_after_the_press_is_not_refreshed(
    world, select, follow, connected, provider, resources, change
):
    connection = connected()
    (started,) = select(connection)
    change(Connection, col(Connection.id) == connection.id, state=ConnectionState.PAUSED)
    tokens.drain(resources, 5)
    assert provider.hits() == 0
    assert follow(started).items[0].words == "It is paused. Resume it first."


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
        newest, oldest = refreshes.history(session, connection)
    assert (oldest.trigger.value, oldest.requested_by) == ("manual", world.oscar.id)
    assert (newest.trigger.value, newest.requested_by) == ("scheduled", None)


def test_the_command_line_selects_by_workspace_by_time_and_everything(world, resources):
    soon, late, foreign = world.connection(), world.connection(), world.connection(workspace=world.globex)
    for connection, lifetime in ((soon, 600), (late, 86400), (foreign, 600)):
        world.authorize(connection, lifetime=lifetime)

    def ids(rows):
        return {row.id for row in rows}

    with resources.database.session() as session:
        assert ids(refreshes.of_workspace(session, "acme")) == {soon.id, late.id}
        assert ids(refreshes.due_within(session, 3600)) == {soon.id, foreign.id}
        assert ids(refreshes.everything(session)) == {soon.id, late.id, foreign.id}
        assert ids(refreshes.named(session, [late.id, late.id, world.acme.id])) == {late.id}
        with pytest.raises(NotFound, match='no workspace named "Nowhere"'):
            refreshes.of_workspace(session, "Nowhere")


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

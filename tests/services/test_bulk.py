"""Thousands at once: asked for in parts, taken back as far as nothing was sent, and followed by counts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from models import AuditEntry, BulkRefresh, BulkRefreshItem, Connection, Priority, Refresh, Token, Trigger
from models.types import utc_now
from oauth.vocabulary import FailureClass, OAuthFailure
from services.audit import COMMAND_LINE, Actor
from services.authorizing import grants
from services.engine import leases, lifetimes, states, tokens
from services.errors import NotFound
from services.operating import bulk, progress, refreshes, withdrawing
from services.operating.overview import Filter
from tests.support.together import at_once
from tests.workers.parts import until


@pytest.fixture
def ask(resources, world):
    """Refresh everything of acme as Oscar, or as the command line."""

    def asked(by=world.oscar, **options):
        actor = Actor.person(by) if by else COMMAND_LINE
        (started,) = bulk.ask(resources, Filter(world.acme.id), by.id if by else None, actor, **options)
        return started

    return asked


@pytest.fixture
def cancel(resources, world):
    """Cancel as Alice."""

    def cancelled(started):
        return bulk.cancel(resources, started.id, world.alice.id, Actor.person(world.alice))

    return cancelled


@pytest.fixture
def counts(resources):
    """How many connections of a bulk stand how."""

    def counted(started):
        with resources.database.session() as session:
            found = progress.progress(session, session.get_one(BulkRefresh, started.id))
        return {state.value: number for state, number in found.counts.items()}

    return counted


@pytest.fixture
def authorized(world):
    """A maker of connections with a token, due at different times."""

    def make(count, **columns):
        rows = [world.connection() for _ in range(count)]
        for number, row in enumerate(rows):
            world.authorize(row)
            due = utc_now() + timedelta(minutes=10 + number)
            world.set_token(row, **{"next_refresh_at": due, "priority": Priority.KEEP_ALIVE, **columns})
        return rows

    return make


def claim(resources, limit):
    with resources.database.session(writing=True) as session:
        return leases.claim_due(session, resources.settings, limit)


def test_it_is_asked_for_part_after_part_and_everybody_is_in_it(world, ask, counts, authorized, monkeypatch):
    monkeypatch.setattr(bulk, "PART", 3)
    authorized(6)
    world.connection()
    heard = []
    started = ask(told=lambda bulks, number: heard.append((bulks[0].id, number)))
    assert counts(started) == {"waiting": 6, "skipped": 1}
    assert heard == [(started.id, 3), (started.id, 6), (started.id, 7)]
    assert {token.requested_at for token in world.all(Token) if token.generation} == {started.created_at}
    assert world.all(AuditEntry, action="connection.refresh_requested") == []
    (entry,) = world.all(AuditEntry, action="bulk.requested")
    assert (entry.detail, entry.workspace_id) == ({"number": 7}, world.acme.id)


def test_what_was_not_sent_goes_back_to_its_own_time_and_priority(
    world, ask, cancel, counts, authorized, resources, monkeypatch
):
    monkeypatch.setattr(bulk, "PART", 2)
    before = {row.id: world.token(row).next_refresh_at for row in authorized(5)}
    unplanned = authorized(1, next_refresh_at=None)[0]
    started = ask()
    sent = claim(resources, 2)
    said = cancel(started)
    assert (said.taken_back, said.under_way) == (4, 2)
    assert said.words == "Cancelled for 4, which go back to their own time. 2 had been sent already and will finish."
    assert counts(started) == {"running": 2, "cancelled": 4}
    rows = {row.connection_id: row for row in world.all(Token)}
    under_way = {one.connection_id for one in sent}
    for connection_id, due in {**before, unplanned.id: None}.items():
        token = rows[connection_id]
        if connection_id not in under_way:
            assert (token.next_refresh_at, token.priority) == (due, Priority.KEEP_ALIVE)
            assert (token.requested_at, token.requested_by, token.lease_owner) == (None, None, None)
    assert claim(resources, 10) == []
    stored = world.reread(started)
    assert (stored.cancelled_by, stored.cancelled_at is not None) == (world.alice.id, True)
    (entry,) = world.all(AuditEntry, action="bulk.cancelled")
    assert (entry.actor, entry.subject_id) == ("alice@acme.example", started.id)


def test_what_has_failed_already_is_not_taken_back(world, ask, cancel, counts, authorized, resources):
    broken, fine = authorized(2)
    world.set_token(broken, refresh_token_sealed=world.token(fine).refresh_token_sealed)
    with resources.database.session(writing=True) as session:
        session.execute(sa.update(Token).values(next_refresh_at=utc_now() + timedelta(hours=1)))
        session.commit()
    started = ask()
    world.set_token(fine, next_refresh_at=utc_now() + timedelta(seconds=60), held=True)
    assert claim(resources, 10) == []
    assert counts(started) == {"failed": 1, "waiting": 1}
    assert cancel(started).taken_back == 1
    assert counts(started) == {"failed": 1, "cancelled": 1}
    assert world.token(broken).next_refresh_at is None


def test_cancelling_twice_too_late_or_something_forgotten_says_so(world, ask, cancel, authorized, resources):
    authorized(2)
    started = ask()
    assert cancel(started).taken_back == 2
    assert cancel(started).again
    again = ask()
    assert len(claim(resources, 10)) == 2
    assert cancel(again).words.startswith("There was nothing left to cancel")
    assert world.reread(again).cancelled_at is None
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(BulkRefresh, again.id))
        session.commit()
    with pytest.raises(NotFound):
        cancel(again)


def test_what_somebody_else_asked_for_too_leaves_the_bulk_and_stays_due(
    world, ask, cancel, counts, authorized, resources
):
    pressed, other = authorized(2)
    due = world.token(other).next_refresh_at
    with resources.database.session(writing=True) as session:
        refreshes.refresh_now(session, resources.settings, [pressed], None, COMMAND_LINE)
    first = ask()
    second = ask(by=world.alice)
    said = cancel(first)
    assert (said.taken_back, said.left_due) == (0, 2)
    assert said.words == "Cancelled here for 2, which stay due: something else asked for them as well."
    assert (counts(first), counts(second)) == ({"cancelled": 2}, {"waiting": 2})
    assert (world.token(other).requested_by, world.token(other).requested_at) == (world.alice.id, second.created_at)
    said = cancel(second)
    assert (said.taken_back, said.left_due) == (1, 1)
    assert counts(second) == {"cancelled": 2}
    assert world.token(other).next_refresh_at == due
    assert [one.connection_id for one in claim(resources, 10)] == [pressed.id]
    with resources.database.session() as session:
        rows = progress.results(session, second).results
    assert {row.name: row.words for row in rows} == {pressed.name: withdrawing.LEFT_DUE, other.name: ""}


def test_of_three_bulks_over_the_same_connections_each_tells_the_truth_and_all_cancelled_send_no_more(
    world, ask, cancel, counts, authorized, resources, monkeypatch
):
    monkeypatch.setattr(bulk, "PART", 2)
    own_times = {row.id: world.token(row).next_refresh_at for row in authorized(6)}
    bulks = [ask() for _ in range(3)]
    sent = {one.connection_id for one in claim(resources, 2)}
    edited = next(row for row in world.all(Connection) if row.id not in sent)
    with resources.database.session(writing=True) as session:
        row = session.get_one(Connection, edited.id)
        row.longest_lifetime, row.updated_at = 300.0, utc_now()
        token = tokens.current_token(session, row)
        lifetimes.after_change(resources.settings, row, token, frozenset({"longest_lifetime"}))
        session.commit()
    said = [cancel(bulks[number]).words for number in (1, 0, 2)]
    stay = "Cancelled here for 4, which stay due: something else asked for them as well."
    sending = "2 had been sent already and will finish."
    assert said[:2] == [f"{stay} {sending}"] * 2
    assert said[2] == f"Cancelled for 4, which go back to their own time. {sending}"
    assert [counts(one) for one in bulks] == [{"running": 2, "cancelled": 4}] * 3
    assert claim(resources, 10) == []
    for connection_id, due in own_times.items():
        token = world.token(world.all(Connection, id=connection_id)[0])
        if connection_id == edited.id:
            assert token.next_refresh_at < token.received_at + timedelta(seconds=300)
        elif connection_id not in sent:
            assert (token.next_refresh_at, token.priority, token.requested_at) == (due, Priority.KEEP_ALIVE, None)


def test_bulks_over_the_same_connections_that_are_cancelled_at_once_leave_nothing_due(
    world, ask, cancel, counts, authorized, resources, monkeypatch
):
    monkeypatch.setattr(bulk, "PART", 3)
    authorized(12)
    bulks = [ask() for _ in range(3)]
    done = at_once(3, lambda number: cancel(bulks[number]))
    assert [counts(one) for one in bulks] == [{"cancelled": 12}] * 3
    assert {one.taken_back + one.left_due for one in done} == {12}
    assert sum(one.taken_back for one in done) >= 12, "each by whoever was the last to let it go, if not by others too"
    assert claim(resources, 20) == []


def test_a_bulk_cancelled_while_it_is_being_asked_for_asks_for_no_more(
    world, ask, cancel, counts, authorized, monkeypatch
):
    monkeypatch.setattr(bulk, "PART", 2)
    authorized(6)
    started = ask(told=lambda bulks, number: cancel(bulks[0]) if number == 2 else None)
    assert counts(started) == {"cancelled": 2}
    assert len(world.all(BulkRefreshItem)) == 2


def test_claims_and_a_cancel_at_the_same_moment_share_everything_between_them(
    world, ask, cancel, counts, authorized, resources, monkeypatch
):
    monkeypatch.setattr(bulk, "PART", 5)
    authorized(30)
    started = ask()
    done = at_once(4, lambda number: cancel(started) if number == 0 else claim(resources, 4))
    assert [type(one) for one in done] == [bulk.Cancelled, list, list, list]
    found = counts(started)
    assert found.get("running", 0) == sum(len(claims) for claims in done[1:])
    assert found == {"running": found.get("running", 0), "cancelled": 30 - found.get("running", 0)}
    assert len(world.all(Refresh)) == found["running"]


def test_what_waits_for_a_closed_provider_is_waiting_and_can_be_taken_back(world, ask, cancel, counts, authorized):
    row = authorized(1)[0]
    due = world.token(row).next_refresh_at
    started = ask()
    world.set_token(row, held=True, next_refresh_at=utc_now() + timedelta(minutes=30))
    assert counts(started) == {"waiting": 1}
    assert cancel(started).taken_back == 1
    assert (world.token(row).next_refresh_at, world.token(row).held) == (due, False)


@pytest.mark.settings(host_concurrency=4)
def test_a_card_is_served_at_once_while_a_bulk_is_under_way(world, ask, provider, resources):
    many = [world.connection() for _ in range(12)]
    for row in many:
        world.consent(row)
        world.set_token(row, expires_at=utc_now() - timedelta(seconds=1))
    provider.control(behaviours={"token": "delay:0.4"})
    ask()
    with ThreadPoolExecutor(1) as pool:
        drain = pool.submit(tokens.drain, resources, 5)
        until(lambda: len(world.all(Refresh)) >= 3)
        begun = {row.connection_id for row in world.all(Refresh)}
        wanted = next(row for row in many if row.id not in begun)
        assert tokens.access(resources, world.acme.id, wanted.id).refreshed
        assert not drain.done()
    assert drain.result() == 11
    (row,) = world.all(Refresh, connection_id=wanted.id)
    assert row.trigger is Trigger.AGENT_FACING


def test_asking_costs_the_same_few_queries_however_many_there_are(world, ask, authorized, resources):
    said = []

    @sa.event.listens_for(resources.database.engine, "before_cursor_execute")
    def listen(_connection, _cursor, statement, *_rest):
        said.append(statement)

    numbers = []
    for count in (2, 6):
        authorized(count)
        said.clear()
        ask()
        numbers.append(len(said))
    assert numbers[1] <= numbers[0] + 1  # those asked for before are joined


def test_following_costs_the_same_few_queries_however_many_there_are(world, ask, authorized, resources):
    authorized(3)
    started = ask()
    said = []

    @sa.event.listens_for(resources.database.engine, "before_cursor_execute")
    def listen(_connection, _cursor, statement, *_rest):
        said.extend([statement] if statement.startswith("SELECT") else [])

    with resources.database.session() as session:
        progress.progress(session, started)
    assert len(said) == 1
    with resources.database.session() as session:
        progress.results(session, started)
    assert len(said) == 2


def test_a_large_bulk_is_looked_at_less_often(world):
    made = BulkRefresh(workspace_id=world.acme.id)
    asks = [progress.Progress(made, {progress.ItemState.WAITING: size}, utc_now()).ask_again for size in (5, 5000)]
    assert asks == [1, 3]


def test_a_bulk_that_goes_on_is_followed_however_long_it_takes(world, ask, authorized, resources):
    one, _two = authorized(2)
    started = ask()
    long_ago = utc_now() - timedelta(hours=1)
    with resources.database.session(writing=True) as session:
        session.execute(sa.update(BulkRefresh).values(created_at=long_ago))
        session.commit()
    with resources.database.session() as session:
        assert progress.progress(session, session.get_one(BulkRefresh, started.id)).is_abandoned
    world.authorize(one)
    with resources.database.session() as session:
        found = progress.progress(session, session.get_one(BulkRefresh, started.id))
    assert (found.is_over, found.done) == (False, 1)


def test_what_an_edit_has_set_going_since_is_not_stopped_by_cancelling(world, ask, cancel, authorized, resources):
    """A misconfigured connection was due at no time: going back to that, it would never be refreshed again."""
    (connection,) = authorized(1)
    with resources.database.session(writing=True) as session:
        row = session.get_one(Connection, connection.id)
        refused = OAuthFailure("refresh", FailureClass.CLIENT_BAD, "It does not know the client.")
        states.fail(session, resources.settings, row, tokens.current_token(session, row), refused)
        session.commit()
    started = ask()
    with resources.database.session(writing=True) as session:
        row = session.get_one(Connection, connection.id)
        grants.after_change(session, row, tokens.current_token(session, row), asks_anew=True)
        session.commit()
    cancel(started)
    assert world.reread(connection).state.shown == "Refresh failing"
    assert world.token(connection).next_refresh_at <= utc_now()


def test_what_was_edited_since_goes_to_the_time_it_has_by_now(world, ask, cancel, authorized, resources):
    edited, other = authorized(2)
    own_time = world.token(other).next_refresh_at
    started = ask()
    with resources.database.session(writing=True) as session:
        row = session.get_one(Connection, edited.id)
        row.longest_lifetime, row.updated_at = 300.0, utc_now()
        token = tokens.current_token(session, row)
        lifetimes.after_change(resources.settings, row, token, frozenset({"longest_lifetime"}))
        session.commit()
    assert cancel(started).taken_back == 2
    token = world.token(edited)
    assert token.next_refresh_at < token.received_at + timedelta(seconds=300)
    assert (token.priority, token.requested_at) == (Priority.SCHEDULED, None)
    assert world.token(other).next_refresh_at == own_time

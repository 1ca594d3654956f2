"""The operations page, as operators and the owner use it."""

import re
import uuid

import pytest

from models import AuditEntry, BulkRefresh, ConnectionState, Priority, Refresh
from services.engine import tokens
from services.operating import heartbeats, overview, progress
from tests.support.browserless import path_of

ADDRESS = "/operations"


@pytest.fixture
def oscar(world, app):
    return world.client(world.oscar)


@pytest.fixture
def owner(world, app):
    return world.client(world.alice)


def page(client, address=ADDRESS, status=200, **options):
    reply = client.get(address, **options)
    assert reply.status_code == status
    return reply.get_data(as_text=True)


def press(client, *connections, address="/operations/refresh"):
    return client.post_form(address, {"connection": [str(connection.id) for connection in connections]})


def bulk_of(reply) -> str:
    """Address of the progress of the one bulk a press started."""
    assert reply.status_code == 303
    return f"/operations/refresh/{re.search(r'bulk=([0-9a-f-]{36})', reply.location)[1]}"


def look_at(client, bulk):
    """How far it has come, as the page asks by itself."""
    return client.get(f"{bulk}/progress", headers={"HX-Request": "true"})


def names_shown(html: str) -> list[str]:
    return re.findall(r"Select (Shop \d+|[^<]+)</span>", html)


def test_every_connection_of_the_workspace_is_shown_with_what_went_wrong(world, oscar):
    fine, broken = (
        world.connection(),
        world.connection(state=ConnectionState.REAUTH_REQUIRED, failure_reason="The provider ended the authorization."),
    )
    world.authorize(fine)
    foreign = world.connection(workspace=world.globex, name="Theirs")
    html = page(oscar)
    assert names_shown(html) == [broken.name, fine.name]
    assert "The provider ended the authorization." in html
    assert foreign.name not in html
    assert f'href="/connections/{fine.id}"' in html


def test_filters_work_by_address_alone(world, oscar):
    first = world.connection(name="Orders of 100%", state=ConnectionState.ACTIVE)
    second = world.connection(
        name="Tickets", state=ConnectionState.DEGRADED, token_endpoint="https://id.help.example/t"
    )
    assert names_shown(page(oscar, f"{ADDRESS}?text=100%25")) == ["Orders of 100%"]
    assert names_shown(page(oscar, f"{ADDRESS}?text=help.EXAMPLE")) == [second.name]
    assert names_shown(page(oscar, f"{ADDRESS}?state=Connected")) == [first.name]
    assert names_shown(page(oscar, f"{ADDRESS}?failing=y")) == [second.name]
    assert names_shown(page(oscar, f"{ADDRESS}?state=nonsense&page=x&bulk=x")) == [second.name, first.name]
    assert "No connection fits" in page(oscar, f"{ADDRESS}?text=%00&page=99999999")


def test_pages_hold_fifty(world, oscar):
    for number in range(52):
        world.connection(name=f"C{number:02}")
    assert len(names_shown(page(oscar))) == 50
    assert names_shown(page(oscar, f"{ADDRESS}?page=2")) == ["C50", "C51"]
    assert 'rel="next"' in page(oscar)
    assert "1 to 50 of 52" in page(oscar)
    assert "51 to 52 of 52" in page(oscar, f"{ADDRESS}?page=2")


def test_all_shown_are_selected_without_a_script(world, oscar):
    world.connection()
    assert " checked" not in page(oscar)
    assert " checked" in page(oscar, f"{ADDRESS}?select=shown")


def test_the_list_asks_anew_as_soon_as_the_refreshes_are_over(world, oscar, provider, resources):
    connection = world.connection()
    world.consent(connection)
    reply = press(oscar, connection)
    assert 'hx-trigger="refreshes-over from:body"' in page(oscar, path_of(reply.location))
    assert 'hx-trigger="refreshes-over from:body"' not in page(oscar)
    assert "HX-Trigger" not in look_at(oscar, bulk_of(reply)).headers
    assert tokens.drain(resources, 5) == 1
    assert look_at(oscar, bulk_of(reply)).headers["HX-Trigger"] == "refreshes-over"


def test_refresh_selected_is_followed_until_it_is_over(world, oscar, provider, resources):
    one, two, other = world.connection(), world.connection(), world.connection()
    for connection in (one, two, other):
        world.consent(connection)
    reply = press(oscar, one, two)
    followed = bulk_of(reply)
    assert 'hx-trigger="every 1s"' in page(oscar, path_of(reply.location))
    waiting = look_at(oscar, followed).get_data(as_text=True)
    assert "0 of 2" in waiting
    assert "<html" not in waiting
    assert tokens.drain(resources, 5) == 2
    done = look_at(oscar, followed).get_data(as_text=True)
    assert "2 of 2 · 2 refreshed" in done
    assert "hx-get" not in done
    assert "<html" in page(oscar, followed)
    assert {row.trigger.value for row in world.all(Refresh)} == {"manual"}
    again = bulk_of(press(oscar, one, two, other))
    assert tokens.drain(resources, 5) == 1
    assert "3 of 3 · 1 refreshed · 2 refreshed just before, nothing sent" in look_at(oscar, again).text
    assert "Nothing was sent for this" in page(oscar, f"{again}?state=recent")


def test_what_cannot_be_refreshed_is_told_and_not_waited_for(world, oscar):
    fine, never = world.connection(), world.connection()
    dead = world.connection(state=ConnectionState.REAUTH_REQUIRED)
    paused = world.connection()
    world.authorize(fine)
    world.authorize(paused)
    with world.resources.database.session(writing=True) as session:
        row = session.merge(paused)
        row.state = ConnectionState.PAUSED
        session.commit()
    html = page(oscar, bulk_of(press(oscar, fine, never, dead, paused)))
    assert "3 of 4 · 3 skipped" in html
    assert "It is not authorized." in html
    assert "A refresh cannot help" in html
    assert "It is paused. Resume it first." in html


def test_nothing_selected_is_said_at_the_list_with_its_filters_kept(world, oscar):
    world.connection(name="Orders")
    world.connection(name="Tickets")
    reply = oscar.post_form("/operations/refresh?text=Orders", {})
    assert reply.status_code == 422
    html = reply.get_data(as_text=True)
    assert "Select at least one connection" in html
    assert names_shown(html) == ["Orders"]


def test_foreign_absent_and_senseless_ids_are_alike(world, oscar):
    foreign = world.connection(workspace=world.globex)
    world.authorize(foreign)
    replies = [
        oscar.post_form("/operations/refresh", {"connection": named})
        for named in (str(foreign.id), str(uuid.uuid4()), "x")
    ]
    assert {reply.status_code for reply in replies} == {422}
    bodies = {re.sub(r'name="csrf_token" value="[^"]+"', "", reply.get_data(as_text=True)) for reply in replies}
    assert len(bodies) == 1
    assert world.token(foreign).requested_at is None
    assert world.all(BulkRefresh) == []


def test_a_foreign_id_among_ones_own_is_left_out(world, oscar):
    mine, foreign = world.connection(), world.connection(workspace=world.globex)
    world.authorize(mine)
    world.authorize(foreign)
    assert "0 of 1" in page(oscar, bulk_of(press(oscar, mine, foreign)))
    assert world.token(foreign).priority == Priority.SCHEDULED


def test_agents_and_strangers_are_kept_out(world, app, client):
    ann, gus = world.client(world.ann), world.client(world.gus)
    connection = world.connection()
    world.authorize(connection)
    followed = bulk_of(press(world.client(world.oscar), connection))
    assert ann.get(ADDRESS).status_code == 403
    assert press(ann, connection).status_code == 403
    for stranger, refused in ((ann, 403), (gus, 404)):
        assert stranger.get(followed).status_code == refused
        assert look_at(stranger, followed).status_code == 286
        assert stranger.get(f"{followed}/progress").status_code == 404
        assert stranger.post_form(f"{followed}/cancel", {}).status_code == refused
    assert gus.get(f"/operations/history/{connection.id}").status_code == 404
    assert ann.get(f"/operations/history/{connection.id}").status_code == 403
    assert client.get(ADDRESS).status_code == 303


def test_polling_ends_when_the_bulk_or_its_connections_are_gone(world, oscar, resources):
    connection = world.connection()
    world.authorize(connection)
    followed = bulk_of(press(oscar, connection))
    with resources.database.session(writing=True) as session:
        session.delete(session.merge(connection))
        session.commit()
    html = look_at(oscar, followed).get_data(as_text=True)
    assert "have been deleted" in html
    assert "hx-get" not in html
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(BulkRefresh, uuid.UUID(followed.rpartition("/")[2])))
        session.commit()
    assert look_at(oscar, followed).status_code == 286


def test_the_owner_sees_and_refreshes_all_workspaces(world, owner, oscar, provider, resources):
    mine, foreign = world.connection(), world.connection(workspace=world.globex)
    world.consent(mine)
    world.consent(foreign)
    html = page(owner, f"{ADDRESS}?all=1")
    assert set(names_shown(html)) == {mine.name, foreign.name}
    assert "Globex" in html
    assert f'href="/connections/{foreign.id}"' not in html
    assert oscar.get(f"{ADDRESS}?all=1").status_code == 403
    reply = press(owner, mine, foreign, address="/operations/refresh?all=1")
    assert len(re.findall("bulk=", reply.location)) == 2
    assert "all=1" in reply.location
    assert tokens.drain(resources, 5) == 2
    assert page(owner, path_of(reply.location)).count("1 of 1 · 1 refreshed") == 2
    assert "Refreshed" in page(owner, f"/operations/history/{foreign.id}")


def test_queue_workers_and_schedulers_are_shown(world, oscar, resources, redis):
    assert "No scheduler has been heard of" in page(oscar)
    with resources.database.session(writing=True) as session:
        heartbeats.beat(session, "scheduler:somewhere:1", "scheduler")
    assert "No worker has been heard of" in page(oscar)
    with resources.database.session(writing=True) as session:
        heartbeats.beat(session, "worker:somewhere:2", "worker")
    html = page(oscar)
    assert "has been heard of" not in html
    assert "<strong>0</strong> waiting" in html
    assert "somewhere" not in html
    connection = world.connection()
    world.authorize(connection)
    press(oscar, connection)
    assert "<strong>1</strong> waiting" in page(oscar)


def test_without_redis_a_press_still_counts_and_the_page_says_so(world, oscar, resources):
    with resources.database.session(writing=True) as session:
        heartbeats.beat(session, "scheduler:somewhere:1", "scheduler")
    connection = world.connection()
    world.authorize(connection)
    reply = press(oscar, connection)
    html = page(oscar, path_of(reply.location))
    assert "Redis cannot be reached: refreshes go on through the scheduler" in html
    assert world.token(connection).priority == Priority.MANUAL


def test_all_that_match_are_refreshed_and_not_only_those_on_the_page(world, oscar, monkeypatch):
    monkeypatch.setattr(overview, "PAGE_SIZE", 2)
    for number in range(5):
        world.authorize(world.connection(name=f"Shop {number}"))
    other = world.connection(name="Tickets")
    world.authorize(other)
    shown = page(oscar, f"{ADDRESS}?text=shop&select=shown")
    assert ("Select all 5" in shown, len(names_shown(shown))) == (True, 2)
    chosen = page(oscar, f"{ADDRESS}?text=shop&select=matching")
    assert "All 5 connections that match are selected, on every page." in chosen
    assert 'name="matching"' in chosen
    typed = {"matching": "1", "workspace_id": str(world.acme.id)}
    reply = oscar.post_form("/operations/refresh?text=shop", typed)
    assert "0 of 5" in page(oscar, bulk_of(reply))
    assert world.token(other).requested_at is None
    (entry,) = world.all(AuditEntry, action="bulk.requested")
    assert (entry.actor, entry.detail) == ("oscar@acme.example", {"number": 5})
    assert oscar.post_form("/operations/refresh?text=nothing", typed).status_code == 422


def test_what_matches_is_looked_for_where_the_list_was_read(world, oscar, owner):
    mine, foreign = world.connection(), world.connection(workspace=world.globex)
    world.authorize(mine)
    world.authorize(foreign)
    for named in (str(world.globex.id), str(uuid.uuid4()), "x", ""):
        assert oscar.post_form("/operations/refresh", {"matching": "1", "workspace_id": named}).status_code == 404
    assert oscar.post_form("/operations/refresh?all=1", {"matching": "1"}).status_code == 403
    assert world.all(BulkRefresh) == []
    assert owner.post_form("/operations/refresh?all=1", {"matching": "1"}).status_code == 303
    assert {bulk.workspace_id for bulk in world.all(BulkRefresh)} == {world.acme.id, world.globex.id}


def test_cancelling_says_what_was_taken_back_and_that_there_is_nothing_left(world, oscar, provider, resources):
    one, two = world.connection(), world.connection()
    for connection in (one, two):
        world.consent(connection)
    followed = bulk_of(press(oscar, one, two))
    assert "Cancel what is left" in page(oscar, followed)
    reply = oscar.post_form(f"{followed}/cancel", {})
    assert path_of(reply.location) == followed
    html = page(oscar, followed)
    assert "Cancelled for 2, which go back to their own time." in html
    assert "2 of 2 · 2 cancelled" in html
    assert "Cancel what is left" not in html
    oscar.post_form(f"{followed}/cancel", {})
    assert "were cancelled already" in page(oscar, followed)
    assert tokens.drain(resources, 5) == 0
    done = bulk_of(press(oscar, one))
    tokens.drain(resources, 5)
    oscar.post_form(f"{done}/cancel", {})
    assert "There was nothing left to cancel" in page(oscar, done)
    assert provider.hits() == 1
    (entry,) = world.all(AuditEntry, action="bulk.cancelled")
    assert entry.actor == "oscar@acme.example"


def test_results_come_a_page_at_a_time_with_failures_first(world, oscar, provider, resources, monkeypatch):
    monkeypatch.setattr(progress, "PAGE_SIZE", 2)
    many = [world.connection(name=f"Shop {number}") for number in range(4)]
    for connection in many[:3]:
        world.consent(connection)
    world.set_token(many[2], refresh_token_sealed=world.token(many[1]).refresh_token_sealed)
    followed = bulk_of(press(oscar, *many))
    tokens.drain(resources, 5)
    first, second = page(oscar, followed), page(oscar, f"{followed}?page=2")
    assert re.findall(r"<strong>(Shop \d)</strong></a> (\w+)", first) == [("Shop 2", "Failed"), ("Shop 3", "Skipped")]
    assert len(re.findall(r'href="/operations/history/[^"]+"><strong>Shop', first)) == 2, "each leads to its history"
    assert re.findall(r"<strong>(Shop \d)</strong>", second) == ["Shop 0", "Shop 1"]
    assert ('rel="next"' in first, 'rel="next"' in second) == (True, False)
    assert re.findall(r"<strong>(Shop \d)</strong>", page(oscar, f"{followed}?state=failed")) == ["Shop 2"]
    assert "None of them stands like that" in page(oscar, f"{followed}?state=waiting")
    assert "Shop 2" in page(oscar, f"{followed}?state=nonsense&page=-1")
    assert f'href="{followed}"' in page(oscar)  # the way back to it for whoever went elsewhere

"""The operations page, as operators and the owner use it."""

import re
import uuid

import pytest

from models import BulkRefresh, ConnectionState, Priority, Refresh
from services import heartbeats, tokens
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
    look = {"headers": {"HX-Request": "true"}}
    assert "HX-Trigger" not in oscar.get(bulk_of(reply), **look).headers
    assert tokens.drain(resources, 5) == 1
    assert oscar.get(bulk_of(reply), **look).headers["HX-Trigger"] == "refreshes-over"


def test_refresh_selected_is_followed_until_it_is_over(world, oscar, provider, resources):
    one, two, other = world.connection(), world.connection(), world.connection()
    for connection in (one, two, other):
        world.consent(connection)
    reply = press(oscar, one, two)
    followed = bulk_of(reply)
    assert 'hx-trigger="every 1s"' in page(oscar, path_of(reply.location))
    waiting = page(oscar, followed, headers={"HX-Request": "true"})
    assert "0 of 2" in waiting
    assert "<html" not in waiting
    assert tokens.drain(resources, 5) == 2
    done = page(oscar, followed, headers={"HX-Request": "true"})
    assert "2 of 2 · 2 refreshed" in done
    assert "hx-get" not in done
    assert "<html" in page(oscar, followed)
    assert {row.trigger.value for row in world.all(Refresh)} == {"manual"}


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
    for stranger in (ann, gus):
        assert stranger.get(followed).status_code == 404
        assert stranger.get(followed, headers={"HX-Request": "true"}).status_code == 286
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
    html = page(oscar, followed, headers={"HX-Request": "true"})
    assert "have been deleted" in html
    assert "hx-get" not in html
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(BulkRefresh, uuid.UUID(followed.rpartition("/")[2])))
        session.commit()
    assert oscar.get(followed, headers={"HX-Request": "true"}).status_code == 286


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

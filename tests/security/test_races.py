"""The same button pressed many times at once, and different ones that do not go together: one wins, nothing breaks."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from models import Card, Connection, Workspace
from services.engine import leases
from tests.blueprints.test_cards import FORM

AT_ONCE = 8
CONNECTION = {name: value for name, value in FORM.items() if name.startswith("connection-")}


@pytest.fixture
def at_once(app, world):
    """Post several forms at the same moment, each `(address, fields)`; counts the statuses."""
    app.config["RATELIMIT_ENABLED"] = False

    def at_once(posts):
        clients = [world.client(world.alice) for _ in posts]
        tokens = [client.csrf() for client in clients]
        start = Barrier(len(posts))

        def press(number):
            address, fields = posts[number]
            start.wait()
            return clients[number].post(address, data={**fields, "csrf_token": tokens[number]})

        with ThreadPoolExecutor(len(posts)) as threads:
            answers = list(threads.map(press, range(len(posts))))
        return Counter(answer.status_code for answer in answers)

    return at_once


def test_a_new_connection_saved_many_times_at_once_is_made_once(at_once, world):
    assert at_once([("/connections/new", CONNECTION)] * AT_ONCE) == {303: 1, 422: AT_ONCE - 1}
    assert len(world.all(Connection)) == 1


def test_a_new_card_with_its_connection_saved_many_times_at_once_is_made_once(at_once, world):
    assert at_once([("/cards/new", FORM)] * AT_ONCE) == {303: 1, 422: AT_ONCE - 1}
    assert len(world.all(Card)) == 1


def test_a_new_workspace_made_many_times_at_once_is_made_once(at_once, world):
    posts = [("/settings/workspaces", {"workspace_name": "Twice"})] * AT_ONCE
    assert at_once(posts) == {303: 1, 422: AT_ONCE - 1}
    assert len(world.all(Workspace, name="Twice")) == 1


def test_saving_deleting_and_authorizing_at_once_break_nothing(at_once, world):
    for _ in range(4):
        connection = world.connection()
        world.authorize(connection)
        cards = [world.card(connection=connection) for _ in range(3)]
        one = f"/connections/{connection.id}"
        posts = [(f"/cards/{card.id}/delete", {}) for card in cards]
        posts += [(f"{one}/delete", {})] * 2 + [(f"{one}/authorize", {})] * 3 + [(f"{one}/disconnect", {})] * 2
        counts = at_once(posts)
        assert set(counts) <= {303, 404}, counts
        assert world.reread(connection) is None


def test_edits_and_claims_at_once_break_nothing(at_once, world, resources, settings):
    connection = world.connection()
    world.authorize(connection)
    address = f"/connections/{connection.id}"

    def claim(_number):
        with resources.database.session(writing=True) as session:
            return leases.claim_due(session, settings, 10)

    for number in range(6):
        world.make_due(connection, lease_owner=None, lease_until=None)
        edit = {**CONNECTION, "connection-version": str(world.reread(connection).version)}
        edit["connection-scope"] = f"scope{number}"
        with ThreadPoolExecutor(3) as threads:
            claims = threads.map(claim, range(3))
            counts = at_once([(address, edit)] * 3 + [(f"{address}/refresh", {})] * 3)
            assert sum(map(len, claims)) <= 1
        assert set(counts) <= {303, 409, 422}, counts

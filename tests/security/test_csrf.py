"""WB-01: nothing changes without a form of our own, and looking never changes anything."""

import uuid

import pytest
from sqlalchemy import text

from models import Record
from tests.support.routes import FROM_ELSEWHERE, address, unsafe_routes

pytestmark = pytest.mark.sqlite_only


def contents(resources):
    """Every row of every table, but for when a session was last used."""
    tables = {}
    with resources.database.session() as session:
        for table in Record.metadata.sorted_tables:
            columns = ", ".join(f'"{column.name}"' for column in table.columns if column.name != "seen_at")
            tables[table.name] = sorted(map(repr, session.execute(text(f"SELECT {columns} FROM {table.name}"))))
    return tables


def ids_of(world):
    connection = world.connection()
    world.authorize(connection)
    card = world.card(connection=connection)
    return {"card_id": card.id, "connection_id": connection.id, "user_id": world.ann.id}


def test_every_change_needs_the_token_of_a_form(app, world, resources):
    ids, alice = ids_of(world), world.client(world.alice)
    before = contents(resources)
    walked = 0
    for rule, method in unsafe_routes(app):
        if rule.endpoint in FROM_ELSEWHERE:
            continue
        for headers in ({}, {"HX-Request": "true"}):
            answer = alice.open(address(rule, **ids), method=method, data={"csrf_token": "forged"}, headers=headers)
            assert answer.status_code == 400, (rule.endpoint, answer.status_code)
            walked += 1
    assert walked > 20
    assert contents(resources) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_cannot_use_a_stolen_form_token(app, world, headers):
    ids, alice = ids_of(world), world.client(world.alice)
    for rule, method in unsafe_routes(app):
        if rule.endpoint in FROM_ELSEWHERE:
            continue
        answer = alice.open(address(rule, **ids), method=method, data={"csrf_token": alice.csrf()}, headers=headers)
        assert answer.status_code == 403, (rule.endpoint, answer.status_code)


def test_our_own_origin_is_welcome(app, world, settings):
    alice = world.client(world.alice)
    answer = alice.post_form(
        "/settings",
        {"time_zone": "Europe/Berlin"},
        headers={"Origin": settings.public_url, "Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status_code == 303
    assert world.reread(world.alice).time_zone == "Europe/Berlin"


def test_looking_changes_nothing(app, world, resources):
    ids, alice = ids_of(world), world.client(world.alice)
    before = contents(resources)
    for rule in app.url_map.iter_rules():
        if "GET" not in rule.methods or rule.endpoint in FROM_ELSEWHERE | {"static"}:
            continue
        for method in ("GET", "HEAD"):
            for values in (ids, {name: uuid.uuid4() for name in ids}):
                answer = alice.open(address(rule, **values), method=method)
                assert answer.status_code < 500 or rule.endpoint == "health.readyz", (rule.endpoint, answer.status_code)
    assert contents(resources) == before

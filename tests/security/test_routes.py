"""Every route by method, role and another workspace's ids, against the table of who may what (MT-01, MT-02)."""

import re
import tomllib
import uuid
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from models import (
    AuthorizationAttempt,
    BulkRefresh,
    CardPreview,
    ClientSecret,
    LinkPurpose,
    Record,
    Role,
    SingleUseLink,
    UserSession,
)
from tests.support.routes import address

ORACLE = tomllib.loads(Path(__file__).with_name("roles.toml").read_text())
LEVELS = ["anyone", "person", "agent", "operator", "admin", "owner"]
FRAGMENT = {"HX-Request": "true"}


@pytest.fixture
def things(world, resources):
    """One of everything in acme, made by alice."""
    connection = world.connection(revocation_endpoint="")
    world.authorize(connection)
    card = world.card(connection=connection)
    about = {"workspace_id": world.acme.id}
    preview = CardPreview(**about, card_id=card.id, user_id=world.alice.id)
    preview.seal("html", SecretStr("<p>a customer</p>"), resources.database.keyring)
    attempt = AuthorizationAttempt(
        **about, connection_id=connection.id, user_id=world.alice.id, browser_hash="x", connection_version=1
    )
    bulk = BulkRefresh(**about, requested_by=world.alice.id)
    link = SingleUseLink(
        purpose=LinkPurpose.INVITATION, token_hash="x", **about, email="new@acme.example", role=Role.AGENT
    )
    session = UserSession(user_id=world.alice.id, token_hash="y")
    world._add(preview, attempt, bulk, link, session)
    return {
        "card_id": card.id,
        "connection_id": connection.id,
        "secret_id": world.all(ClientSecret, connection_id=connection.id)[0].id,
        "preview_id": preview.id,
        "attempt_id": attempt.id,
        "bulk_id": bulk.id,
        "user_id": world.ann.id,
        "link_id": link.id,
        "session_id": session.id,
    }


def walk(app):
    """(rule, method) of the whole portal."""
    return [
        (rule, method)
        for rule in app.url_map.iter_rules()
        for method in sorted(rule.methods - {"OPTIONS", "HEAD"})
        if rule.endpoint != "static"
    ]


def visit(browser, rule, method, ids, headers):
    if method == "GET":
        return browser.get(address(rule, **ids), headers=headers)
    return browser.post_form(address(rule, **ids), {}, headers=headers)


def contents(resources):
    """Every row of every tenant's table."""
    with resources.database.session() as session:
        return {
            table.name: sorted(map(repr, session.execute(text(f"SELECT * FROM {table.name}"))))
            for table in Record.metadata.sorted_tables
            if table.name not in ("user_sessions", "audit_entries", "heartbeats")
        }


def neutral(answer):
    """What an answer says, without what differs from one request to the next."""
    body = re.sub(r'name="csrf_token" value="[^"]*"', "", answer.get_data(as_text=True))
    return answer.status_code, re.sub(r"[0-9a-f-]{36}|[0-9a-f]{32}", "id", body)


ENDED = {"operations.progress": {404, 286}}
"""A fragment that asks again and again is told to stop where its bulk is gone, or is nobody's business."""


def has_id(rule):
    """Whether the route names a thing of a workspace."""
    return any(name.endswith("_id") for name in rule.arguments)


def test_every_route_is_in_the_table_and_nothing_else_is(app):
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(ORACLE)


@pytest.mark.sqlite_only
@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
def test_signed_out_nothing_but_open_pages_answers(app, client, things, resources, headers):
    before = contents(resources)
    for rule, method in walk(app):
        if ORACLE[rule.endpoint] == "anyone":
            continue
        answer = visit(client, rule, method, things, headers)
        if headers:
            assert answer.status_code == 401, rule.endpoint
        else:
            assert (answer.status_code, "/login" in answer.location) == (303, True), rule.endpoint
    assert contents(resources) == before


@pytest.mark.sqlite_only
@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
@pytest.mark.parametrize("name", ["ann", "oscar", "member_admin"])
def test_a_role_reaches_what_the_table_says_and_no_more(app, world, things, resources, name, headers):
    role = {"ann": "agent", "oscar": "operator", "member_admin": "admin"}[name]
    person = world.gus if name == "member_admin" else getattr(world, name)
    if name == "member_admin":
        world.join(world.acme, person, Role.ADMIN)
    before = contents(resources)
    for rule, method in walk(app):
        needed = ORACLE[rule.endpoint]
        if needed in ("anyone", "person", "self") or LEVELS.index(needed) <= LEVELS.index(role):
            continue
        answer = visit(world.client(person), rule, method, things, headers)
        assert answer.status_code in ENDED.get(rule.endpoint, {403}), (rule.endpoint, method, answer.status_code)
    assert contents(resources) == before


@pytest.mark.sqlite_only
def test_a_role_gets_in_where_the_table_lets_it(app, world, things):
    people = {"agent": world.ann, "operator": world.oscar, "admin": world.alice, "owner": world.alice}
    for rule, method in walk(app):
        needed = ORACLE[rule.endpoint]
        if needed not in people or method != "GET":
            continue
        answer = visit(world.client(people[needed]), rule, method, things, {})
        assert answer.status_code == 200, (rule.endpoint, answer.status_code)


@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
def test_another_workspaces_ids_look_like_absent_ones_and_do_nothing(app, world, things, resources, headers):
    before = contents(resources)
    absent = {name: uuid.uuid4() for name in things}
    walked = 0
    for rule, method in walk(app):
        if not has_id(rule) or ORACLE[rule.endpoint] == "anyone":
            continue
        foreign = neutral(visit(world.client(world.gus), rule, method, things, headers))
        missing = neutral(visit(world.client(world.gus), rule, method, absent, headers))
        assert foreign[0] in ENDED.get(rule.endpoint, {404}), (rule.endpoint, method, foreign[0])
        assert foreign == missing, rule.endpoint
        walked += 1
    assert walked >= 25
    assert contents(resources) == before


@pytest.mark.sqlite_only
def test_what_is_a_persons_own_is_nobody_elses(app, world, things):
    for person in (world.oscar, world.ann):
        browser = world.client(person)
        for rule, method in walk(app):
            if ORACLE[rule.endpoint] == "self":
                assert visit(browser, rule, method, things, {}).status_code == 404, rule.endpoint


@pytest.mark.sqlite_only
def test_somebody_removed_mid_session_is_out_with_the_next_request(app, world, things):
    oscar, alice = world.client(world.oscar), world.client(world.alice)
    assert oscar.get(f"/connections/{things['connection_id']}").status_code == 200
    assert alice.post_form(f"/members/{world.oscar.id}/remove").status_code == 303
    assert oscar.get(f"/connections/{things['connection_id']}").status_code == 404


@pytest.mark.sqlite_only
def test_no_role_is_shown_a_stored_secret_on_any_page(app, world, things):
    connection = world.connection(secret="canary-client-secret")
    world.authorize(connection, access_token="canary-access-token", refresh_token="canary-refresh-token")
    card = world.card(connection=connection, headers={"X-Api-Key": "canary-header-value"})
    ids = {**things, "connection_id": connection.id, "card_id": card.id}
    seen = 0
    for person in (world.ann, world.oscar, world.alice):
        for rule, method in walk(app):
            for headers in ({}, FRAGMENT):
                if method == "GET":
                    answer = visit(world.client(person), rule, method, ids, headers)
                    assert "canary" not in answer.get_data(as_text=True), rule.endpoint
                    seen += answer.status_code == 200
    assert seen > 60


@pytest.mark.sqlite_only
def test_a_person_without_a_workspace_gets_no_other_ones_instead(app, world):
    world.leave(world.acme, world.oscar)
    oscar = world.client(world.oscar)
    for address_of_list in ("/cards", "/connections", "/operations", "/audit", "/members"):
        assert oscar.get(address_of_list).status_code == 404

"""What is looked for in the audit trail, and what it tells to whom."""

import re

import pytest

from blueprints.audit import words
from models import Role
from tests.blueprints.test_audit import add
from tests.support import flow

HOST = "token requests to login.shop.example"


def test_what_is_looked_for_is_found_by_kind_and_by_name(app, world):
    add(world, action="card.created", subject_name="Orders")
    add(world, action="bulk.requested", detail={"number": 3})
    add(world, action="connection.authorized", subject_name="Shop 100%")
    add(world, action="provider.paused", detail={"host": "login.shop.example"}, actor="oscar@acme.example")
    alice = world.client(world.alice)
    said = {
        "Orders": "Made the card Orders",
        "3": "a refresh of 3 connections",
        "Shop": "Authorized Shop",
        "host": HOST,
    }

    def found(**query):
        page = alice.get("/audit", query_string=query).text
        return {name for name, words in said.items() if words in page}

    assert found() == set(said)
    assert found(about="cards") == {"Orders"}
    assert found(about="connections") == {"3", "Shop"}
    assert found(about="no such thing") == set(said)
    assert found(text="100%") == found(text=" shop 100") == {"Shop"}
    assert found(text="login.shop") == found(text="OSCAR@") == {"host"}
    assert found(text="%") == {"Shop"}, "a sign, and not anything"
    assert found(text="x\x00y") == set()
    nothing = alice.get("/audit?about=people&text=nobody").text
    assert "No entry fits" in nothing
    assert 'href="/audit"' in nothing
    assert 'value="nobody"' in nothing


@pytest.mark.sqlite_only
def test_older_entries_of_what_is_looked_for_are_a_page_away(app, world):
    rows = [{"action": "card.created" if number % 2 else "member.joined"} for number in range(104)]
    for row in rows:
        add(world, **row)
    page = world.client(world.alice).get("/audit?about=cards").text
    assert re.search(r'rel="next" href="/audit\?page=2&amp;about=cards"', page)


def test_everything_that_has_words_is_of_some_kind():
    subjects = {action.partition(".")[0] for action in words.SENTENCES}
    assert subjects == {subject for _, subjects in words.KINDS.values() for subject in subjects}


def test_the_owner_is_named_to_owners_and_to_nobody_else(app, world):
    host = "login.shop.example"
    world.connection(token_endpoint=f"https://{host}/token")
    world.join(world.acme, world.gus, Role.ADMIN)
    alice, gus = world.client(world.alice), world.client(world.gus)
    assert alice.post_form("/operations/providers/pause", {"host": host}).status_code == 303
    assert "Owner of the installation (alice@acme.example)" in alice.get("/audit?about=providers").text
    shown = gus.get("/audit?about=providers").text
    assert "Owner of the installation" in shown
    assert "alice@acme.example" not in shown


@pytest.mark.sqlite_only
def test_a_reason_is_told_in_words_and_a_code_as_the_provider_wrote_it(app, world):
    change = {"from": "Connected", "to": "Misconfigured", "reason": "client_bad"}
    add(world, action="connection.state_changed", subject_name="Shop", detail=change)
    failed = {"reason": "It answered with the error invalid_client.", "code": "invalid_client"}
    add(world, action="connection.authorization_failed", subject_name="Shop", detail=failed)
    denied = {"reason": "Access was refused at the provider.", "code": "access_denied"}
    add(world, action="connection.authorization_failed", subject_name="Depot", detail=denied)
    add(world, action="provider.paused", detail={"host": "internal_host"})
    page = world.client(world.alice).get("/audit").text
    assert "(the provider does not accept this client)" in page
    assert "(It answered with the error invalid_client.)" in page
    assert "<code>access_denied</code>" in page
    assert page.count("invalid_client") == 1
    assert "Paused token requests to internal_host" in page


def test_pausing_tells_of_the_windows_it_ended_and_nobody_failed_to_authorize(app, world, provider):
    connection = world.connection()
    world.consent(connection)
    alice = world.client(world.alice)
    for _ in range(2):
        flow.press(alice, connection)
    alice.post_form(f"/connections/{connection.id}/pause")
    page = alice.get("/audit").text
    assert f"Paused {connection.name}, which ended 2 unfinished authorizations" in page
    assert "Could not authorize" not in page

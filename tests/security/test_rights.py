"""Rights end at once wherever somebody is, and no form takes more than it asks for. MT-01, MT-03, MT-07."""

import uuid

import pytest

from models import AttemptOutcome, AuditEntry, AuthorizationAttempt, Card, Connection, Membership, Role, Token, User
from tests.blueprints.test_cards import FORM
from tests.security.test_routes import ENDED, FRAGMENT, ORACLE, contents, has_id, neutral, things, visit, walk
from tests.support import flow

__all__ = ["things"]


def set_role(world, person, role):
    """Change somebody's role in acme, or remove them."""
    with world.resources.database.session(writing=True) as session:
        held = session.get_one(Membership, (world.acme.id, person.id))
        if role is None:
            session.delete(held)
        else:
            held.role = role
        session.commit()


# Foreign and absent things, whoever asks: MT-01


@pytest.mark.sqlite_only
@pytest.mark.parametrize("headers", [{}, FRAGMENT], ids=["page", "fragment"])
@pytest.mark.parametrize("who", ["agent", "operator", "admin", "owner", "nobody's member"])
def test_another_workspaces_things_look_absent_to_every_role(app, world, things, resources, who, headers):
    """MT-01: the owner of the installation is no member of every workspace either."""
    person = world.gus
    if who in ("agent", "operator"):
        with resources.database.session(writing=True) as session:
            session.get_one(Membership, (world.globex.id, person.id)).role = Role(who)
            session.commit()
    elif who == "owner":
        world.join(world.globex, world.alice, Role.ADMIN)
        world.leave(world.acme, world.alice)
        person = world.alice
    elif who == "nobody's member":
        world.leave(world.globex, person)
    before, walked = contents(resources), 0
    absent = {name: uuid.uuid4() for name in things}
    for rule, method in walk(app):
        if not has_id(rule) or ORACLE[rule.endpoint] in ("anyone", "self"):
            continue
        foreign = visit(world.client(person), rule, method, things, headers)
        missing = visit(world.client(person), rule, method, absent, headers)
        if who == "owner" and rule.endpoint.startswith("operations."):
            continue  # where the owner sees how connections stand, and what the owner asked for
        allowed = {403, 404} | ENDED.get(rule.endpoint, set())
        assert foreign.status_code in allowed, (rule.endpoint, method, foreign.status_code)
        assert neutral(foreign) == neutral(missing), (rule.endpoint, method)
        walked += 1
    assert walked >= 20
    assert contents(resources) == before


# More fields than a form has: MT-03


def strangers(world, victim):
    """What somebody would add to a form who wants more than it gives."""
    protected = {
        "id": str(victim.id),
        "workspace": str(world.globex.id),
        "user_id": str(world.gus.id),
        "is_owner": "true",
        "state": "active",
        "authorized_by": str(world.gus.id),
        "authorized_client": "x",
        "api_hosts": "evil.example",
        "access_token_sealed": "x",
        "refresh_token": "x",
        "generation": "99",
        "provider_host": "evil.example",
        "next_refresh_at": "2020-01-01",
        "requested_by": str(world.gus.id),
        "password_hash": "x",
        "created_at": "2020-01-01",
        "connection_version": "7",
    }
    return protected | {f"connection-{name}": value for name, value in protected.items()}


def protected_columns(world):
    """Everything no form has a field for."""
    return {
        "connections": {
            row.id: (row.workspace_id, row.state, row.authorized_by, row.authorized_client, row.created_at)
            for row in world.all(Connection)
        },
        "tokens": {
            row.id: (row.connection_id, row.generation, row.access_token_sealed, row.provider_host)
            for row in world.all(Token)
        },
        "cards": {row.id: row.workspace_id for row in world.all(Card)},
        "people": {row.id: (row.email, row.is_owner, row.password_hash) for row in world.all(User)},
    }


def test_no_form_sets_what_it_has_no_field_for(app, world, caplog):
    """MT-03: every form that saves something is sent, filled in as it should be, with strangers added."""
    connection = world.connection()
    world.authorize(connection)
    card = world.card(connection=connection)
    theirs = world.card(workspace=world.globex)
    before = protected_columns(world)
    alice = world.client(world.alice)
    fields = {name: value for name, value in FORM.items() if name.startswith("connection-")}
    same = {
        **fields,
        "connection-name": "Renamed",
        "connection-client_id": connection.client_id,
        "connection-client_secret": "",
        "connection-scope": connection.scope,
        "connection-authorization_endpoint": connection.authorization_endpoint,
        "connection-token_endpoint": connection.token_endpoint,
        "connection-revocation_endpoint": connection.revocation_endpoint,
        "connection-issuer": connection.issuer,
        "connection-version": "1",
    }
    chosen = {"connection_id": str(connection.id), "shown_connection": str(connection.id)}
    sent = {
        f"/connections/{connection.id}": same,
        f"/cards/{card.id}": {
            **FORM, **same, **chosen, "version": "1", "connection-version": "2",
            "hook_url": "https://provider.example/orders",
        },
        f"/connections/{connection.id}/refresh": {},
        f"/members/{world.ann.id}": {"role": "operator"},
        "/members/invite": {"email": "new@acme.example", "role": "agent"},
        "/settings": {"time_zone": "UTC"},
        "/settings/workspace": {"name": "Acme & Co", "time_zone": "UTC"},
    }  # fmt: skip
    with caplog.at_level("INFO"):
        for url, form in sent.items():
            reply = alice.post_form(url, {**strangers(world, theirs), **form})
            saved = 200 if url == "/members/invite" else 303  # the link is shown once, on the page itself
            assert reply.status_code == saved, (url, reply.status_code)
    assert protected_columns(world) == before
    assert world.reread(connection).api_hosts == ["provider.example"]
    assert world.reread(theirs).title == theirs.title
    assert world.reread(connection).name == "Renamed"
    noted = str([record.msg for record in caplog.records])
    assert noted.count("fields ignored") >= 6
    assert "generation" in noted
    assert "evil.example" not in noted


# Rights that end while something is under way: MT-07


@pytest.mark.parametrize("role", [None, Role.AGENT, Role.OPERATOR], ids=["removed", "agent", "operator"])
def test_an_authorization_under_way_ends_with_the_right_to_it(app, world, provider, role):
    """MT-07, AC-02: the window is at the provider while the right is taken away."""
    provider.control(auto_consent=True)
    world.join(world.globex, world.alice, Role.ADMIN)
    connection = world.connection()
    alice = world.client(world.alice)
    page, callback = flow.answer(alice, connection)
    set_role(world, world.alice, role)
    reply = alice.get(callback)
    assert reply.status_code == 403
    assert connection.name not in reply.text
    assert provider.counts.get("token_authorization_code", 0) == 0
    assert world.access_token(connection) is None
    pages = [page, f"{page}/status"]
    if role is not Role.OPERATOR:  # who sees how a connection stands
        pages.append(f"/connections/{connection.id}/authorization")
    for address in pages:
        assert alice.get(address).status_code in (403, 404), address
        assert alice.get(address, headers=FRAGMENT).status_code in (403, 404), address
    assert [row.outcome for row in world.all(AuthorizationAttempt)] == [AttemptOutcome.FAILED]


def test_a_sign_out_everywhere_ends_an_authorization_under_way(app, world, provider):
    """MT-07: the answer waits for a sign-in and nothing is sent before."""
    provider.control(auto_consent=True)
    connection = world.connection()
    here, elsewhere = world.client(world.alice), world.client(world.alice)
    _page, callback = flow.answer(here, connection)
    elsewhere.post_form("/settings/sessions/end")
    assert "/login?" in here.get(callback).location
    assert provider.counts.get("token_authorization_code", 0) == 0


def test_whoever_is_denied_something_stands_in_the_audit_trail_once(app, world):
    card = world.card()
    for _ in range(3):
        assert world.client(world.ann).post_form(f"/cards/{card.id}/delete").status_code == 403
        assert world.client(world.gus).get(f"/cards/{card.id}").status_code == 404
    noted = {entry.actor: entry for entry in world.all(AuditEntry, action="access.refused")}
    assert set(noted) == {"ann@acme.example", "Somebody of another workspace"}
    assert {entry.workspace_id for entry in noted.values()} == {world.acme.id}
    assert noted["ann@acme.example"].detail == {"page": "POST cards.delete"}
    assert "gus" not in world.client(world.alice).get("/audit").text

"""The pages of connections: what each role may do, and that nothing secret is shown."""

import uuid
from datetime import timedelta

import pytest

from models import ClientSecret, Connection, ConnectionState, Priority, Role
from models.types import utc_now
from services.audit import Actor
from services.operating import overview
from services.setup import connections
from tests.blueprints.test_cards import FORM as CARD_FORM
from tests.blueprints.test_cards import inputs

FORM = {name: value for name, value in CARD_FORM.items() if name.startswith("connection-")}


@pytest.fixture
def alice(app, world):
    return world.client(world.alice)


def test_a_connection_is_made_and_shown_without_its_secret(alice, world):
    assert alice.post_form("/connections/new", FORM).status_code == 303
    connection = world.all(Connection)[0]
    page = alice.get(f"/connections/{connection.id}").text
    assert "typed-canary-secret" not in page
    assert "http://127.0.0.1:8000/auth/provider/callback" in page
    assert "Not authorized" in page


def test_every_error_stands_at_its_field(alice):
    broken = {**FORM, "connection-client_id": "", "connection-token_params": "no sign", "connection-name": ""}
    page = alice.post_form("/connections/new", broken).text
    for words in ("Enter the Client ID", "Write name=value", "Give the connection a name"):
        assert words in page
    assert page.count("aria-invalid") == 3


def test_the_fields_of_another_flow_come_with_everything_typed(alice):
    changed = {**FORM, "connection-grant_type": "client_credentials"}
    page = alice.post_form("/connections/fields", changed, headers={"HX-Request": "true"}).text
    assert inputs(page)["connection-client_id"] == "client"
    assert page.index("Token Endpoint") < page.index("Scope") < page.index("Audience")


def test_an_operator_reads_and_refreshes_but_never_edits(app, world):
    connection = world.connection(secret="stored-canary-secret")
    world.authorize(connection)
    oscar = world.client(world.oscar)
    page = oscar.get(f"/connections/{connection.id}").text
    assert "Refresh now" in page
    assert "Save configuration" not in page
    assert "canary" not in page
    assert oscar.post_form(f"/connections/{connection.id}", FORM).status_code == 403
    assert oscar.post_form(f"/connections/{connection.id}/delete").status_code == 403
    assert oscar.post_form(f"/connections/{connection.id}/refresh").status_code == 303
    assert world.token(connection).priority == Priority.MANUAL


def test_an_agent_sees_no_connection(app, world):
    ann = world.client(world.ann)
    assert ann.get("/connections").status_code == 403
    assert ann.get(f"/connections/{world.connection().id}").status_code == 403


def test_disconnecting_asks_and_then_takes_the_grant_away(alice, world):
    connection = world.connection(revocation_endpoint="")
    world.authorize(connection)
    world.card(connection=connection, title="Loses its data")
    assert "Loses its data" in alice.get(f"/connections/{connection.id}/disconnect").text
    assert alice.post_form(f"/connections/{connection.id}/disconnect").status_code == 303
    assert world.reread(connection).state is ConnectionState.DISCONNECTED
    assert world.token(connection).refresh_token_sealed is None


def test_a_stale_save_shows_both_values(alice, world):
    connection = world.connection(name="Shop", scope="before")
    form = {**FORM, "connection-version": "1"}
    assert alice.post_form(f"/connections/{connection.id}", {**form, "connection-scope": "theirs"}).status_code == 303
    answer = alice.post_form(f"/connections/{connection.id}", {**form, "connection-scope": "mine"})
    assert answer.status_code == 409
    assert "theirs" in answer.text
    assert inputs(answer.text)["connection-scope"] == "mine"
    assert "You saved this in another tab or window" in answer.text


def test_a_stale_save_says_who_saved_meanwhile(alice, world):
    connection = world.connection(name="Shop", scope="before")
    world.join(world.acme, world.gus, Role.ADMIN)
    form = {**FORM, "connection-version": "1"}
    theirs = {**form, "connection-scope": "theirs"}
    assert world.client(world.gus).post_form(f"/connections/{connection.id}", theirs).status_code == 303
    mine = {**form, "connection-scope": "mine"}
    assert f"{world.gus.email} saved in the meantime" in alice.post_form(f"/connections/{connection.id}", mine).text
    world.leave(world.acme, world.gus)
    gone = alice.post_form(f"/connections/{connection.id}", mine).text
    assert "Somebody else saved in the meantime" in gone
    assert world.gus.email not in gone


def test_saving_what_another_tab_deleted_says_so_and_gives_everything_back(alice, app, world):
    connection = world.connection(name="Shop")
    world.join(world.acme, world.gus, Role.ADMIN)
    place = f"/connections/{connection.id}"
    assert world.client(world.gus).post_form(f"{place}/delete").status_code == 303
    typed = {**FORM, "workspace_id": str(world.acme.id), "connection_id": str(connection.id)}
    answer = alice.post_form(place, typed)
    assert answer.status_code == 410
    assert f"{world.gus.email} deleted this connection" in answer.text
    assert "<time" in answer.text
    assert "typed-canary-secret" not in answer.text
    assert world.all(Connection) == []
    kept = inputs(answer.text)
    assert kept["connection-scope"] == "orders.read"
    assert 'action="/connections/new"' in answer.text
    fields = alice.post_form("/connections/fields", typed)  # the same, brought back through signing in
    assert f"{world.gus.email} deleted this connection" in fields.text
    again = {**typed, **kept, "connection-client_secret": ""}
    again.pop("csrf_token")
    assert alice.post_form("/connections/new", again).status_code == 303
    (made,) = world.all(Connection)
    (secret,) = world.all(ClientSecret, connection_id=made.id)
    assert secret.unseal("value", world.resources.database.keyring).get_secret_value() == "typed-canary-secret"


def test_who_deleted_a_connection_is_told_to_admins_of_its_workspace_alone(alice, app, world):
    connection = world.connection()
    place = f"/connections/{connection.id}"
    alice.post_form(f"{place}/delete")
    for person in (world.oscar, world.ann, world.gus):
        answer = world.client(person).post_form(place, FORM)
        assert (answer.status_code, "deleted this" in answer.text) == (404, False)
    assert "You deleted this connection in another tab or window" in alice.post_form(place, FORM).text
    assert alice.post_form(f"/connections/{uuid.uuid4()}", FORM).status_code == 404
    assert world.all(Connection) == []


def test_a_connection_deleted_at_the_very_moment_it_is_saved_is_told_too(alice, world, monkeypatch):
    connection = world.connection()
    real = connections.save

    def deleted_first(session, *args, **more):
        session.rollback()
        connections.delete(world.resources, Actor.person(world.alice), connection.id)
        return real(session, *args, **more)

    monkeypatch.setattr(connections, "save", deleted_first)
    answer = alice.post_form(f"/connections/{connection.id}", {**FORM, "connection-version": "1"})
    assert answer.status_code == 410
    assert inputs(answer.text)["connection-name"] == "Shop"


def test_blanks_at_the_ends_are_kept_and_told(alice, world):
    alice.post_form("/connections/new", {**FORM, "connection-client_id": "client "}, follow_redirects=True)
    assert world.all(Connection)[0].client_id == "client "


def test_a_second_press_soon_after_the_first_says_why_nothing_more_happens(app, world):
    connection = world.connection()
    world.authorize(connection)
    oscar = world.client(world.oscar)
    press = {"headers": {"HX-Request": "true"}}
    assert "Refresh asked for." in oscar.post_form(f"/connections/{connection.id}/refresh", **press).text
    again = oscar.post_form(f"/connections/{connection.id}/refresh", **press).text
    assert "Refresh asked for." not in again
    assert "It is being refreshed already; that refresh serves." in again
    world.set_token(connection, next_refresh_at=utc_now() + timedelta(hours=1))
    over = oscar.post_form(f"/connections/{connection.id}/refresh", **press).text
    assert "Nothing was sent: by hand, that goes once in 30 seconds" in over
    assert 'data-flash="info"' in over


def test_refresh_now_is_offered_only_where_it_can_do_something(app, world):
    connection = world.connection()
    world.authorize(connection)
    oscar = world.client(world.oscar)
    address = f"/connections/{connection.id}"
    assert "Refresh now" in oscar.get(f"{address}/status").text
    assert world.client(world.alice).post_form(f"{address}/disconnect").status_code == 303
    assert "Refresh now" not in oscar.get(f"{address}/status").text


def test_the_list_comes_a_page_at_a_time_by_name_and_is_searched(world, app, monkeypatch):
    monkeypatch.setattr(overview, "PAGE_SIZE", 2)
    oscar = world.client(world.oscar)
    rows = [world.connection(name=name, state=state) for name, state in STANDING.items()]
    world.authorize(rows[0], refresh_token=None)
    world.card(connection=rows[0], title="Orders of a customer")
    first, second = oscar.get("/connections").text, oscar.get("/connections?page=2").text
    shown = [[name for name in STANDING if f">{name}</a>" in html] for html in (first, second)]
    assert shown == [["Alpha", "Beta"], ["Gamma"]]
    assert "Orders of a customer" in first
    assert "not planned" in first
    assert ('rel="next"' in first, 'rel="next"' in second) == (True, False)
    found = oscar.get("/connections?text=GAM").text
    assert [name for name in STANDING if f">{name}</a>" in found] == ["Gamma"]
    assert "No connection fits" in oscar.get("/connections?text=%00none").text


STANDING = {
    "Alpha": ConnectionState.ACTIVE,
    "Beta": ConnectionState.REAUTH_REQUIRED,
    "Gamma": ConnectionState.DEGRADED,
}

"""The pages of cards: what each role sees, what a refused form keeps, what two tabs do."""

import dataclasses
import html
import re

import pytest

from models import AuditEntry, Card, CardHeader, Connection, ConnectionState
from services.setup import connections
from tests.support.browserless import path_of

FORM = {
    "title": "Orders",
    "hook_url": "https://api.example.com/orders?email={{customer_email}}",
    "method": "GET",
    "authorization": "oauth",
    "connection_id": "new",
    "shown_connection": "new",
    "template_content": "<p>{{ customer.name }}</p>",
    "version": "0",
    "connection-version": "0",
    "connection-name": "Shop",
    "connection-grant_type": "authorization_code",
    "connection-client_id": "client",
    "connection-client_secret": "typed-canary-secret",
    "connection-scope": "orders.read",
    "connection-authorization_endpoint": "https://login.example.com/authorize",
    "connection-token_endpoint": "https://login.example.com/token",
    "connection-token_endpoint_auth_method": "automatic",
    "connection-pkce": "y",
}


@pytest.fixture
def alice(app, world):
    return world.client(world.alice)


def inputs(page):
    """name → value of every input on a page, as a browser would send them."""
    found = {}
    for tag in re.findall(r"<input [^>]*>", page):
        attributes = dict(re.findall(r'([\w-]+)="([^"]*)"', tag))
        if "name" in attributes and (attributes.get("type") != "checkbox" or " checked" in tag):
            found[html.unescape(attributes["name"])] = html.unescape(attributes.get("value", ""))
    return found


def test_a_card_with_a_new_connection_is_made_from_one_form(alice, world):
    answer = alice.post_form("/cards/new", FORM)
    card = world.all(Card)[0]
    assert answer.status_code == 303
    assert path_of(answer.location) == f"/cards/{card.id}"
    assert world.all(Connection)[0].id == card.connection_id


def test_a_refused_form_loses_nothing_and_shows_no_secret(alice, world):
    answer = alice.post_form("/cards/new", {**FORM, "title": "", "connection-token_endpoint": "http://x"})
    page = answer.text
    assert answer.status_code == 422
    assert "Token Endpoint must start with https://" in page
    assert "Give the card a title" in page
    assert "typed-canary-secret" not in page
    kept = inputs(page)
    assert kept["connection-scope"] == "orders.read"
    again = {
        **FORM,
        "connection-client_secret": "",
        "connection-client_secret-kept": kept["connection-client_secret-kept"],
    }
    assert alice.post_form("/cards/new", again).status_code == 303
    assert world.all(Connection)[0].client_id == "client"


def test_a_kept_secret_opens_for_nobody_else(alice, world):
    kept = inputs(alice.post_form("/cards/new", {**FORM, "title": ""}).text)["connection-client_secret-kept"]
    gus = world.client(world.gus)
    answer = gus.post_form(
        "/cards/new", {**FORM, "connection-client_secret": "", "connection-client_secret-kept": kept}
    )
    assert answer.status_code == 422
    assert "Enter the Client secret" in answer.text


def test_changing_the_flow_keeps_what_was_typed(alice):
    changed = {**FORM, "connection-grant_type": "client_credentials", "connection-audience": "https://api"}
    page = alice.post_form("/cards/fields", changed, headers={"HX-Request": "true"}).text
    assert "Audience" in page
    kept = inputs(page)
    assert kept["connection-client_id"] == "client"
    assert kept["connection-pkce"] == "y"
    assert kept["connection-client_secret-kept"]
    back = {**FORM, **kept, "connection-grant_type": "authorization_code", "connection-client_secret": ""}
    assert inputs(alice.post_form("/cards/fields", back, headers={"HX-Request": "true"}).text)["connection-pkce"] == "y"


def test_without_htmx_the_fields_come_as_a_whole_page(alice):
    page = alice.post_form("/cards/fields", {**FORM, "connection-grant_type": "client_credentials"}).text
    assert "<!doctype html>" in page
    assert inputs(page)["title"] == "Orders"


def test_header_rows_are_added_and_removed_without_losing_the_others(alice):
    rows = {"headers-0-name": "Accept", "headers-0-value": "text/x", "headers-1-name": "X-Two", "headers-1-value": "2"}
    added = inputs(alice.post_form("/cards/fields", {**FORM, **rows, "add_header": "1"}).text)
    assert "headers-2-name" in added
    removed = inputs(alice.post_form("/cards/fields", {**FORM, **rows, "remove_header": "0"}).text)
    assert removed["headers-0-name"] == "X-Two"
    assert "headers-1-name" not in removed


def test_choosing_another_connection_brings_its_own_values(alice, world):
    connection = world.connection(client_id="the stored client")
    form = {**FORM, "connection_id": str(connection.id)}
    page = alice.post_form("/cards/fields", form, headers={"HX-Request": "true"}).text
    assert inputs(page)["connection-client_id"] == "the stored client"


def offered(page):
    """Words of the choices in the list of connections."""
    return re.findall(
        r"<option[^>]*>([^<]*)</option>", page.partition('id="connection_id"')[2].partition("</select>")[0]
    )


def test_of_many_connections_some_are_listed_and_the_others_looked_for(alice, world, monkeypatch):
    monkeypatch.setattr(connections, "MOST_OFFERED", 2)
    rows = {name: world.connection(name=name) for name in ("Alpha", "Beta", "Gamma 100%", "Gamma 2")}
    chosen = str(rows["Beta"].id)
    form = {**FORM, "connection_id": chosen, "shown_connection": chosen, "connection-client_id": "typed meanwhile"}
    page = alice.post_form("/cards/fields", form).text
    assert offered(page) == ["New connection", "Alpha", "Beta"]
    assert "Only the first ones that fit" in page
    found = alice.post_form(
        "/cards/fields", {**form, "find_connection": " gamma "}, headers={"HX-Request": "true"}
    ).text
    assert offered(found) == ["New connection", "Beta", "Gamma 100%", "Gamma 2"]
    assert (inputs(found)["find_connection"], inputs(found)["found_for"]) == ("gamma", "gamma")
    assert inputs(found)["connection-client_id"] == "typed meanwhile"
    for text, names in (("100%", ["Beta", "Gamma 100%"]), ("0_", ["Beta"]), ("%", ["Beta", "Gamma 100%"])):
        assert offered(alice.post_form("/cards/fields", {**form, "find_connection": text}).text)[1:] == names
    card = world.card(connection=rows["Gamma 2"])
    assert offered(alice.get(f"/cards/{card.id}").text) == ["New connection", "Gamma 2", "Alpha", "Beta"]


def test_a_few_connections_are_all_listed_and_nothing_is_looked_for(alice, world):
    names = [world.connection(name=name).name for name in ("Alpha", "Beta")]
    page = alice.post_form("/cards/fields", FORM).text
    assert offered(page) == ["New connection", *names]
    assert "find_connection" not in page


def test_enter_in_the_search_for_a_connection_saves_nothing(alice, world):
    world.connection(name="Alpha")
    typed = {**FORM, "find_connection": "alp", "entered": "1"}
    reply = alice.post_form("/cards/new", typed)
    assert (reply.status_code, offered(reply.text)) == (200, ["New connection", "Alpha"])
    assert world.all(Card) == []
    assert alice.post_form("/cards/new", {**typed, "found_for": "alp"}).status_code == 303
    assert len(world.all(Card)) == 1


def test_values_typed_for_one_connection_never_reach_another(alice, world):
    connection = world.connection(client_id="the stored client")
    alice.post_form("/cards/new", {**FORM, "connection_id": str(connection.id)})
    assert world.reread(connection).client_id == "the stored client"


def test_two_tabs_are_told_about_each_other(alice, world):
    card = world.card(title="Before")
    form = {**FORM, "authorization": "none", "version": "1", "hook_url": "https://api.example.com/"}
    assert alice.post_form(f"/cards/{card.id}", {**form, "title": "Theirs"}).status_code == 303
    answer = alice.post_form(f"/cards/{card.id}", {**form, "title": "Mine"})
    assert answer.status_code == 409
    assert "Theirs" in answer.text
    assert inputs(answer.text)["title"] == "Mine"
    again = {**form, "title": "Mine", "version": inputs(answer.text)["version"]}
    assert alice.post_form(f"/cards/{card.id}", again).status_code == 303
    assert world.reread(card).title == "Mine"


def test_saving_a_card_that_another_tab_deleted_says_so_and_gives_everything_back(alice, world):
    card = world.card(title="Before", headers={"X-Api-Key": "stored"})
    (header,) = world.all(CardHeader)
    alice.post_form(f"/cards/{card.id}/delete")
    row = {"headers-0-row_id": str(header.id), "headers-0-name": "X-Api-Key", "headers-0-value": "typed-canary-key"}
    typed = {**FORM, **row, "title": "Mine", "version": "1", "card_id": str(card.id)}
    answer = alice.post_form(f"/cards/{card.id}", {**typed, "workspace_id": str(world.acme.id)})
    assert answer.status_code == 410
    assert "You deleted this card in another tab or window" in answer.text
    assert "canary" not in answer.text
    assert world.all(Card) == []
    assert alice.post_form("/cards/fields", typed).text.count("You deleted this card") == 1
    again = {**typed, **inputs(answer.text), "connection-client_secret": "", "headers-0-value": ""}
    again.pop("csrf_token")
    assert alice.post_form("/cards/new", again).status_code == 303
    assert [(made.title, made.id == card.id) for made in world.all(Card)] == [("Mine", False)]
    (kept,) = world.all(CardHeader)
    assert kept.unseal("value", world.resources.database.keyring).get_secret_value() == "typed-canary-key"


def test_saving_a_card_whose_connection_another_tab_deleted_makes_none_unasked_and_loses_nothing(alice, world):
    connection = world.connection(name="Shop")
    card = world.card(title="Before", connection=connection)
    alice.post_form(f"/connections/{connection.id}/delete")
    mine = {"connection_id": str(connection.id), "shown_connection": str(connection.id), "version": str(card.version)}
    typed = {**FORM, **mine, "title": "Mine", "connection-scope": "typed.scope"}
    answer = alice.post_form(f"/cards/{card.id}", typed)
    assert answer.status_code == 410
    assert "You deleted the connection Shop in another tab or window" in answer.text
    assert world.all(Connection) == []
    kept = inputs(answer.text)
    assert (kept["connection-scope"], kept["title"]) == ("typed.scope", "Mine")
    assert (kept["version"], kept["shown_connection"]) == (str(world.reread(card).version), "new")
    again = {**typed, **kept, "connection_id": "new", "connection-client_secret": ""}
    again.pop("csrf_token")
    assert alice.post_form(f"/cards/{card.id}", again).status_code == 303
    (made,) = world.all(Connection)
    assert (world.reread(card).connection_id, made.scope) == (made.id, "typed.scope")


@pytest.mark.sqlite_only
def test_a_value_typed_as_a_secret_stays_one_when_the_tick_is_taken_away(alice, world):
    row = {"headers-0-name": "X-Shop", "headers-0-value": "typed-canary-header", "headers-0-secret": "y"}
    plain = {**FORM, "connection_id": "", "authorization": "none", **row}
    kept = inputs(alice.post_form("/cards/new", {**plain, "title": ""}).text)["headers-0-value-kept"]
    again = {**plain, "headers-0-value": "", "headers-0-value-kept": kept}
    again.pop("headers-0-secret")
    assert "canary-header" not in alice.post_form("/cards/new", {**again, "title": ""}).text
    assert alice.post_form("/cards/new", again).status_code == 303
    (header,) = world.all(CardHeader)
    assert header.secret
    assert header.unseal("value", world.resources.database.keyring).get_secret_value() == "typed-canary-header"


def test_stored_secrets_are_on_no_page(alice, world):
    connection = world.connection(secret="stored-canary-one")
    card = world.card(connection=connection, headers={"X-Api-Key": "stored-canary-two"})
    page = alice.get(f"/cards/{card.id}").text
    assert "stored-canary" not in page
    assert "Set on" in page


def test_a_new_card_goes_to_the_workspace_its_form_was_opened_in(alice, world):
    form = {**FORM, "authorization": "none", "workspace_id": str(world.acme.id)}
    alice.post_form("/cards/new", form)
    assert world.all(Card)[0].workspace_id == world.acme.id


def test_a_form_cannot_put_a_card_into_a_foreign_workspace(alice, world):
    form = {**FORM, "authorization": "none", "workspace_id": str(world.globex.id)}
    assert alice.post_form("/cards/new", form).status_code == 404
    assert world.all(Card) == []


def test_fields_nobody_asked_for_have_no_effect_and_are_logged(alice, world, caplog):
    strangers = {"id": str(world.globex.id), "role": "owner", "connection-state": "active", "connection-id": "x"}
    strangers |= {"connection-api_hosts": "evil.example", "created_at": "2020-01-01", "connection-authorized_by": "x"}
    with caplog.at_level("INFO"):
        alice.post_form("/cards/new", {**FORM, **strangers})
    connection = world.all(Connection)[0]
    assert connection.state is ConnectionState.CONFIGURED
    assert connection.api_hosts == ["api.example.com"]
    noted = str([record.msg for record in caplog.records])
    assert all(name in noted for name in strangers)
    assert "evil.example" not in noted


def test_an_agent_sees_the_card_and_no_editor(app, world):
    card = world.card(title="For agents")
    ann = world.client(world.ann)
    assert "For agents" in ann.get("/cards").text
    page = ann.get(f"/cards/{card.id}").text
    assert "Preview" in page
    assert "Hook URL" not in page
    assert ann.get("/cards/new").status_code == 403
    assert ann.post_form(f"/cards/{card.id}", FORM).status_code == 403


def test_deleting_asks_first_and_says_what_breaks(alice, world):
    connection = world.connection(name="Shop")
    card = world.card(connection=connection, headers={"X-Api-Key": "s"})
    world.card(connection=connection, title="The other one")
    page = alice.get(f"/cards/{card.id}/delete").text
    assert "The other one" in page
    assert alice.post_form(f"/cards/{card.id}/delete").status_code == 303
    assert world.reread(card) is None
    assert world.all(CardHeader) == []
    assert world.reread(connection) is not None
    assert "card.deleted" in [entry.action for entry in world.all(AuditEntry)]


VALUES = ("", "\x00", "x" * 100_000, "\u202e", "{{", "{% raw %}", "' OR 1=1", "-1", "ünï", "y", "new")


@pytest.mark.sqlite_only
@pytest.mark.parametrize("field", [*FORM, "headers-0-name", "headers-0-value", "headers-999999-name", "remove_header"])
def test_no_value_in_any_field_breaks_the_page(alice, field):
    for value in VALUES:
        for address in ("/cards/new", "/cards/fields"):
            assert alice.post_form(address, {**FORM, field: value}).status_code in (200, 303, 404, 413, 422), value


BAD_ADDRESSES = (
    "https://x:99999/",
    "https://x:port/",
    "https://[::1",
    "https://[v1.x]/",
    "https://@/",
    "//x",
    "http://10.0.0.1/",
    "https://user:pass@api.example.com/",
    "javascript:alert(1)",
    "https://api.example.com/#part",
    "https://api.example.com\\@evil.example",
    "https://2130706433/",
    "ftp://api.example.com/",
    "https://",
    "https://exa mple.com/",
    "https://\u24d4xample.com/",
)


@pytest.mark.sqlite_only
def test_no_bad_address_in_any_field_is_saved_or_breaks_the_page(alice, world):
    card = world.card(connection=world.connection())
    stored = {**FORM, "connection_id": str(card.connection_id), "shown_connection": str(card.connection_id)}
    for field in ("hook_url", "connection-authorization_endpoint", "connection-token_endpoint"):
        for bad in BAD_ADDRESSES:
            for address, form in (("/cards/new", FORM), (f"/cards/{card.id}", {**stored, "version": "1"})):
                answer = alice.post_form(address, {**form, field: bad})
                assert (answer.status_code, "aria-invalid" in answer.text) == (422, True), (field, bad)


def test_a_second_example_does_not_collide_with_the_first(alice, world, resources, monkeypatch):
    offered = resources.settings.model_copy(update={"rehearsal_url": "http://localhost:8001"})
    monkeypatch.setitem(alice.application.extensions, "cardkey", dataclasses.replace(resources, settings=offered))
    first = inputs(alice.get("/cards/new?example=code").text)["connection-name"]
    world.connection(name=first)
    second = inputs(alice.get("/cards/new?example=code").text)["connection-name"]
    assert (first, second) == ("Rehearsal provider", "Rehearsal provider 2")


@pytest.mark.sqlite_only
def test_authorize_leads_back_to_the_card_wherever_its_page_was_made(alice, world):
    card = world.card(connection=world.connection())
    form = {**FORM, "card_id": str(card.id), "connection_id": str(card.connection_id)}
    page = alice.post_form("/cards/fields", {**form, "shown_connection": str(card.connection_id)}).text
    assert inputs(page)["return_to"] == f"/cards/{card.id}"

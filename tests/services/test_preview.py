"""A preview makes the real call with the real token, says what happened in words, and gives no secret away."""

import functools
import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug.wrappers import Request, Response

import outbound
from models import CardAuthorization, CardHeader, CardPreview, ConnectionState, Refresh
from oauth.vocabulary import FailureClass, GrantType
from services.calling import preview
from services.calling.call_failures import Problem
from services.errors import NotFound

EMAIL = {"customer_email": "ada@example.com"}
ORDERS = "/api/orders?email={{customer_email}}"
HEADER_SECRET = "header-secret-5fXq1"


@pytest.fixture
def run(resources, world):
    def run(card, values=EMAIL, template=None, user=None):
        return preview.run(resources, card.id, user or world.alice, values, template)

    return run


@pytest.fixture
def html(resources):
    """The rendered card of a preview."""

    def html(result):
        with resources.database.session() as session:
            row = session.get(CardPreview, result.frame_id)
            return row.unseal("html", resources.database.keyring).get_secret_value()

    return html


@pytest.fixture
def connected(world, provider):
    """A connection with a token of the provider's own."""
    connection = world.connection()
    world.consent(connection)
    return connection


def set_columns(resources, row, **columns):
    with resources.database.session(writing=True) as session:
        stored = session.get(type(row), row.id)
        for name, value in columns.items():
            setattr(stored, name, value)
        session.add(stored)
        session.commit()


def answer_with(stub, reply, path="/data"):
    stub.expect_request(path).respond_with_handler(lambda _request: reply)


def card_at(world, stub_address, **columns):
    return world.card(hook_url=f"http://{stub_address}/data", **columns)


def test_the_real_api_is_called_with_the_real_token_and_its_reply_rendered(world, connected, run, html):
    card = world.card(connection=connected)
    result = run(card)
    assert result.failure is None
    assert (result.status, result.notes) == (200, ())
    assert html(result) == "<h1>Ada Lovelace</h1>"
    assert result.elapsed_ms >= 0


def test_the_request_is_shown_as_sent_with_its_secrets_starred(world, connected, provider, run):
    card = world.card(connection=connected, headers={"X-Api-Key": HEADER_SECRET})
    result = run(card)
    shown = dict(result.request.headers)
    assert result.request.method == "GET"
    assert result.request.url == f"{provider.url}/api/orders?email=ada%40example.com"
    assert (shown["Authorization"], shown["X-Api-Key"]) == ("Bearer •••", "•••")
    everything = repr(result)
    token = world.access_token(connected)
    assert HEADER_SECRET not in everything
    assert not [place for place in range(len(token) - 5) if token[place : place + 6] in everything]


def test_an_open_header_is_shown_as_it_is_and_sent(world, stub, stub_address, resources, run):
    stub.expect_request("/data", headers={"X-Shop": "north ada@example.com"}).respond_with_json({"ok": True})
    card = card_at(world, stub_address)
    row = CardHeader(workspace_id=card.workspace_id, card_id=card.id, name="X-Shop")
    with resources.database.session(writing=True) as session:
        row.seal("value", SecretStr("north {{customer_email}}"), resources.database.keyring)
        session.add(row)
        session.commit()
    result = run(card)
    assert result.status == 200
    assert dict(result.request.headers)["X-Shop"] == "north ada@example.com"


def test_a_stored_authorization_header_is_sent_and_starred(world, stub, stub_address, resources, run):
    stub.expect_request("/data", headers={"Authorization": "Basic YWRhOmxvdmVsYWNl"}).respond_with_json({"ok": True})
    card = card_at(world, stub_address, authorization=CardAuthorization.HEADER)
    with resources.database.session(writing=True) as session:
        stored = session.get(type(card), card.id)
        stored.seal("authorization_header", SecretStr("Basic YWRhOmxvdmVsYWNl"), resources.database.keyring)
        session.add(stored)
        session.commit()
    result = run(card)
    assert result.status == 200
    assert dict(result.request.headers)["Authorization"] == "Basic •••"


def test_an_authorization_header_without_a_value_says_so(world, stub, stub_address, run):
    result = run(card_at(world, stub_address, authorization=CardAuthorization.HEADER))
    assert result.failure.failure_class is Problem.SECRET_MISSING
    assert not stub.log


def test_an_api_that_echoes_the_token_gets_it_neither_shown_nor_rendered(world, stub, stub_address, run, html):
    def echo(request: Request):
        sent = request.headers["Authorization"]
        return Response(
            json.dumps({"headers": {"Authorization": sent}, sent.split()[1]: 1}), content_type="application/json"
        )

    stub.expect_request("/data").respond_with_handler(echo)
    connection = world.connection(api_hosts=[stub_address])
    world.authorize(connection, access_token="echoed-token-9f3Kq2")
    result = run(card_at(world, stub_address, connection=connection, template_content="{{ data }}"))
    assert result.failure is None
    assert "echoed-token-9f3Kq2" not in repr(result)
    assert "echoed-token-9f3Kq2" not in html(result)
    assert "•••" in html(result)


def test_a_token_that_an_api_encodes_or_a_template_joins_is_starred_on_the_card(world, stub, stub_address, run, html):
    token = "AtCanary+x/y9Zq4Wm2"

    def echo(_request: Request):
        spelled = token.replace("+", "&#43;").replace("/", "&#x2F;")
        pieces = [token[at : at + 7] for at in range(0, len(token), 7)]
        found = {"spelled": spelled, "spaced": token.replace("+", " "), "short": token[:-2], "pieces": pieces}
        return Response(json.dumps(found), content_type="application/json")

    stub.expect_request("/data").respond_with_handler(echo)
    connection = world.connection(api_hosts=[stub_address])
    world.authorize(connection, access_token=token)
    template = "<p>{{ spelled }} {{ spaced }} {{ short }}</p>{% for one in pieces %}<b>{{ one }}</b>{% endfor %}"
    result = run(card_at(world, stub_address, connection=connection, template_content=template))
    assert html(result) == "<p>••• ••• •••</p><b>•••</b><b>•••</b><b>•••</b>"
    assert [node.text for node in result.body.tree.root.children[:3]] == ['"•••"'] * 3


def test_a_template_that_prints_everything_prints_the_reply_alone(world, connected, resources, run, html):
    everything = (
        "{{ data | json }}{% for pair in data %}{{ pair }}{% endfor %}{{ settings }}{{ config }}{{ headers }}{{ self }}"
        "{{ token }}{{ request }}{{ environ }}{{ secrets }}{{ connection }}{{ access_token }}{{ data.__class__ }}"
    )
    card = world.card(connection=connected, headers={"X-Api-Key": HEADER_SECRET}, template_content=everything)
    result = run(card)
    rendered = html(result)
    assert "Ada Lovelace" in rendered
    hidden = [world.access_token(connected), world.refresh_token(connected), HEADER_SECRET, "Bearer"]
    hidden += [resources.settings.secret_key.get_secret_value(), resources.settings.encryption_keys.get_secret_value()]
    assert not [secret for secret in hidden if secret in rendered]


def test_an_expired_token_is_refreshed_on_the_way_and_the_preview_says_so(world, connected, provider, run):
    world.consent(connected, lifetime=0.01)
    time.sleep(0.02)
    result = run(world.card(connection=connected))
    assert result.failure is None
    assert "The token had expired and was refreshed on the way." in result.notes
    assert provider.hits() == 1


def test_a_token_the_api_turns_down_is_refreshed_once_and_the_call_repeated_once(world, connected, provider, run):
    before = world.token(connected).generation
    provider.control(behaviours={"api": "401_once"})
    result = run(world.card(connection=connected))
    assert result.failure is None
    assert result.status == 200
    assert ["turned the token down" in note for note in result.notes] == [True]
    assert (provider.hits(), provider.counts["api"]) == (1, 2)
    assert world.token(connected).generation == before + 1


def test_an_api_that_always_says_401_is_asked_twice_and_no_more(world, stub, stub_address, provider, run):
    stub.expect_request("/data").respond_with_json({"message": "who are you?"}, status=401)
    connection = world.connection(api_hosts=[stub_address])
    world.consent(connection)
    result = run(card_at(world, stub_address, connection=connection))
    assert (len(stub.log), provider.hits()) == (2, 1)
    assert result.failure.failure_class is Problem.UNAUTHORIZED
    assert result.failure.failure_said == "who are you?"
    assert result.body.tree.root.children[0].text == '"who are you?"'


def test_a_401_without_anything_to_renew_the_token_with_sends_nothing_to_the_provider(
    world, stub, stub_address, provider, run
):
    stub.expect_request("/data").respond_with_json({}, status=401)
    connection = world.connection(api_hosts=[stub_address])
    world.authorize(connection, refresh_token=None)
    result = run(card_at(world, stub_address, connection=connection))
    assert len(stub.log) == 1
    assert result.failure.failure_class is Problem.UNAUTHORIZED
    assert world.reread(connection).state is ConnectionState.ACTIVE
    assert world.all(Refresh) == []


def test_client_credentials_that_ran_out_get_a_new_token(world, provider, run):
    connection = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    world.authorize(connection, lifetime=0.01, refresh_token=None)
    time.sleep(0.02)
    result = run(world.card(connection=connection))
    assert result.failure is None
    assert provider.hits("client_credentials") == 1


def test_a_refresh_that_the_provider_refuses_names_the_step_and_keeps_the_request(world, provider, run):
    connection = world.connection()
    world.authorize(connection, lifetime=0.01, refresh_token="revoked")
    time.sleep(0.02)
    result = run(world.card(connection=connection))
    assert result.failure.failure_step == "token"
    assert result.failure.failure_class is FailureClass.GRANT_DEAD
    assert result.request.url.startswith(provider.url)
    assert result.reply_headers == ()
    again = run(world.card(connection=connection))
    assert again.failure.failure_class is FailureClass.GRANT_DEAD
    assert provider.hits() == 1, "a dead grant is tried once"


@pytest.mark.parametrize(
    ("state", "problem"),
    [
        (ConnectionState.CONFIGURED, Problem.NOT_AUTHORIZED),
        (ConnectionState.DISCONNECTED, Problem.NOT_AUTHORIZED),
        (ConnectionState.PAUSED, Problem.PAUSED),
    ],
)
@pytest.mark.sqlite_only
def test_a_connection_that_is_not_authorized_is_not_used(world, stub, stub_address, run, state, problem):
    connection = world.connection(
        grant_type=GrantType.CLIENT_CREDENTIALS,
        state=state,
        api_hosts=[stub_address],
        token_endpoint=f"http://{stub_address}/token",
    )
    result = run(card_at(world, stub_address, connection=connection))
    assert (result.failure.failure_step, result.failure.failure_class) == ("connection", problem)
    assert not stub.log


def test_the_token_goes_to_the_hosts_of_its_connection_and_nowhere_else(world, stub, stub_address, run):
    connection = world.connection(api_hosts=["api.example"])
    world.authorize(connection)
    result = run(card_at(world, stub_address, connection=connection))
    assert result.failure.failure_class is Problem.WRONG_HOST
    assert stub_address in str(result.failure)
    assert not stub.log


@pytest.mark.sqlite_only
def test_another_port_is_another_host_for_the_token(world, stub, stub_address, run):
    connection = world.connection(api_hosts=[stub.host, f"{stub.host}:{stub.port + 1}"])
    world.authorize(connection)
    assert run(card_at(world, stub_address, connection=connection)).failure.failure_class is Problem.WRONG_HOST
    assert not stub.log


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.sqlite_only
def test_a_redirect_is_named_and_not_followed(world, stub, stub_address, run, status):
    location = f"http://{stub_address}/elsewhere?key=hidden"
    answer_with(stub, Response(status=status, headers={"Location": location}))
    result = run(card_at(world, stub_address))
    assert result.failure.failure_class is Problem.REDIRECT
    assert stub.host in str(result.failure)
    assert "hidden" not in repr(result)
    assert len(stub.log) == 1


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (400, Problem.REFUSED),
        (401, Problem.UNAUTHORIZED),
        (403, Problem.FORBIDDEN),
        (404, Problem.NOT_FOUND),
        (429, Problem.THROTTLED),
        (500, Problem.API_BROKEN),
        (599, Problem.API_BROKEN),
    ],
)
@pytest.mark.sqlite_only
def test_a_refusal_is_sorted_and_the_reply_shown_all_the_same(world, stub, stub_address, run, status, problem):
    answer_with(stub, Response(json.dumps({"message": "not today"}), status=status, content_type="application/json"))
    result = run(card_at(world, stub_address))
    assert (result.failure.failure_class, result.failure.failure_step) == (problem, "reply")
    assert (result.failure.failure_said, result.status) == ("not today", status)
    assert result.frame_id is None
    assert result.body.tree is not None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Sign in</html>", "not JSON"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 500 + b"]" * 500, "nested too deeply"),
        (b"9" * 5000, "not usable"),
        (b"\xff\xfe\xfd", "not JSON"),
    ],
)
@pytest.mark.sqlite_only
def test_a_reply_that_is_no_usable_json_is_shown_as_text(world, stub, stub_address, run, body, words):
    answer_with(stub, Response(body, content_type="text/html"))
    result = run(card_at(world, stub_address))
    assert result.failure.failure_class is Problem.NOT_JSON
    assert words in str(result.failure)
    assert result.body.text
    assert "not JSON" in result.body.note


@pytest.mark.parametrize("charset", ["punycode", "idna", "unicode_escape", "hex", "none-such", "utf-8", "latin-1"])
@pytest.mark.sqlite_only
def test_the_reply_cannot_choose_how_slowly_or_oddly_it_is_read(world, stub, stub_address, run, charset):
    answer_with(
        stub, Response(b'{"a": "' + b"x-" * 200_000 + b'"}', content_type=f"application/json; charset={charset}")
    )
    started = time.monotonic()
    assert run(card_at(world, stub_address)).failure is None
    assert time.monotonic() - started < 3


def test_characters_that_cannot_be_stored_are_replaced(world, stub, stub_address, run, html):
    answer_with(stub, Response(rb'{"name": "\ud800 \u0000 \ud83d\ude00"}', content_type="application/json"))
    result = run(card_at(world, stub_address, template_content="{{ name }}"))
    assert html(result) == "\ufffd \ufffd \N{GRINNING FACE}"


def test_a_reply_without_content_is_rendered_with_a_note(world, stub, stub_address, run, html):
    answer_with(stub, Response(status=204))
    result = run(card_at(world, stub_address, template_content="Done{{ nothing }}"))
    assert (html(result), result.status) == ("Done", 204)
    assert preview.NO_CONTENT in result.notes


def test_a_card_without_a_template_shows_the_reply_as_a_table(world, connected, run, html):
    result = run(world.card(connection=connected, template_content=" \n"))
    assert preview.NO_TEMPLATE in result.notes
    assert "<h2>Customer</h2>" in html(result)
    assert "Ada Lovelace" in html(result)


@pytest.mark.sqlite_only
def test_a_template_that_is_not_saved_can_be_tried(world, connected, run, html):
    card = world.card(connection=connected)
    assert html(run(card, template="<p>{{ customer.email }}</p>")) == "<p>ada@example.com</p>"
    assert html(run(card)) == "<h1>Ada Lovelace</h1>"


@pytest.mark.sqlite_only
def test_a_broken_template_names_its_line_and_keeps_the_reply(world, connected, run):
    result = run(world.card(connection=connected), template="fine\n{{ customer | nosuch }}")
    assert (result.failure.failure_step, result.failure.failure_class) == ("template", Problem.TEMPLATE)
    assert str(result.failure).startswith("Line 2, column 15:")
    assert result.status == 200
    assert result.body.tree is not None


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://10.0.0.1/x", Problem.UNREACHABLE),
        ("https://metadata.internal/x", Problem.UNREACHABLE),
        ("http://api.example/x", Problem.BAD_REQUEST),
        ("https://api.example:8443/x", Problem.BAD_REQUEST),
        ("https://api.example/{{nobody}}", Problem.BAD_REQUEST),
        ("https://{{customer_email}}/x", Problem.BAD_REQUEST),
        ("not an address", Problem.BAD_REQUEST),
        ("", Problem.BAD_REQUEST),
    ],
)
def test_an_address_that_may_not_be_called_is_refused_in_words(world, run, url, problem):
    result = run(world.card(hook_url=url))
    assert (result.failure.failure_step, result.failure.failure_class) == ("request", problem)
    assert str(result.failure)


@pytest.mark.sqlite_only
def test_an_api_that_takes_too_long_is_given_up_and_its_request_shown(world, slow_api):
    card = world.card(hook_url=slow_api.url)
    started = time.monotonic()
    result = preview.run(slow_api.resources, card.id, world.alice, {})
    assert time.monotonic() - started < slow_api.resources.settings.call_deadline + 1
    assert (result.failure.failure_step, result.failure.failure_class) == ("reply", Problem.TIMEOUT)
    assert result.request is not None


@pytest.mark.sqlite_only
def test_a_host_without_anybody_listening_is_named(world, stub, stub_address, run):
    card = card_at(world, stub_address)
    stub.stop()
    try:
        assert run(card).failure.failure_class is Problem.UNREACHABLE
    finally:
        stub.start()


@pytest.mark.sqlite_only
def test_a_reply_beyond_the_limit_is_refused(world, stub, stub_address, run):
    answer_with(stub, Response(b"[" + b"1," * 600_000 + b"1]"))
    assert run(card_at(world, stub_address)).failure.failure_class is Problem.TOO_LARGE


@pytest.mark.sqlite_only
def test_a_value_that_would_break_a_header_is_refused_before_anything_is_sent(world, stub, stub_address, run):
    card = card_at(world, stub_address, headers={"X-Customer": "{{customer_email}}"})
    result = run(card, values={"customer_email": "a\r\nHost: evil.example"})
    assert result.failure.failure_class is Problem.BAD_REQUEST
    assert not stub.log


@pytest.mark.sqlite_only
@pytest.mark.parametrize("name", ["Host", "authorization", "Cookie", "Transfer-Encoding", "Proxy-Authorization", "a b"])
def test_a_header_that_is_not_the_cards_to_set_is_refused_even_if_it_was_stored(world, stub, stub_address, run, name):
    result = run(card_at(world, stub_address, headers={name: "x"}))
    assert result.failure.failure_class is Problem.BAD_REQUEST
    assert not stub.log


@pytest.mark.sqlite_only
def test_values_stay_inside_their_place_in_the_url(world, stub, stub_address, run):
    result = run(
        world.card(hook_url=f"http://{stub_address}/c/{{{{csid}}}}/x?e={{{{customer_email}}}}"),
        values={"csid": "../admin?x=1#", "customer_email": "a&b=c@d"},
    )
    assert result.request.url == f"http://{stub_address}/c/..%2Fadmin%3Fx%3D1%23/x?e=a%26b%3Dc%40d"


def test_a_stored_secret_that_cannot_be_read_is_reported_and_nothing_sent(world, stub, stub_address, resources, run):
    card = card_at(world, stub_address, headers={"X-Api-Key": HEADER_SECRET})
    row = world.all(CardHeader, card_id=card.id)[0]
    set_columns(resources, row, value_sealed=row.value_sealed[:-1] + bytes([row.value_sealed[-1] ^ 1]))
    result = run(card)
    assert (result.failure.failure_step, result.failure.failure_class) == ("connection", Problem.SECRET_UNREADABLE)
    assert not stub.log


def test_a_card_keeps_one_rendered_frame_for_each_person(world, connected, run):
    card = world.card(connection=connected)
    first, other = run(card), run(card, user=world.ann)
    second = run(card)
    assert {row.id for row in world.all(CardPreview)} == {other.frame_id, second.frame_id} != {first.frame_id}


def test_what_was_rendered_is_stored_encrypted(world, connected, run):
    run(world.card(connection=connected))
    assert b"Lovelace" not in world.all(CardPreview)[0].html_sealed


def test_a_card_deleted_during_the_call_ends_in_words(world, stub, stub_address, resources, run):
    card = card_at(world, stub_address)

    def delete_it(_request):
        with resources.database.session(writing=True) as session:
            session.delete(session.get(type(card), card.id))
            session.commit()
        return Response("{}", content_type="application/json")

    stub.expect_request("/data").respond_with_handler(delete_it)
    assert run(card).failure.failure_class is Problem.CARD_GONE
    with pytest.raises(NotFound):
        run(card)


@pytest.fixture
def slow_api(resources):
    """An API that answers when it is told to, with several requests at once, and resources that may call it."""
    arrived, go_on = threading.Semaphore(0), threading.Event()

    def wait(_request):
        arrived.release()
        go_on.wait(5)
        return Response("{}", content_type="application/json")

    with HTTPServer(threaded=True) as server:
        server.expect_request("/data").respond_with_handler(wait)
        http = outbound.Client(outbound.Policy.parse(f"{server.host}:{server.port}"))
        yield SimpleNamespace(
            url=server.url_for("/data"), arrived=arrived, go_on=go_on, resources=replace(resources, http=http)
        )
        go_on.set()
        http.close()


@pytest.mark.sqlite_only
def test_a_third_preview_of_a_card_at_once_is_told_that_another_is_running(world, slow_api):
    card, other = world.card(hook_url=slow_api.url), world.card(hook_url=slow_api.url)
    with ThreadPoolExecutor(3) as pool:
        run = functools.partial(preview.run, slow_api.resources, card.id, world.alice, {})
        first, second = pool.submit(run), pool.submit(run)
        assert slow_api.arrived.acquire(timeout=5) and slow_api.arrived.acquire(timeout=5)
        third = run()
        elsewhere = pool.submit(preview.run, slow_api.resources, other.id, world.alice, {})
        assert slow_api.arrived.acquire(timeout=5), "another card is not held up"
        slow_api.go_on.set()
    assert third.failure.failure_class is Problem.BUSY
    assert "Another preview is running" in str(third.failure)
    assert [call.result().failure for call in (first, second, elsewhere)] == [None] * 3
    assert run().failure is None, "places are given back"


@pytest.mark.sqlite_only
def test_a_workspace_has_its_own_limit_over_all_its_cards(world, slow_api):
    few = replace(
        slow_api.resources, settings=slow_api.resources.settings.model_copy(update={"calls_per_workspace": 1})
    )
    mine, ours = world.card(hook_url=slow_api.url), world.card(hook_url=slow_api.url)
    theirs = world.card(world.globex, hook_url=slow_api.url)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(preview.run, few, mine.id, world.alice, {})
        assert slow_api.arrived.acquire(timeout=5)
        refused = preview.run(few, ours.id, world.alice, {})
        other = pool.submit(preview.run, few, theirs.id, world.gus, {})
        assert slow_api.arrived.acquire(timeout=5)
        slow_api.go_on.set()
    assert refused.failure.failure_class is Problem.BUSY
    assert (first.result().failure, other.result().failure) == (None, None)


@pytest.mark.sqlite_only
def test_no_database_connection_is_held_during_the_call(world, stub, stub_address, resources, run):
    seen = []

    def look(_request):
        seen.append(resources.database.engine.pool.checkedout())
        return Response("{}", content_type="application/json")

    stub.expect_request("/data").respond_with_handler(look)
    run(card_at(world, stub_address))
    assert seen == [0]


@pytest.mark.sqlite_only
def test_an_absent_card_is_not_found(resources, world):
    with pytest.raises(NotFound):
        preview.run(resources, uuid.uuid4(), world.alice, {})


@pytest.mark.sqlite_only
def test_agents_get_the_card_and_the_words_without_request_reply_or_what_the_api_said(world, stub, stub_address, run):
    answer_with(stub, Response('{"message": "internal detail"}', status=500, content_type="application/json"))
    shown = run(card_at(world, stub_address)).without_details()
    assert (shown.request, shown.body, shown.reply_headers) == (None, None, ())
    assert shown.failure.failure_class is Problem.API_BROKEN
    assert "internal detail" not in repr(vars(shown.failure))

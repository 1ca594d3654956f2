"""The preview's pages: who may run one, what they see of it, and who may look at the rendered card."""

import re
import uuid

import pytest
from werkzeug.wrappers import Response

from models import CardPreview, Membership
from rendering.frame import FRAME_CSP

HTMX = {"HX-Request": "true"}
FRAME = re.compile(
    r'<iframe sandbox class="preview-frame" title="Card: [^"]+" referrerpolicy="no-referrer"\s+src="([^"]+)"'
)
SECRET = "header-secret-5fXq1"


@pytest.fixture
def card(world, stub, stub_address, app):
    stub.expect_request("/data").respond_with_json({"customer": {"name": "Ada", "note": "<b>bold</b>"}})
    return world.card(
        hook_url=f"http://{stub_address}/data?email={{{{customer_email}}}}",
        headers={"X-Api-Key": SECRET},
        template_content="<h1>{{ customer.name }}</h1>",
        title="Orders & <more>",
    )


def run(client, card, data=None, **kwargs):
    return client.post_form(f"/cards/{card.id}/preview", data, **kwargs)


def frame_of(response):
    return FRAME.search(response.text)[1]


def test_htmx_gets_the_fragment_and_everybody_else_a_page(world, card):
    client = world.client(world.alice)
    fragment, page = run(client, card, headers=HTMX), run(client, card)
    assert (fragment.status_code, page.status_code) == (200, 200)
    assert fragment.text.startswith('<div id="preview"')
    assert "<html" not in fragment.text
    assert "<title>Preview of Orders &amp; &lt;more&gt;" in page.text
    assert frame_of(page)


def test_an_admin_sees_request_and_reply_and_no_secret(world, card, stub_address):
    shown = run(world.client(world.alice), card, headers=HTMX).text
    assert f"GET http://{stub_address}/data?email=ada%40example.com" in shown
    assert "X-Api-Key: •••" in shown
    assert SECRET not in shown
    assert "&#34;&lt;b&gt;bold&lt;/b&gt;&#34;" in shown
    assert "<b>bold" not in shown


@pytest.mark.sqlite_only
@pytest.mark.parametrize("person", ["oscar", "ann"])
def test_operators_and_agents_see_the_card_and_not_how_it_is_made(world, card, stub_address, person):
    shown = run(world.client(getattr(world, person)), card, headers=HTMX).text
    assert frame_of_text(shown)
    for hidden in (stub_address, "X-Api-Key", "Reply headers", "Request as sent", "json-key"):
        assert hidden not in shown


def frame_of_text(text):
    return FRAME.search(text)[1]


@pytest.mark.sqlite_only
def test_what_is_typed_goes_into_the_request(world, card, stub):
    run(world.client(world.ann), card, {"customer_email": "alan@example.com"})
    assert stub.log[0][0].args["email"] == "alan@example.com"


@pytest.mark.sqlite_only
@pytest.mark.parametrize("value", ["x" * 201, "a\nb", "a\u202eb", "a\u0000b"])
def test_a_value_that_cannot_be_used_is_named_at_its_field_and_nothing_is_called(world, card, stub, value):
    response = run(world.client(world.ann), card, {"customer_email": value})
    assert response.status_code == 422
    assert 'href="#customer_email"' in response.text
    assert 'aria-invalid="true"' in response.text
    assert not stub.log


@pytest.mark.sqlite_only
def test_an_admin_may_try_a_template_that_is_not_saved(world, card):
    client = world.client(world.alice)
    response = run(client, card, {"template_content": "<p>tried {{ customer.name }}</p>"}, headers=HTMX)
    assert "<p>tried Ada</p>" in client.get(frame_of(response)).text
    assert world.reread(card).template_content == "<h1>{{ customer.name }}</h1>"


@pytest.mark.sqlite_only
@pytest.mark.parametrize("person", ["oscar", "ann"])
def test_nobody_else_may(world, card, person):
    client = world.client(getattr(world, person))
    response = run(client, card, {"template_content": "<p>tried</p>"}, headers=HTMX)
    assert "<h1>Ada</h1>" in client.get(frame_of(response)).text


@pytest.mark.sqlite_only
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("person", ["alice", "ann"])
def test_a_call_that_fails_is_a_page_with_words(world, stub, stub_address, app, status, person):
    stub.expect_request("/data").respond_with_response(Response('{"message": "raw words"}', status=status))
    response = run(world.client(getattr(world, person)), world.card(hook_url=f"http://{stub_address}/data"))
    assert response.status_code == 200
    assert f"The API answered with status {status}." in response.text
    assert ("raw words" in response.text) == (person == "alice")
    assert "What to do:</strong>" in response.text
    assert ("admin of this workspace can look into it" in response.text) == (person == "ann" and status != 429)


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"null",
        b"[]",
        b"0",
        b'"x"',
        b"<html>",
        b"\xff\xfe",
        b"[" * 5000,
        rb'{"\ud800": "\u0000"}',
        b"{" + b'"a":{' * 90,
    ],
)
@pytest.mark.parametrize("template", ["", "{{ data }}", "{% broken", "\ud83d\ude00 \u0001"])
def test_no_reply_and_no_template_breaks_the_page(world, stub, stub_address, app, reply, template):
    stub.expect_request("/data").respond_with_response(Response(reply))
    card = world.card(
        hook_url=f"http://{stub_address}/data",
        template_content=template.encode("utf-16", "surrogatepass").decode("utf-16"),
    )
    assert run(world.client(world.alice), card).status_code == 200


@pytest.mark.sqlite_only
def test_a_large_reply_is_cut_with_a_note(world, stub, stub_address, app):
    stub.expect_request("/data").respond_with_json([{"number": number, "text": "y" * 60} for number in range(9000)])
    response = run(world.client(world.alice), world.card(hook_url=f"http://{stub_address}/data"))
    assert "more values are left out here." in response.text
    assert len(response.text) < 600_000


def test_the_frame_is_a_document_of_its_own_that_can_do_nothing(world, card):
    client = world.client(world.alice)
    frame = client.get(frame_of(run(client, card)))
    assert frame.status_code == 200
    assert frame.text.endswith("<h1>Ada</h1></body></html>")
    assert frame.headers["Content-Security-Policy"] == FRAME_CSP
    assert FRAME_CSP.startswith("sandbox; default-src 'none';")
    assert "frame-ancestors 'self'" in FRAME_CSP
    assert frame.headers["X-Content-Type-Options"] == "nosniff"
    assert frame.headers["Cache-Control"] == "no-store"
    assert frame.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "X-Frame-Options" not in frame.headers


def test_the_page_around_it_forbids_everything_but_its_own(world, card):
    policy = run(world.client(world.alice), card).headers["Content-Security-Policy"]
    for part in (
        "default-src 'none'",
        "frame-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ):
        assert part in policy
    assert "unsafe" not in policy


def test_a_rendered_card_is_for_the_person_who_asked_and_nobody_else(world, card):
    mine = world.client(world.ann)
    address = frame_of(run(mine, card))
    assert mine.get(address).status_code == 200
    for other in (world.alice, world.oscar, world.gus):
        assert world.client(other).get(address).status_code == 404


@pytest.mark.sqlite_only
def test_who_has_left_the_workspace_sees_no_rendered_card_any_more(world, card, resources):
    client = world.client(world.ann)
    address = frame_of(run(client, card))
    with resources.database.session(writing=True) as session:
        session.delete(session.get_one(Membership, (world.acme.id, world.ann.id)))
        session.commit()
    assert client.get(address).status_code == 404


@pytest.mark.sqlite_only
def test_a_frame_is_found_under_its_own_card_only(world, card):
    client = world.client(world.alice)
    address = frame_of(run(client, card))
    assert client.get(address.replace(str(card.id), str(world.card().id))).status_code == 404
    assert client.get(address.replace(address.rpartition("/")[2], str(uuid.uuid4()))).status_code == 404


@pytest.mark.sqlite_only
def test_an_older_frame_is_gone_after_the_next_preview(world, card):
    client = world.client(world.alice)
    first, second = frame_of(run(client, card)), frame_of(run(client, card))
    assert (client.get(first).status_code, client.get(second).status_code) == (404, 200)


@pytest.mark.sqlite_only
def test_a_frame_that_cannot_be_decrypted_is_not_found(world, card, resources):
    client = world.client(world.alice)
    address = frame_of(run(client, card))
    with resources.database.session(writing=True) as session:
        row = session.get_one(CardPreview, world.all(CardPreview)[0].id)
        row.html_sealed = row.html_sealed[:-1] + bytes([row.html_sealed[-1] ^ 1])
        session.add(row)
        session.commit()
    assert client.get(address).status_code == 404


@pytest.mark.sqlite_only
def test_another_workspace_cannot_preview_the_card(world, card, stub):
    assert run(world.client(world.gus), card).status_code == 404
    assert not stub.log


@pytest.mark.sqlite_only
def test_nobody_previews_without_signing_in_or_without_the_forms_token(world, card, client, stub):
    assert client.post_form(f"/cards/{card.id}/preview").status_code == 303
    assert world.client(world.alice).post(f"/cards/{card.id}/preview").status_code == 400
    assert not stub.log


@pytest.mark.sqlite_only
@pytest.mark.parametrize("person", ["alice", "oscar", "ann"])
def test_the_cards_page_offers_the_preview_with_its_sample_values(world, card, person):
    page = world.client(getattr(world, person)).get(f"/cards/{card.id}").text
    assert 'value="ada@example.com"' in page
    assert re.search(r'<button type="submit">.*?Preview</button>', page, re.DOTALL)
    assert f'hx-post="/cards/{card.id}/preview"' in page
    assert ('hx-include="#template_content"' in page) == (person == "alice")


@pytest.mark.sqlite_only
def test_only_the_values_a_card_uses_are_asked_for(world, stub_address, app):
    card = world.card(hook_url=f"http://{stub_address}/{{{{csid}}}}", headers={"X-Agent": "{{agent_email}}"})
    page = world.client(world.ann).get(f"/cards/{card.id}").text
    assert set(re.findall(r'<input[^>]* name="(\w+)"[^>]*type="text"', page)) == {"csid", "agent_email"}


def test_a_template_that_shows_nothing_is_pointed_out(world, card):
    typed = {"template_content": "<h1>{{ custmer.name }}</h1>"}
    assert "The template showed nothing" in run(world.client(world.alice), card, typed, headers=HTMX).text
    for template in ("<h1>{{ customer.name }}</h1>", '<img src="data:," alt="">', ""):
        shown = run(world.client(world.alice), card, {"template_content": template}, headers=HTMX).text
        assert "The template showed nothing" not in shown


@pytest.mark.sqlite_only
def test_agents_are_not_spoken_of_as_somebody_else(world, card):
    admins, agents = (world.client(who).get(f"/cards/{card.id}").text for who in (world.alice, world.ann))
    assert "as agents will" in admins
    assert "as agents will" not in agents

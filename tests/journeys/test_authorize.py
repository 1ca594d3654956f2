"""Authorize in a real browser: the window, the way without one, and how the page behind learns (PU-01 to PU-05)."""

import re

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr
from sqlmodel import select

from models import ClientSecret, Connection, ConnectionState, Token, User, Workspace
from oauth.grants import GRANTS
from oauth.vocabulary import GrantType
from outbound import origin
from services.engine import tokens
from services.people import sign_in as sign_in_service
from tests.support.provider import CLIENTS

SOON = 2_000
"""Milliseconds within which the page behind has learnt (PU-01)."""


def connection_for(stack, person, grant_type=GrantType.AUTHORIZATION_CODE, **columns):
    """A saved connection of the person's workspace, with the rehearsal provider's values."""
    resources, url = stack.resources, stack.provider.url
    client = CLIENTS["rehearsal-machine" if grant_type is GrantType.CLIENT_CREDENTIALS else "rehearsal-code"]
    with resources.database.session(writing=True) as session:
        workspace = session.exec(select(Workspace).where(Workspace.name == person.workspace)).one()
        row = Connection(
            **{
                "workspace_id": workspace.id,
                "name": f"Shop {grant_type.value}",
                "grant_type": grant_type,
                "refresh_kind": GRANTS[grant_type].refresh_kind,
                "client_id": client.client_id,
                "authorization_endpoint": f"{url}/authorize",
                "token_endpoint": f"{url}/token",
                "issuer": url,
                "scope": "orders.read",
                "state": ConnectionState.CONFIGURED,
                **columns,
            }
        )
        secret = ClientSecret(workspace_id=workspace.id, connection_id=row.id)
        secret.seal("value", SecretStr(client.secret), resources.database.keyring)
        session.add(row)
        session.flush()
        session.add_all((secret, Token(workspace_id=workspace.id, connection_id=row.id, provider_host=origin(url))))
        session.commit()
        return row


@pytest.fixture
def person(stack):
    return stack.person()


@pytest.fixture
def connection(stack, person):
    return connection_for(stack, person)


@pytest.fixture
def shown(page, sign_in, person, connection):
    """The connection's page, seen by its admin."""
    sign_in(page, person)
    page.goto(f"/connections/{connection.id}")
    return page


def authorize(page):
    return page.get_by_role("button", name="Authorize", exact=True)


def agree(window):
    """Sign in at the provider and agree there."""
    window.get_by_role("button", name="Sign in").click()
    window.get_by_role("button", name="Allow").click()


def press(page):
    """Press Authorize; returns the window it opens."""
    with page.expect_popup() as opened:
        authorize(page).click()
    return opened.value


def is_connected(page):
    expect(page.locator("#status").get_by_text("Connected")).to_be_visible(timeout=10_000)


def test_an_admin_authorizes_in_a_window_that_closes_by_itself(shown):
    window = press(shown)
    expect(shown.get_by_text("Waiting for localhost")).to_be_visible()
    with window.expect_event("close"):
        agree(window)
    expect(shown.locator("#status").get_by_text("Connected")).to_be_visible(timeout=SOON)
    expect(shown.locator("#authorization").get_by_text("Authorized")).to_be_visible()


def test_a_blocked_window_goes_on_in_the_same_tab_and_back(shown, connection):
    """PU-04."""
    shown.evaluate("window.open = () => null")
    authorize(shown).click()
    shown.wait_for_url("**/authorize?**")
    agree(shown)
    expect(shown.get_by_role("heading", level=1)).to_have_text("Connected")
    shown.get_by_role("link", name=f"Back to {connection.name}").click()
    shown.wait_for_url(f"**/connections/{connection.id}")
    is_connected(shown)


def test_without_javascript_the_same_tab_leads_there_and_back(new_page, sign_in, person, connection):
    """PU-04."""
    page = sign_in(new_page(java_script_enabled=False), person)
    page.goto(f"/connections/{connection.id}")
    authorize(page).click()
    page.get_by_role("link", name="Continue to localhost").click()
    agree(page)
    expect(page.get_by_role("heading", level=1)).to_have_text("Connected")
    page.get_by_role("link", name=f"Back to {connection.name}").click()
    is_connected(page)


def test_client_credentials_without_javascript_end_on_the_same_kind_of_page(new_page, stack, sign_in, person):
    machine = connection_for(stack, person, GrantType.CLIENT_CREDENTIALS)
    page = sign_in(new_page(java_script_enabled=False), person)
    page.goto(f"/connections/{machine.id}")
    authorize(page).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Connected")


def test_client_credentials_are_reported_in_place(page, stack, sign_in, person):
    machine = connection_for(stack, person, GrantType.CLIENT_CREDENTIALS)
    sign_in(page, person).goto(f"/connections/{machine.id}")
    authorize(page).click()
    is_connected(page)
    assert page.url.endswith(f"/connections/{machine.id}")


def test_a_denial_is_told_in_the_window_and_on_the_page_behind_it(shown, axe):
    window = press(shown)
    window.get_by_role("button", name="Sign in").click()
    window.get_by_role("button", name="Deny").click()
    expect(window.get_by_role("heading", level=1)).to_have_text("Nothing was authorized")
    expect(window.get_by_text("Access was refused at localhost")).to_be_visible()
    assert axe(window) == []
    expect(shown.get_by_text("Access was refused at localhost")).to_be_visible(timeout=SOON)
    assert axe(shown, "#authorization") == []
    with window.expect_event("close"):
        window.get_by_role("button", name="Close this window").click()


def test_a_wrong_state_ends_on_a_page_that_says_so_and_harms_nothing(shown, stack, axe):
    stack.provider.control(behaviours={"authorize": "wrong_state"})
    window = press(shown)
    agree(window)
    expect(window.get_by_text("belongs to no authorization that is under way")).to_be_visible()
    expect(window).to_have_url(f"{stack.url}/auth/provider/callback")
    assert axe(window) == []
    with window.expect_event("close"):
        window.get_by_role("button", name="Close this window").click()
    expect(shown.get_by_text("Waiting for localhost")).to_be_visible()
    stack.provider.control(behaviours={})
    agree_again = press(shown)
    agree_again.get_by_role("button", name="Allow").click()
    is_connected(shown)


def test_a_window_that_is_closed_is_no_answer(shown):
    """PU-02."""
    press(shown).close()
    expect(shown.get_by_text("Waiting for localhost")).to_be_visible()
    shown.wait_for_timeout(3_000)
    expect(shown.get_by_text("Waiting for localhost")).to_be_visible()
    agree(press(shown))
    is_connected(shown)


def test_a_severed_window_may_take_minutes_and_still_succeeds(shown, stack):
    """PU-02: under this header the page behind is told that its window was closed."""
    stack.provider.control(behaviours={"coop": "same-origin"})
    shown.clock.install()
    window = press(shown)
    expect(shown.get_by_text("Waiting for localhost")).to_be_visible()
    window.get_by_role("button", name="Sign in").wait_for()
    for _ in range(4):
        shown.clock.fast_forward("01:00")
        expect(shown.get_by_text("Waiting for localhost")).to_be_visible()
    expect(authorize(shown)).to_be_enabled()
    agree(window)
    is_connected(shown)


def test_an_answer_by_post_from_another_site_arrives(shown, stack):
    stack.provider.control(behaviours={"authorize": "form_post"})
    window = press(shown)
    agree(window)
    window.get_by_role("button", name="Continue").click()
    is_connected(shown)


def test_somebody_signed_out_meanwhile_signs_in_in_the_window_and_it_goes_on(shown, stack, person):
    window = press(shown)
    window.get_by_role("button", name="Sign in").wait_for()
    with stack.resources.database.session(writing=True) as session:
        user = session.exec(select(User).where(User.email == person.email)).one()
        sign_in_service.end_all(session, user.id)
        session.commit()
    agree(window)
    window.get_by_label("Email").fill(person.email)
    window.get_by_label("Password").fill(person.password)
    with window.expect_event("close"):
        window.get_by_role("button", name="Sign in").click()
    shown.reload()
    is_connected(shown)


def test_somebody_signed_out_meanwhile_keeps_what_is_not_saved(shown, stack, person):
    press(shown).close()
    shown.get_by_label("Connection name").fill("A name that took long to find")
    with stack.resources.database.session(writing=True) as session:
        user = session.exec(select(User).where(User.email == person.email)).one()
        sign_in_service.end_all(session, user.id)
        session.commit()
    told = shown.locator("#flashes").get_by_text("You are signed out.")
    expect(told).to_be_visible(timeout=5_000)
    shown.wait_for_timeout(3_000)
    expect(told).to_have_count(1)
    expect(shown.get_by_label("Connection name")).to_have_value("A name that took long to find")


FORGE = """() => {
    const channel = new BroadcastChannel("cardkey-authorization");
    const id = "01234567-89ab-cdef-0123-456789abcdef";
    const bodies = [
        {attempt: id, standing: "succeeded"}, {attempt: "x", standing: "succeeded"}, {attempt: id, standing: "<b>"},
        {attempt: id}, {}, null, "succeeded", 1, [id, "succeeded"], {attempt: id, standing: ["succeeded"]},
    ];
    for (let turn = 0; turn < 50; turn++) {
        const body = bodies[turn % bodies.length];
        channel.postMessage(body);
        if (window.opener) window.opener.postMessage(body, "*");
    }
}"""


def test_forged_messages_change_nothing(shown, stack):
    """PU-03: from another site, and, worse, from a page of our own site."""
    before = shown.locator("#authorization").inner_text()
    with shown.expect_popup() as opened:
        shown.evaluate("(url) => void window.open(url, 'hostile')", f"{stack.provider.url}/")
    opened.value.wait_for_load_state()
    opened.value.evaluate(FORGE)
    own = shown.context.new_page()
    own.goto(f"{stack.url}/healthz")
    own.evaluate(FORGE)
    shown.wait_for_timeout(1_500)
    assert shown.locator("#authorization").inner_text() == before
    expect(shown.locator("#status").get_by_text("Not authorized")).to_be_visible()


def test_messages_carry_an_id_and_a_standing_and_nothing_else(shown, stack):
    """PU-03."""
    listener = shown.context.new_page()
    listener.goto(f"{stack.url}/cards")
    listener.evaluate(
        """() => {
            window.heard = [];
            window.channel = new BroadcastChannel("cardkey-authorization");
            window.channel.onmessage = ({data}) => window.heard.push(data);
        }"""
    )
    agree(press(shown))
    is_connected(shown)
    heard = listener.evaluate("window.heard")
    assert {body["standing"] for body in heard} == {"pending", "succeeded"}
    for body in heard:
        assert set(body) == {"attempt", "standing"}
        assert re.fullmatch(r"[0-9a-f-]{36}", body["attempt"])


def test_the_page_after_the_callback_asks_nobody_else_and_has_no_query(shown, stack):
    """PU-05."""
    stack.provider.control(behaviours={"authorize": "deny"})
    asked = []
    shown.context.on("request", lambda request: asked.append((request, request.url)))
    window = press(shown)
    expect(window.get_by_role("heading", level=1)).to_have_text("Nothing was authorized")
    assert re.fullmatch(rf"{re.escape(stack.url)}/authorization/[0-9a-f-]{{36}}", window.url)
    back = next(place for place, (_request, url) in enumerate(asked) if "/auth/provider/callback" in url)
    assert [url for _request, url in asked[back:] if not url.startswith(stack.url)] == []
    referrers = [request.headers.get("referer", "") for request, _url in asked]
    assert not any("code=" in referrer or "state=" in referrer for referrer in referrers[back:])
    onward = next(request for request, url in asked if url.startswith(f"{stack.provider.url}/authorize"))
    assert "referer" not in onward.headers


def test_two_connections_in_two_tabs_both_finish(shown, stack, person):
    """AC-15."""
    other = connection_for(stack, person, name="Another shop")
    tab = shown.context.new_page()
    tab.goto(f"/connections/{other.id}")
    first, second = press(shown), press(tab)
    agree(second)
    first.reload()
    first.get_by_role("button", name="Allow").click()
    is_connected(shown)
    is_connected(tab)
    with stack.resources.database.session() as session:
        assert tokens.current_token(session, other).generation >= 1


def test_the_waiting_page_and_the_window_are_fit_for_everybody(new_page, sign_in, person, connection, axe):
    page = sign_in(new_page(java_script_enabled=True), person)
    page.goto(f"/connections/{connection.id}")
    page.route("**/authorize?*", lambda route: route.abort())
    page.evaluate("window.open = () => null")
    assert axe(page, "#authorization") == []
    press_again = page.context.new_page()
    press_again.route("**/static/authorize.js", lambda route: route.abort())
    press_again.goto(page.url)
    authorize(press_again).click()
    expect(press_again.get_by_role("link", name="Continue to localhost")).to_be_visible()
    assert axe(press_again) == []
    page.reload()
    expect(page.get_by_text("Waiting for localhost")).to_be_visible()
    assert axe(page, "#authorization") == []


def test_a_callback_with_a_very_long_code_reaches_its_attempt(shown, stack):
    """The code is made up, so the provider refuses it; a web server that cuts addresses never lets it get there."""
    window = press(shown)
    window.get_by_role("button", name="Sign in").wait_for()
    state = re.search(r"[?&]state=([^&]+)", window.url)[1]
    window.goto(f"{stack.url}/auth/provider/callback?state={state}&iss={stack.provider.url}&code={'c' * 4096}")
    expect(window.get_by_text("did not accept the code")).to_be_visible()

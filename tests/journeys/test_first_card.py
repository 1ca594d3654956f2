"""The main job, from the first start to a card that stays connected, in a real browser before real processes."""

import pytest
from playwright.sync_api import expect
from sqlmodel import select

from models import Outcome, Refresh, Workspace
from tests.support import stack as installation
from tests.support.admin import CODE, MACHINE, Admin

LIFETIMES = 10


@pytest.fixture
def person(stack):
    """Somebody with a workspace of their own."""
    return stack.person()


@pytest.fixture
def admin(page, sign_in, person):
    """An admin at work."""
    sign_in(page, person)
    return Admin(page)


def stored(stack, person):
    """How many refreshes of the person's workspace were stored."""
    query = select(Refresh).join(Workspace, Workspace.id == Refresh.workspace_id)
    with stack.resources.database.session() as session:
        return len(
            session.exec(query.where(Workspace.name == person.workspace, Refresh.outcome == Outcome.STORED)).all()
        )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flow", [CODE, MACHINE])
def test_a_newcomer_gets_from_the_set_up_link_to_real_data(tmp_path, browser, flow):
    with installation.serve(tmp_path) as fresh:
        page = browser.new_context(base_url=fresh.url).new_page()
        admin = Admin(page)
        admin.set_up(fresh.setup_link)
        page.get_by_role("link", name=f"rehearsal provider: {flow.lower()}").click()
        admin.save()
        if flow == CODE:
            admin.authorize()
        else:
            page.get_by_role("button", name="Authorize", exact=True).click()
        admin.see_state("Connected")
        admin.preview()
        page.goto(fresh.setup_link)
        expect(page.get_by_text("has been used already")).to_be_visible()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("flow", [CODE, MACHINE])
def test_a_card_left_alone_for_ten_lifetimes_is_still_connected(stack, admin, person, flow):
    admin.make_card(flow)
    if flow == CODE:
        admin.authorize()
    else:
        admin.page.get_by_role("button", name="Authorize", exact=True).click()
    admin.see_state("Connected")
    address = admin.page.url
    before = stored(stack, person)
    admin.page.goto("about:blank")
    admin.page.wait_for_timeout(LIFETIMES * installation.LIFETIME * 1000)
    admin.page.goto(address)
    admin.see_state("Connected")
    admin.preview()
    renewed = stored(stack, person) - before
    assert LIFETIMES <= renewed <= 1.6 * LIFETIMES + 1


def test_an_admin_refreshes_now_and_disconnects(stack, admin):
    admin.make_card(CODE)
    admin.authorize()
    admin.see_state("Connected")
    admin.open_connection()
    admin.page.get_by_role("button", name="Refresh now").click()
    expect(admin.page.locator("#flashes")).to_contain_text("Refresh asked for")
    expect(admin.page.locator("#status")).not_to_contain_text("under way", timeout=10_000)
    admin.page.get_by_role("link", name="Disconnect").click()
    admin.page.get_by_role("button", name="Disconnect").click()
    admin.see_state("Not authorized")
    assert stack.provider.counts["revoked"] >= 1


def test_a_person_who_refuses_is_told_so_on_the_cards_page(admin):
    admin.make_card(CODE)
    admin.authorize("Deny")
    expect(admin.page.locator("#authorization")).to_contain_text("refused", ignore_case=True)
    admin.see_state("Not authorized")


def test_everything_works_at_phone_width(stack, new_page, sign_in):
    page = new_page(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    sign_in(page, stack.person())
    admin = Admin(page)
    admin.make_card(MACHINE)
    page.get_by_role("button", name="Authorize", exact=True).click()
    admin.see_state("Connected")
    admin.preview()
    for address in ("/cards", "/connections", "/operations", "/members", "/audit", "/settings", page.url):
        page.goto(address)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"{address} is {wide} px wider than the phone"


def test_everything_works_without_javascript(stack, new_page, sign_in):
    page = new_page(java_script_enabled=False)
    sign_in(page, stack.person())
    admin = Admin(page)
    admin.fill_in_example(CODE)
    page.get_by_label("Flow").select_option(label="Client Credentials Flow")
    page.get_by_role("button", name="Show the fields of this flow").click()
    expect(page.get_by_label("Client ID")).to_have_value("rehearsal-code")
    page.get_by_label("Flow").select_option(label="Authorization Code Flow")
    page.get_by_role("button", name="Show the fields of this flow").click()
    admin.save()
    page.get_by_role("button", name="Authorize", exact=True).click()
    page.get_by_role("link", name="Continue").click()
    admin.agree(page)
    page.get_by_role("link", name="Back").click()
    admin.see_state("Connected")
    page.get_by_role("button", name="Preview", exact=True).click()
    admin.see_customer()


def test_what_was_typed_survives_a_change_of_flow(admin):
    page = admin.page
    page.goto("/connections/new")
    page.get_by_label("Client ID").fill("an id")
    page.get_by_label("Client secret").fill("a secret")
    page.get_by_label("Flow").select_option(label="Client Credentials Flow")
    expect(page.get_by_label("Audience")).to_be_visible()
    page.get_by_label("Audience").fill("https://api")
    page.get_by_label("Flow").select_option(label="Authorization Code Flow")
    expect(page.get_by_label("Audience")).to_be_hidden()
    expect(page.get_by_label("Client ID")).to_have_value("an id")
    expect(page.get_by_label("Client secret")).to_have_attribute("placeholder", "Filled in, not shown")
    page.get_by_text("Advanced").click()
    expect(page.get_by_label("Audience")).to_have_value("https://api")


def test_axe_finds_nothing_wrong_on_any_page(stack, new_page, sign_in, axe):
    page = new_page()
    sign_in(page, stack.person(is_owner=True))
    admin = Admin(page)
    admin.make_card(MACHINE)
    page.get_by_role("button", name="Authorize", exact=True).click()
    admin.see_state("Connected")
    admin.preview()
    card = page.url
    assert axe(page) == []
    admin.open_connection()
    addresses = [card, page.url, f"{card}/delete", f"{page.url}/delete", f"{page.url}/disconnect"]
    addresses += ["/cards", "/cards/new", "/cards/new?example=code", "/connections", "/connections/new"]
    addresses += ["/operations", "/audit", "/members", "/settings", "/nothing-here"]
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for address in addresses:
            page.goto(address)
            found[scheme, address] = axe(page)
    assert {place: findings for place, findings in found.items() if findings} == {}


def test_what_is_typed_while_other_fields_are_on_their_way_stays(admin):
    page = admin.page
    page.goto("/connections/new")
    page.get_by_label("Client ID").fill("typed before")
    page.route("**/connections/fields", lambda route: (page.wait_for_timeout(700), route.continue_()))
    page.get_by_label("Flow").select_option(label="Client Credentials Flow")
    page.get_by_label("Client ID").fill("typed meanwhile")
    page.get_by_label("Client secret").fill("a secret typed meanwhile")
    page.get_by_label("Scope").fill("orders.read")
    expect(page.get_by_label("Audience")).to_be_visible()
    expect(page.get_by_label("Client ID")).to_have_value("typed meanwhile")
    expect(page.get_by_label("Client secret")).to_have_value("a secret typed meanwhile")
    expect(page.get_by_label("Scope")).to_have_value("orders.read")


def test_the_last_of_two_quick_choices_counts(admin):
    page = admin.page
    page.goto("/cards/new")
    page.get_by_label("Authorization", exact=True).select_option(label="Authorization header")
    page.get_by_label("Authorization", exact=True).select_option(label="OAuth")
    expect(page.get_by_label("Connection name")).to_be_visible()
    page.get_by_label("Flow").select_option(label="Client Credentials Flow")
    page.get_by_label("Flow").select_option(label="Authorization Code Flow")
    page.wait_for_timeout(1500)
    expect(page.get_by_label("Flow")).to_have_value("authorization_code")
    expect(page.get_by_label("Audience")).to_be_hidden()


def test_a_session_that_ends_before_saving_loses_nothing(admin, person, sign_in):
    page = admin.page
    admin.fill_in_example(MACHINE)
    page.get_by_label("Title").fill("Typed before the session ended")
    page.wait_for_load_state("networkidle")  # every reply renews the cookie, so none may be on its way
    page.context.clear_cookies()
    page.get_by_role("button", name="Save configuration").last.click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    expect(page.get_by_label("Title")).to_have_value("Typed before the session ended")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in in another window").click()
    sign_in(opened.value, person)
    opened.value.close()
    admin.save()
    expect(page.get_by_role("heading", name="Typed before the session ended")).to_be_visible()

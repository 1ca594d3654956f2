"""Every page fits every eye, hand and screen: light and dark, phone and desk, keyboard and touch, script or none."""

import pytest
from playwright.sync_api import expect

from models import Role
from tests.support.admin import MACHINE, Admin

SCREENS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}
PAGES = [
    "/cards",
    "/cards/new",
    "/connections",
    "/connections/new",
    "/operations",
    "/audit",
    "/members",
    "/members/invite",
    "/settings",
    "/settings/workspace",
    "/settings/workspaces",
    "/no-such-page",
]


@pytest.fixture
def owner(stack):
    return stack.person(is_owner=True)


@pytest.fixture
def colleague(stack, owner):
    return stack.person(Role.AGENT, owner.workspace)


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def stray_scrolling(page):
    """What scrolls by a few pixels and so shows a bar for nothing, where bars take space."""
    return page.evaluate(
        """() => [...document.querySelectorAll("main, main *, .top, .top *")].filter((element) => {
             const style = getComputedStyle(element);
             const by = (way, size, seen) => ["auto", "scroll"].includes(way) && size > seen && size < seen + 8;
             return by(style.overflowY, element.scrollHeight, element.clientHeight)
                 || by(style.overflowX, element.scrollWidth, element.clientWidth);
           }).map((element) => element.outerHTML.slice(0, 120))"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_is_accessible_and_fits(new_page, owner, colleague, sign_in, axe, screen, scheme):
    page = new_page(viewport=SCREENS[screen], color_scheme=scheme)
    page.goto("/login")
    assert axe(page) == []
    assert overflow(page) <= 0
    sign_in(page, owner)
    for path in PAGES:
        page.goto(path)
        assert axe(page) == [], path
        assert overflow(page) <= 0, path
        assert stray_scrolling(page) == [], path
    page.goto("/members")
    page.get_by_role("link", name=f"Manage {colleague.email}").click()
    assert axe(page) == []
    page.get_by_role("link", name="Remove").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert axe(page) == []


def test_everything_can_be_done_from_the_keyboard(page, owner, sign_in):
    sign_in(page, owner)
    page.goto("/members")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Invite")).to_be_focused()
    person = page.locator("#person summary")
    person.focus()
    page.keyboard.press("Enter")
    sign_out = page.get_by_role("button", name="Sign out")
    expect(sign_out).to_be_visible()
    page.keyboard.press("Escape")
    expect(sign_out).to_be_hidden()
    expect(person).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(sign_out).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_whatever_has_the_focus_shows_it(page, owner, sign_in):
    sign_in(page, owner)
    page.goto("/settings")
    page.keyboard.press("Tab")
    for _ in range(14):
        page.keyboard.press("Tab")
        ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert ring == "solid", page.evaluate("document.activeElement.outerHTML.slice(0, 200)")


def test_fingers_find_targets_of_44_pixels(new_page, owner, sign_in):
    page = new_page(viewport=SCREENS["phone"], has_touch=True, is_mobile=True)
    sign_in(page, owner)
    for path in ("/cards", "/connections/new", "/operations", "/members", "/members/invite", "/settings"):
        page.goto(path)
        small = page.evaluate(
            """() => [...document.querySelectorAll("main button, main .button, main select, .places a, summary,"
                 + " main input:not([type=hidden], [type=checkbox], [type=radio])")]
                 .filter((element) => element.offsetParent !== null && element.getBoundingClientRect().height < 43.5)
                 .map((element) => element.outerHTML.slice(0, 120))"""
        )
        assert small == [], path


def test_removal_is_asked_in_place_and_nothing_happens_before_the_answer(page, owner, colleague, sign_in):
    sign_in(page, owner)
    page.goto("/members")
    page.get_by_role("link", name=f"Manage {colleague.email}").click()
    remove = page.get_by_role("link", name="Remove")
    remove.click()
    page.get_by_role("dialog").get_by_role("link", name="Keep").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(remove).to_be_focused()
    remove.click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status").first).to_contain_text(f"{colleague.email} is no longer a member.")
    expect(page.get_by_role("main")).not_to_contain_text(f"Manage {colleague.email}")


def test_members_are_managed_without_javascript(new_page, owner, colleague, sign_in):
    page = new_page(java_script_enabled=False)
    sign_in(page, owner)
    page.goto("/members")
    page.get_by_role("link", name=f"Manage {colleague.email}").click()
    page.get_by_label("Operator").check()
    page.get_by_role("button", name="Save role").click()
    expect(page.get_by_role("status")).to_contain_text(f"{colleague.email} is now an operator.")
    page.get_by_role("link", name=f"Manage {colleague.email}").click()
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status")).to_contain_text(f"{colleague.email} is no longer a member.")
    page.locator("#person summary").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_somebody_new_joins_by_a_copied_link_in_their_own_time_zone(new_page, owner, sign_in):
    page = new_page(permissions=["clipboard-read", "clipboard-write"])
    sign_in(page, owner)
    page.goto("/members/invite")
    email = f"new-{owner.email}"
    page.get_by_label("Email").fill(email)
    page.get_by_role("button", name="Make invitation link").click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.get_by_label("Invitation link").input_value()
    newcomer = new_page(timezone_id="Asia/Tokyo")
    newcomer.goto(link)
    newcomer.get_by_label("Password").fill("a trestle of pear wood")
    newcomer.get_by_role("button", name="Join").click()
    expect(newcomer.get_by_role("heading", level=1)).to_have_text("Cards")
    newcomer.goto("/settings")
    expect(newcomer.get_by_label("Time zone")).to_have_value("Asia/Tokyo")


def test_times_say_the_exact_moment_in_the_browsers_zone(new_page, owner, sign_in):
    page = new_page(timezone_id="Asia/Kathmandu")
    sign_in(page, owner)
    page.goto("/settings")
    moment = page.locator("time").first
    expect(moment).to_have_attribute("title", pattern_of_local_time(page, moment))


def pattern_of_local_time(page, moment):
    """The title as the browser's own clock would have it."""
    return page.evaluate(
        """(text) => { const at = new Date(text); const two = (part) => String(part).padStart(2, "0");
             const month = at.toLocaleString("en-GB", { month: "short" }).slice(0, 3);
             return `${at.getDate()} ${month} ${at.getFullYear()}, `
                 + `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`; }""",
        moment.get_attribute("datetime"),
    )


EDITOR_SCREENS = {"desk": {"width": 1440, "height": 900}, "tablet": {"width": 768, "height": 900}}
SCROLLED = 97
"""Pixels between two looks, so that fields are met in every position under what sticks."""


@pytest.fixture
def machine_card(page, stack, sign_in):
    """An admin before a saved card whose connection needs nobody to sign in."""
    sign_in(page, stack.person())
    admin = Admin(page)
    admin.make_card(MACHINE)
    page.get_by_role("button", name="Dismiss").click()
    return admin


@pytest.mark.parametrize("screen", EDITOR_SCREENS)
def test_the_whole_editor_is_accessible_however_far_it_is_scrolled(machine_card, axe, screen):
    page = machine_card.page
    page.set_viewport_size(EDITOR_SCREENS[screen])
    page.get_by_role("button", name="Add header").click()
    page.locator(".header-row").wait_for()
    page.locator("details.advanced > summary").click()
    for top in range(0, page.evaluate("document.documentElement.scrollHeight - innerHeight"), SCROLLED):
        page.evaluate(f"scrollTo(0, {top})")
        assert axe(page, ".editor") == [], f"scrolled by {top} pixels"


def test_what_saves_and_what_shows_the_card_stay_in_sight(machine_card):
    page = machine_card.page
    page.set_viewport_size(EDITOR_SCREENS["desk"])
    page.evaluate("scrollTo(0, 500)")
    height = EDITOR_SCREENS["desk"]["height"]
    aside = page.locator(".aside").bounding_box()
    assert aside["y"] >= 0
    assert aside["y"] + aside["height"] <= height
    save = page.get_by_role("button", name="Save configuration").last.bounding_box()
    assert save["y"] + save["height"] <= height


def test_what_a_preview_brings_is_in_sight_whatever_stands_above_it(machine_card):
    page = machine_card.page
    page.set_viewport_size(SCREENS["desk"])
    page.get_by_role("button", name="Authorize", exact=True).click()
    machine_card.see_state("Connected")
    page.locator("#pause").click()
    machine_card.see_state("Paused")
    button = page.get_by_role("button", name="Preview", exact=True)
    button.click()
    expect(page.locator("#preview .failure")).to_be_in_viewport(ratio=1)
    expect(page.locator("#preview")).to_contain_text("Press Resume on the connection")
    expect(button).to_be_in_viewport(ratio=1)


def test_nothing_jumps_while_parts_renew_themselves(machine_card):
    """Counted is what comes by itself: fields that somebody asked for may take another's place, however late."""
    page = machine_card.page
    page.get_by_label("Flow").select_option(label="Authorization Code Flow")
    expect(page.locator(".advanced #connection-audience")).to_have_count(1)
    page.get_by_label("Flow").select_option(label="Client Credentials Flow")
    expect(page.locator(".advanced #connection-audience")).to_have_count(0)
    page.get_by_role("button", name="Authorize", exact=True).click()
    machine_card.see_state("Connected")
    machine_card.open_connection()
    page.evaluate(
        """() => { window.jumped = 0; new PerformanceObserver((list) => {
             for (const entry of list.getEntries()) window.jumped += entry.value;
           }).observe({type: "layout-shift"}); }"""
    )
    page.get_by_role("button", name="Refresh now").click()
    expect(page.locator("#flashes")).to_contain_text("Refresh asked for")
    expect(page.locator("#history .badge")).to_have_count(2, timeout=10_000)
    expect(page.locator("#status")).not_to_contain_text("under way", timeout=10_000)
    page.wait_for_timeout(500)
    assert page.evaluate("jumped") < 0.02

"""Trying a card in a real browser: with a script and without one, on a phone, while it runs and when it fails."""

import pytest
from playwright.sync_api import expect

from tests.support.admin import MACHINE, Admin

PHONE = {"viewport": {"width": 360, "height": 740}}


@pytest.fixture
def person(stack):
    """Somebody with a workspace of their own."""
    return stack.person()


@pytest.fixture
def card(page, sign_in, person):
    """An admin's page of a connected card; its address."""
    sign_in(page, person)
    admin = Admin(page)
    admin.make_card(MACHINE)
    page.get_by_role("button", name="Authorize", exact=True).click()
    admin.see_state("Connected")
    return page.url


def press(page):
    page.get_by_role("button", name="Preview", exact=True).click()


def shown(page):
    return page.frame_locator("iframe.preview-frame")


def test_a_preview_shows_the_card_the_reply_and_the_request(page, card):
    press(page)
    expect(shown(page).get_by_text("Ada Lovelace")).to_be_visible()
    preview = page.locator("#preview")
    expect(preview.get_by_text("Ready")).to_be_visible()
    expect(preview.locator(".tree")).to_contain_text("Ada Lovelace")
    preview.get_by_text("Request as sent").click()
    expect(preview.get_by_text("Authorization: Bearer •••")).to_be_visible()
    assert page.url == card, "the page stays where it is"


def test_another_customer_gets_another_card(page, card):
    page.get_by_label("Customer's e-mail").fill("grace@example.com")
    press(page)
    expect(shown(page).get_by_text("Grace Hopper")).to_be_visible()
    expect(page.get_by_label("Customer's e-mail")).to_have_value("grace@example.com")


def test_a_template_is_tried_before_it_is_saved(page, card):
    page.get_by_label("Template content").fill("<h1>Trying {{ customer.name }}</h1>")
    press(page)
    expect(shown(page).get_by_role("heading", name="Trying Ada Lovelace")).to_be_visible()
    page.get_by_label("Template content").fill("<h1>{{ customer.name | shout }}</h1>")
    press(page)
    expect(page.locator("#preview").get_by_text("The template cannot be rendered")).to_be_visible()
    expect(page.locator("#preview").get_by_text("unknown filter 'shout'")).to_be_visible()


def test_while_a_preview_runs_the_page_says_so_and_a_second_press_does_nothing(page, card):
    asked = []

    def later(route):
        asked.append(route.request.url)
        page.wait_for_timeout(600)
        route.continue_()

    page.route("**/preview", later)
    press(page)
    expect(page.get_by_text("Calling the API…")).to_be_visible()
    expect(page.get_by_role("button", name="Preview", exact=True)).to_be_disabled()
    expect(shown(page).get_by_text("Ada Lovelace")).to_be_visible()
    expect(page.get_by_role("button", name="Preview", exact=True)).to_be_enabled()
    assert len(asked) == 1


def test_an_expired_token_is_refreshed_on_the_way(stack, page, card):
    stack.provider.control(behaviours={"api": "401_once"})
    press(page)
    expect(shown(page).get_by_text("Ada Lovelace")).to_be_visible()
    expect(page.get_by_text("The API turned the token down, so it was refreshed")).to_be_visible()


def test_a_failing_call_says_which_step_and_what_to_do(page, card):
    page.get_by_label("Customer's e-mail").fill("nobody")
    press(page)
    preview = page.locator("#preview")
    expect(preview.get_by_text("The API refused the request")).to_be_visible()
    expect(preview.get_by_text("What to do:")).to_be_visible()
    expect(preview.get_by_text("Give a customer's address as ?email=").first).to_be_visible()
    expect(preview.locator(".preview-frame")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_a_preview_and_on_a_failed_one(page, card, axe, scheme):
    page.emulate_media(color_scheme=scheme)
    press(page)
    expect(shown(page).get_by_text("Ada Lovelace")).to_be_visible()
    page.get_by_text("Request as sent").click()
    assert axe(page, "#preview-panel") == []
    page.get_by_label("Customer's e-mail").fill("nobody")
    press(page)
    expect(page.get_by_text("The API refused the request")).to_be_visible()
    assert axe(page, "#preview-panel") == []


def test_without_a_script_the_preview_is_a_page_of_its_own(new_page, sign_in, person, card, axe):
    plain = new_page(java_script_enabled=False)
    sign_in(plain, person)
    plain.goto(card)
    press(plain)
    expect(plain.get_by_role("heading", level=1)).to_contain_text("Preview of")
    expect(shown(plain).get_by_text("Ada Lovelace")).to_be_visible()
    plain.get_by_role("link", name="Back to the card").click()
    assert plain.url == card


def test_on_a_phone_nothing_is_wider_than_the_screen(new_page, sign_in, person, card):
    phone = new_page(**PHONE)
    sign_in(phone, person)
    phone.goto(card)
    press(phone)
    expect(shown(phone).get_by_text("Ada Lovelace")).to_be_visible()
    phone.get_by_text("Request as sent").click()
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["viewport"]["width"]

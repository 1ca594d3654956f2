"""Before anything else: the portal opens, lets the right people in and is fit for everybody's eyes and hands."""

from playwright.sync_api import expect


def test_a_person_signs_in_and_out(page, stack, sign_in, axe):
    page.goto("/")
    expect(page).to_have_title("Sign in · Cardkey")
    assert axe(page) == []
    person = stack.person()
    sign_in(page, person)
    expect(page.get_by_role("heading", level=1)).to_have_text("Cards")
    assert page.url == f"{stack.url}/cards"


def test_a_wrong_password_is_said_beside_the_form_and_keeps_the_e_mail_address(page, stack):
    person = stack.person()
    page.goto("/login")
    page.get_by_label("Email").fill(person.email)
    page.get_by_label("Password").fill("another password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("E-mail or password is wrong.")
    expect(page.get_by_label("Email")).to_have_value(person.email)

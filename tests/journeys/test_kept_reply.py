"""A provider that answers in a form of its own, seen by an admin in a browser: nothing is lost. P6."""

import pytest
from playwright.sync_api import expect

from services.engine import tokens
from tests.journeys.test_authorize import connection_for


@pytest.fixture
def person(stack):
    return stack.person()


def generation(stack, connection):
    with stack.resources.database.session() as session:
        return tokens.current_token(session, connection).generation


def agree(stack, page):
    stack.provider.control(auto_consent=True)
    with page.expect_popup():
        page.get_by_role("button", name="Authorize", exact=True).click()


def test_an_admin_shows_where_the_token_is_and_uses_the_reply(stack, person, page, axe, sign_in):
    connection = connection_for(stack, person, revocation_endpoint="")
    sign_in(page, person)
    stack.provider.control(behaviours={"token": "renamed"})
    page.goto(f"/connections/{connection.id}")
    agree(stack, page)
    expect(page.get_by_text("holds no access token where one is looked for").first).to_be_visible(timeout=10_000)

    page.reload()
    kept = page.locator("#kept")
    expect(kept).to_contain_text("cannot be sent again")
    suggestion = kept.locator("pre").inner_text()
    assert suggestion.splitlines() == [
        "access_token=data.token", "refresh_token=data.renewal_token", "expires_in=data.ttl",
    ]  # fmt: skip
    assert "at_" not in page.content()
    assert axe(page) == []
    page.get_by_label("Reply mapping").fill(suggestion)
    page.get_by_role("button", name="Save configuration").last.click()
    expect(kept).to_contain_text("this reply can be used")
    kept.get_by_role("button", name="Use this reply").click()
    expect(page.locator("#status")).to_contain_text("Connected")
    expect(page.locator("#kept")).to_have_count(0)
    expect(page.locator("#authorization")).not_to_contain_text("did not work")

    page.get_by_role("button", name="Refresh now").click()
    for _ in range(100):
        if generation(stack, connection) == 2:
            break
        page.wait_for_timeout(100)
    assert generation(stack, connection) == 2  # the refresh token in the reply worked, and its own reply is read
    assert stack.provider.counts["issued_refresh_token"] == 1
    expect(page.locator("#status")).to_contain_text("Connected")

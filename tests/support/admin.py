"""What an admin does in a browser, by the words on the screen."""

import re

from playwright.sync_api import Page, expect

PROVIDER_PERSON = "sam@rehearsal.example"
CODE, MACHINE = "A person signs in", "Client credentials"
"""The two ready-made first cards."""


class Admin:
    """Somebody at work on cards; every step waits for what it leads to."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def set_up(self, link: str, workspace: str = "Acme") -> None:
        """Open the set-up link and make the first workspace."""
        self.page.goto(link)
        self.page.get_by_label("Workspace name").fill(workspace)
        self.page.get_by_label("Email").fill("ada@acme.example")
        self.page.get_by_label("Password").fill("a lamp of walnut wood")
        self.page.get_by_role("button", name="Create workspace").click()
        expect(self.page.get_by_role("heading", name="Cards", exact=True)).to_be_visible()

    def fill_in_example(self, flow: str) -> None:
        """The new-card page with the rehearsal provider's values."""
        self.page.goto("/cards/new")
        self.page.get_by_role("link", name=flow).click()

    def save(self) -> None:
        """Press Save configuration."""
        self.page.get_by_role("button", name="Save configuration").last.click()
        expect(self.page.get_by_text("Configuration saved.")).to_be_visible()

    def make_card(self, flow: str) -> None:
        """A card of the rehearsal provider, saved."""
        self.fill_in_example(flow)
        self.save()

    def agree(self, window: Page, answer: str = "Allow") -> None:
        """Sign in at the provider and answer."""
        window.get_by_role("button", name="Sign in").click()
        window.get_by_role("button", name=answer).click()

    def authorize(self, answer: str = "Allow") -> None:
        """Press Authorize and answer in the window that opens."""
        with self.page.expect_popup() as opened:
            self.page.get_by_role("button", name="Authorize", exact=True).click()
        self.agree(opened.value, answer)

    def preview(self) -> None:
        """Press Preview and wait for the customer's name in the card."""
        self.page.get_by_role("button", name="Preview", exact=True).click()
        self.see_customer()

    def see_customer(self) -> None:
        """The rendered card names the customer of the sample values."""
        expect(self.page.frame_locator("iframe").get_by_role("heading", name="Ada Lovelace")).to_be_visible()

    def see_state(self, words: str) -> None:
        """The connection's state on the page."""
        expect(self.page.locator("#status")).to_contain_text(words, timeout=10_000)

    def open_connection(self) -> None:
        """From a card to its connection's own page."""
        self.page.goto("/connections")
        self.page.get_by_role("link", name=re.compile("Rehearsal provider")).click()

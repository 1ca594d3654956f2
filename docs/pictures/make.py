"""`python docs/pictures/make.py` makes the README's picture again, from a fresh installation and its own provider."""

import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

from playwright.sync_api import expect, sync_playwright  # noqa: E402  # the tests' support is found from here on

from tests.support import browser, stack  # noqa: E402
from tests.support.admin import CODE, Admin  # noqa: E402

SIZE = {"width": 1440, "height": 1000}
HOUR = "3600"


def main() -> None:
    """A card of the rehearsal provider, authorized and previewed, as `card.png`."""
    with (
        tempfile.TemporaryDirectory() as data,
        stack.serve(Path(data), rehearsal_lifetime=HOUR) as portal,
        sync_playwright() as playwright,
    ):
        chromium = playwright.chromium.launch(**browser.launch_options())
        page = chromium.new_context(base_url=portal.url, viewport=SIZE, color_scheme="light").new_page()
        admin = Admin(page)
        admin.set_up(portal.setup_link)
        admin.make_card(CODE)
        admin.authorize()
        admin.see_state("Connected")
        admin.preview()
        page.get_by_role("button", name="Dismiss").click()
        expect(page.locator(".flash")).to_have_count(0)
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=FOLDER / "card.png", animations="disabled")
        chromium.close()


if __name__ == "__main__":
    main()

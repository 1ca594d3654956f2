"""A real browser before a real installation: what every journey starts from."""

import pytest

from tests.support import browser
from tests.support import stack as installation
from tests.support.provider import reset

EXPECTED = "Failed to load resource"
"""The browser's note on every 4xx; whether a page should answer so is for the journey to say."""

INJECTED = "Applying inline style"
"""Said without an address it is of a script that a test put into the page; the page's own styles have one."""


@pytest.fixture(scope="session")
def _stack(tmp_path_factory):
    with installation.serve(tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest.fixture
def stack(_stack):
    """The installation, shared by the journeys of one process: each makes people and workspaces of its own.

    Its provider is as it is at the start. When a journey fails, what the processes said is shown.
    """
    reset(_stack.provider, installation.LIFETIME)
    said = len(_stack.log)
    yield _stack
    print(_stack.log[said:])  # noqa: T201  # shown when the journey fails


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """The Chromium of this machine."""
    return {**browser_type_launch_args, **browser.launch_options()}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args, _stack):
    """Paths lead to the portal."""
    return {**browser_context_args, "base_url": _stack.url}


@pytest.fixture
def new_page(new_context, stack):
    """A maker of pages in browsers of their own; `new_page(viewport=…)` takes Playwright's context options.

    A script error or a broken content security policy on one of them, or in a window they open, fails the journey.
    """
    problems = []

    def make(**options):
        context = new_context(**options)
        context.on("weberror", lambda error: problems.append(str(error.error)))
        context.on("console", note)
        return context.new_page()

    def note(message):
        injected = INJECTED in message.text and not message.location.get("url")
        if message.type == "error" and EXPECTED not in message.text and not injected:
            problems.append(f"{message.text} ({message.location.get('url', '')})")

    make.problems = problems
    yield make
    assert problems == []


@pytest.fixture
def page(new_page):
    """A page in a fresh browser."""
    return new_page()


@pytest.fixture
def axe(new_page):
    """`axe(page)`: what axe-core finds wrong, a line for each finding; an empty list is what pages owe.

    It measures with inline styles, which our policy blocks: what the browser says of those is not the page's doing.
    """

    def look(page, within=None):
        before = len(new_page.problems)
        findings = browser.axe(page, within)
        page.evaluate("() => 0")  # its messages have arrived when this answer has
        del new_page.problems[before:]
        return findings

    return look


@pytest.fixture
def sign_in(stack):
    """`sign_in(page, person)`: through the sign-in page, to where it leads."""

    def go(page, person):
        page.goto("/login")
        page.get_by_label("Email").fill(person.email)
        page.get_by_label("Password").fill(person.password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/login" not in url)
        return page

    return go

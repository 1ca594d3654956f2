"""A provider goes away, somebody pauses what they can, and all goes on: seen in a browser, with and without scripts."""

from datetime import timedelta

import pytest
from playwright.sync_api import expect
from sqlmodel import Session, select

from models import ProviderHost, Role, Workspace
from models.types import utc_now
from oauth.vocabulary import FailureClass
from outbound import origin
from tests.journeys.test_look import stray_scrolling
from tests.journeys.test_operations import connect

SCREENS = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}
SILENT = "id.far-away-and-rather-long-name.example:8443"


@pytest.fixture
def owner(stack):
    """The owner, whose workspace has three connections; one more provider does not answer."""
    person = stack.person(Role.ADMIN, is_owner=True)
    with stack.resources.database.session(writing=True) as session:
        workspace = session.exec(select(Workspace).where(Workspace.name == person.workspace)).one()
        for number in range(3):
            connect(session, stack, workspace, f"Shop {number}")
        session.commit()
    yield person
    with stack.resources.database.session(writing=True) as session:
        forget(session)


def forget(session: Session) -> None:
    """Other journeys share the installation."""
    for row in session.exec(select(ProviderHost)):
        session.delete(row)
    session.commit()


def silence(stack) -> None:
    with stack.resources.database.session(writing=True) as session:
        session.add(
            ProviderHost(
                host=SILENT,
                failures=7,
                failure_class=FailureClass.PROVIDER_DOWN,
                failure_reason=f"{SILENT} cannot be reached.",
                failed_at=utc_now() - timedelta(minutes=12),
                open_until=utc_now() + timedelta(minutes=4),
            )
        )
        session.commit()


def overflow(page):
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_pause_is_seen_on_every_page_and_fits_it(stack, new_page, owner, sign_in, axe, screen, scheme):
    silence(stack)
    host = origin(stack.provider.url)
    page = new_page(viewport=SCREENS[screen], color_scheme=scheme)
    sign_in(page, owner)
    page.goto("/operations?all=1")
    expect(page.get_by_role("row", name=SILENT)).to_contain_text("Does not answer")
    page.get_by_role("link", name=f"Pause {host}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert axe(page) == []
    dialog.get_by_role("button", name=f"Pause {host}").click()
    page.wait_for_load_state()
    expect(page.get_by_role("region", name="Paused")).to_contain_text(f"Token requests to {host} are paused")
    assert (axe(page), overflow(page) <= 0) == ([], True)
    page.goto("/operations/providers?all=1")
    assert (axe(page), overflow(page) <= 0) == ([], True)
    page.goto("/connections")
    expect(page.get_by_role("region", name="Paused")).to_be_visible()
    assert (axe(page), overflow(page) <= 0) == ([], True)
    page.get_by_role("link", name="Shop 0").click()
    page.wait_for_url("**/connections/*-*")  # and all it is made of
    expect(page.get_by_role("region", name="Paused")).to_be_visible()
    assert (axe(page), overflow(page) <= 0) == ([], True)
    page.get_by_role("button", name=f"Resume {host}").click()
    expect(page.get_by_role("region", name="Paused")).to_be_hidden()


@pytest.mark.parametrize("java_script_enabled", [True, False], ids=["script", "no-script"])
def test_a_connection_is_paused_and_resumed_where_it_stands(stack, new_page, owner, sign_in, axe, java_script_enabled):
    page = new_page(java_script_enabled=java_script_enabled)
    sign_in(page, owner)
    page.goto("/connections")
    page.get_by_role("link", name="Shop 1").click()
    status = page.locator("#status")
    status.get_by_role("button", name="Pause").click()
    expect(status).to_contain_text("its cards show no data until it is resumed")
    if java_script_enabled:
        assert axe(page) == []
    status.get_by_role("button", name="Resume").click()
    expect(status).to_contain_text("Connected")
    page.goto("/operations")
    page.get_by_role("checkbox", name="Select Shop 0").check()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("1 connection paused.")
    expect(page.get_by_role("row", name="Shop 0")).to_contain_text("Paused")


SMALL = """(least) => [...document.querySelectorAll("main table a, main ul a, main [type=checkbox]")]
    .map((element) => element.closest("label") || element)
    .filter((element) => element.offsetParent !== null)
    .filter((element) => { const box = element.getBoundingClientRect();
                           return box.height < least - 0.5 || (element.matches("label") && box.width < least - 0.5); })
    .map((element) => element.outerHTML.slice(0, 120))"""


def test_what_stands_in_lists_is_large_enough_for_a_pointer_and_for_a_finger(new_page, sign_in, owner):
    desk = sign_in(new_page(viewport=SCREENS["desk"]), owner)
    phone = sign_in(new_page(viewport=SCREENS["phone"], has_touch=True, is_mobile=True), owner)
    for path in ("/operations", "/operations/providers", "/connections"):
        for page, least in ((desk, 24), (phone, 44)):
            page.goto(path)
            assert page.evaluate(SMALL, least) == [], (path, least)
            assert stray_scrolling(page) == [], path

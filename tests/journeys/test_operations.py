"""An operator at work: a selection refreshed and followed to its end, with and without scripts, on a phone too."""

import re

import pytest
from playwright.sync_api import expect
from pydantic import SecretStr
from sqlmodel import select

from models import ClientSecret, Connection, ConnectionState, Role, Token, Workspace
from oauth.vocabulary import GrantType, RefreshKind
from outbound import origin
from services.engine import states, tokens
from tests.support.provider import CLIENTS
from tests.support.world import token_reply

CLIENT = CLIENTS["rehearsal-machine"]


@pytest.fixture
def operator(stack):
    """An operator whose workspace has connections named Shop 0 to Shop 5."""
    person = stack.person(Role.OPERATOR)
    with stack.resources.database.session(writing=True) as session:
        workspace = session.exec(select(Workspace).where(Workspace.name == person.workspace)).one()
        for number in range(6):
            connect(session, stack, workspace, f"Shop {number}")
        session.commit()
    return person


def connect(session, stack, workspace, name):
    """A connection by client credentials that has its first token."""
    endpoint = f"{stack.provider.url}/token"
    row = Connection(
        workspace_id=workspace.id,
        name=name,
        grant_type=GrantType.CLIENT_CREDENTIALS,
        refresh_kind=RefreshKind.REISSUE,
        client_id=CLIENT.client_id,
        token_endpoint=endpoint,
        scope="orders.read",
        state=ConnectionState.CONFIGURED,
    )
    secret = ClientSecret(workspace_id=workspace.id, connection_id=row.id)
    secret.seal("value", SecretStr(CLIENT.secret), stack.resources.database.keyring)
    token = Token(workspace_id=workspace.id, connection_id=row.id, provider_host=origin(endpoint))
    session.add(row)
    session.flush()
    session.add_all((secret, token))
    session.flush()
    token = tokens.current_token(session, row)
    states.store(session, stack.resources.settings, row, token, token_reply("at", lifetime=3600))


def refresh_all_shown(page):
    page.goto("/operations")
    page.get_by_role("link", name="Select all shown").click()
    expect(page.get_by_role("checkbox", name="Select Shop 0")).to_be_checked()
    page.get_by_role("button", name="Refresh selected").click()


def test_a_selection_is_refreshed_and_the_bar_ends_by_itself(page, sign_in, operator, axe):
    sign_in(page, operator)
    asked = []
    page.on("request", lambda request: asked.append(request.url) if "/operations/refresh/" in request.url else None)
    refresh_all_shown(page)
    panel = page.get_by_role("region", name="Refreshes asked for")
    expect(panel.get_by_role("heading", name="Refreshes done")).to_be_visible(timeout=20_000)
    expect(panel).to_contain_text("6 of 6 · 6 refreshed")
    expect(panel.get_by_role("progressbar")).to_have_attribute("value", "6")
    before = len(asked)
    page.wait_for_timeout(2500)
    assert len(asked) == before
    assert axe(page) == []
    page.get_by_role("link", name="History of Shop 0").click()
    expect(page.get_by_role("row", name=re.compile("Refresh now"))).to_contain_text("Refreshed")
    assert axe(page) == []


def test_the_same_works_without_scripts(new_page, sign_in, operator):
    page = sign_in(new_page(java_script_enabled=False), operator)
    refresh_all_shown(page)
    for _ in range(20):
        if page.get_by_role("heading", name="Refreshes done").is_visible():
            break
        page.wait_for_timeout(1000)
        page.get_by_role("link", name="Look again").click()
    expect(page.get_by_text("6 of 6 · 6 refreshed")).to_be_visible()


def test_on_a_phone_every_row_is_a_block_and_nothing_is_cut_off(new_page, sign_in, operator, axe):
    page = sign_in(new_page(viewport={"width": 360, "height": 740}), operator)
    page.goto("/operations?state=Connected&text=Shop")
    expect(page.get_by_role("checkbox", name="Select Shop 5")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert axe(page) == []

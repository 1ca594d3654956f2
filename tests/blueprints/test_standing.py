"""What a connection's page tells of how it stands, and how its parts renew themselves."""

import os
import re
from datetime import timedelta

import pytest
from pydantic import SecretStr

from models import ClientSecret, Outcome, ProviderHost, Refresh, Role, Trigger
from models.types import Keyring, utc_now
from oauth.vocabulary import FailureClass

FRAGMENT = {"HX-Request": "true"}
HOST = "provider.example"
CHANGED = "refreshes-changed"


@pytest.fixture
def connection(world):
    made = world.connection()
    world.authorize(made)
    return made


@pytest.fixture
def page(connection):
    return f"/connections/{connection.id}"


@pytest.fixture
def alice(world, app):
    return world.client(world.alice)


@pytest.fixture
def oscar(world, app):
    return world.client(world.oscar)


def sent(world, connection, **columns):
    """A row of the journal."""
    row = Refresh(
        **{
            "workspace_id": connection.workspace_id,
            "connection_id": connection.id,
            "trigger": Trigger.SCHEDULED,
            "generation": 1,
            **columns,
        }
    )
    world._add(row)
    return row


def ended(world, row, outcome=Outcome.STORED):
    with world.resources.database.session(writing=True) as session:
        kept = session.get_one(Refresh, row.id)
        kept.outcome, kept.closed_at = outcome, utc_now()
        session.commit()


def asks(html):
    """Where the status panel asks again."""
    return re.search(r'id="status"[^>]*hx-get="([^"]+)"', html)[1].replace("&amp;", "&")


def next_refresh(html):
    """What the panel says under Next refresh, as plain text."""
    found = re.search(r"<dt>Next refresh</dt><dd>(.*?)</dd>", html, re.DOTALL)[1]
    return re.sub(r"<[^>]+>", "", found).strip()


def test_the_history_renews_itself_while_a_refresh_is_under_way_and_after_it(world, oscar, connection, page):
    first = oscar.get(asks(oscar.get(page).text), headers=FRAGMENT)
    assert CHANGED not in first.headers.get("HX-Trigger", "")
    row = sent(world, connection)
    began = oscar.get(asks(first.text), headers=FRAGMENT)
    assert began.headers["HX-Trigger"] == CHANGED
    address = f"/operations/history/{connection.id}"
    under_way = oscar.get(address, headers=FRAGMENT).text
    assert under_way.lstrip().startswith('<div id="history"')
    assert f'hx-trigger="{CHANGED} from:body, every 2s"' in under_way
    assert "Under way" in under_way
    ended(world, row)
    over = oscar.get(asks(began.text), headers=FRAGMENT)
    assert over.headers["HX-Trigger"] == CHANGED
    history = oscar.get(address, headers=FRAGMENT).text
    assert f'hx-trigger="{CHANGED} from:body"' in history
    assert "Refreshed" in history
    assert "HX-Trigger" not in oscar.get(asks(over.text), headers=FRAGMENT).headers
    assert "<h1>" in oscar.get(address).text


def test_the_kept_reply_comes_and_goes_by_itself_for_admins(world, alice, oscar, connection, page):
    shown = alice.get(page).text
    assert f'hx-get="{page}/replies"' in shown
    assert f"{page}/replies" not in oscar.get(page).text
    assert oscar.get(f"{page}/replies", headers=FRAGMENT).status_code == 403
    assert "nobody could read" not in alice.get(f"{page}/replies", headers=FRAGMENT).text
    row = sent(world, connection, generation=world.token(connection).generation)
    with world.resources.database.session(writing=True) as session:
        kept = session.get_one(Refresh, row.id)
        kept.seal("raw_reply", SecretStr('{"token": "canary"}'), world.resources.database.keyring)
        kept.outcome, kept.closed_at = Outcome.FAILED, utc_now()
        session.commit()
    news = alice.get(asks(shown), headers=FRAGMENT)
    assert news.headers["HX-Trigger"] == CHANGED
    part = alice.get(f"{page}/replies", headers=FRAGMENT).text
    assert "A reply nobody could read" in part
    assert "canary" not in part
    with world.resources.database.session(writing=True) as session:
        session.get_one(Refresh, row.id).raw_reply_sealed = None
        session.commit()
    assert alice.get(asks(news.text), headers=FRAGMENT).headers["HX-Trigger"] == CHANGED


def test_what_a_button_said_is_a_toast_that_moves_nothing(oscar, page):
    fragment = oscar.post_form(f"{page}/refresh", headers=FRAGMENT).text
    panel, toast = fragment.split("</section>", 1)
    assert "Refresh asked for." not in panel
    assert '<div id="flashes" hx-swap-oob="beforeend">' in toast
    assert "Refresh asked for." in toast


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"failure_class": FailureClass.PROVIDER_DOWN, "failure_status": 503}, "answers with errors (503)"),
        ({"failure_class": FailureClass.PROVIDER_DOWN}, "does not answer"),
        ({"failure_class": FailureClass.UNKNOWN}, "does not answer"),
        ({"failure_class": FailureClass.CERTIFICATE}, "has a certificate that is not trusted"),
    ],
)
def test_a_host_that_answers_with_errors_is_told_from_one_that_does_not_answer(world, oscar, page, columns, words):
    now = utc_now()
    world._add(ProviderHost(host=HOST, failures=9, failed_at=now, open_until=now + timedelta(hours=1), **columns))
    assert f"{HOST} {words}; that began" in oscar.get(page).text
    assert f"{words[0].upper()}{words[1:]}</span>" in oscar.get("/operations/providers").text
    assert f"{HOST} {words} just now" in oscar.post_form(f"{page}/refresh", headers=FRAGMENT).text


def test_a_host_that_may_be_tried_is_told_from_one_that_is_being_tried(world, oscar, connection, page):
    past = utc_now() - timedelta(seconds=10)
    row = ProviderHost(host=HOST, failures=9, failed_at=past, open_until=past, failure_class=FailureClass.UNKNOWN)
    world._add(row)
    world.set_token(connection, held=True)
    shown = oscar.get(page).text
    assert "The next request tries it." in shown
    assert "Next try" not in shown
    assert "or as soon as the provider answers" in next_refresh(shown)
    assert "To be tried" in oscar.get("/operations/providers").text
    foreign = world.connection(workspace=world.globex)
    world.set_token(foreign, lease_owner="somebody", lease_until=utc_now() + timedelta(minutes=1))
    assert "One request is trying it now." in oscar.get(page).text
    listed = oscar.get("/operations/providers").text
    assert "Being tried" in listed
    assert "To be tried" not in listed


def test_a_request_after_a_failure_is_told_as_another_try(world, oscar, connection):
    def why():
        cells = re.findall(r'data-label="Why"[^>]*>([^<]+)<', oscar.get(f"/operations/history/{connection.id}").text)
        return [cell.strip() for cell in cells]

    moment = utc_now() - timedelta(hours=1)
    happened = [
        (Trigger.AUTHORIZE, Outcome.STORED, "Authorize"),
        (Trigger.SCHEDULED, Outcome.STORED, "On time"),
        (Trigger.SCHEDULED, Outcome.FAILED, "On time"),
        (Trigger.SCHEDULED, Outcome.UNKNOWN, "Another try"),
        (Trigger.AUTHORIZE, Outcome.FAILED, "Authorize"),
        (Trigger.SCHEDULED, Outcome.STORED, "Another try"),
        (Trigger.AUTHORIZE, Outcome.FAILED, "Authorize"),
        (Trigger.SCHEDULED, Outcome.STORED, "On time"),
        (Trigger.SCHEDULED, Outcome.FAILED, "On time"),
        (Trigger.MANUAL, Outcome.STORED, "Refresh now"),
    ]
    for place, (trigger, outcome, _) in enumerate(happened):
        sent(world, connection, trigger=trigger, outcome=outcome, sent_at=moment + timedelta(minutes=place))
    assert why() == [words for _, _, words in reversed(happened)]


def test_no_next_refresh_is_promised_while_something_is_paused(world, alice, oscar, connection, page):
    assert next_refresh(oscar.get(page).text).startswith("in ")
    for host in (HOST, "*"):
        alice.post_form("/operations/providers/pause", {"host": host})
        shown = oscar.get(page).text
        assert next_refresh(shown) == "none while token requests are paused"
        assert "by the owner of this installation" in shown
        assert "until the owner resumes them" in shown
        for address in ("/connections", "/operations"):
            assert re.search(
                r'data-label="Next (refresh|due)"[^>]*><span class="quiet">paused<', oscar.get(address).text
            )
        world.set_token(connection, next_refresh_at=utc_now() - timedelta(minutes=1))
        assert "under way" not in next_refresh(oscar.get(page).text)
        alice.post_form("/operations/providers/resume", {"host": host})
    assert "none" not in next_refresh(oscar.get(page).text)


def test_a_paused_connection_says_who_paused_it_and_what_ends_that(world, alice, oscar, page):
    oscar.post_form(f"{page}/pause")
    shown = alice.get(page).text
    assert f"by {world.oscar.email}" in shown
    assert "press Resume for that" in shown
    assert next_refresh(shown) == "none while it is paused"
    world.join(world.globex, world.alice, Role.ADMIN)
    world.leave(world.acme, world.oscar)
    assert f"by {world.oscar.email}" in alice.get(page).text
    world.join(world.acme, world.gus, Role.OPERATOR)
    assert "somebody who is no member of this workspace" in world.client(world.gus).get(page).text


def test_a_secret_that_cannot_be_read_is_named_with_its_key_and_the_way_back(world, alice, connection, page):
    other = Keyring([("k-lost", os.urandom(32))])
    with world.resources.database.session(writing=True) as session:
        stored = session.get_one(ClientSecret, world.all(ClientSecret, connection_id=connection.id)[0].id)
        stored.value_sealed = other.encrypt(SecretStr("a secret"), stored.place("value"))
        session.commit()
    told = alice.post_form(f"{page}/authorize", headers=FRAGMENT).text
    for words in (
        "The client secret needs the key &#39;k-lost&#39;, which is not in CARDKEY_ENCRYPTION_KEYS.",
        "flask keys check",
        "enter it again under Client secret",
    ):
        assert words in told


def test_two_client_secrets_of_a_day_differ_by_their_time(world, alice, connection, page):
    earlier = world.all(ClientSecret, connection_id=connection.id)[0]
    added = ClientSecret(workspace_id=connection.workspace_id, connection_id=connection.id)
    added.set_at = earlier.set_at + timedelta(seconds=1)
    added.seal("value", SecretStr("the second canary"), world.resources.database.keyring)
    world._add(added)
    lines = re.findall(r"<li>(Set on [^<]+)", alice.get(page).text)
    times = {re.search(r"\d{2}:\d{2}:\d{2}", line)[0] for line in lines}
    assert len(times) == 2
    assert "canary" not in alice.get(page).text
    confirm = alice.get(f"{page}/secrets/{earlier.id}/remove").text
    assert any(time in confirm for time in times)

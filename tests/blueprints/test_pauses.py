"""Pause and Resume on the pages, for every role, with htmx and without a script."""

from datetime import timedelta

import pytest

from models import AttemptOutcome, AuditEntry, ConnectionState, ProviderHost, Role
from models.types import utc_now
from oauth.vocabulary import FailureClass
from services.engine import hosts
from tests.support import flow

FRAGMENT = {"HX-Request": "true"}
HOST = "provider.example"
PROVIDERS = "/operations/providers"
HOUR = timedelta(hours=1)


@pytest.fixture
def connection(world):
    made = world.connection()
    world.authorize(made)
    return made


@pytest.fixture
def oscar(world, app):
    return world.client(world.oscar)


@pytest.fixture
def owner(world, app):
    return world.client(world.alice)


def html(reply, status=200):
    assert reply.status_code == status
    return reply.get_data(as_text=True)


def flash(client, reply):
    assert reply.status_code == 303
    return html(client.get(reply.location))


def select(*connections):
    return {"connection": [str(connection.id) for connection in connections]}


def put(world, **columns):
    """How the host stands."""
    world._add(ProviderHost(**{"host": HOST, **columns}))


def test_an_operator_pauses_and_resumes_a_connection_on_its_page(world, oscar, connection):
    page = f"/connections/{connection.id}"
    assert "Pause" in html(oscar.get(page))
    shown = flash(oscar, oscar.post_form(f"{page}/pause"))
    assert "Nothing is sent for it until somebody resumes it." in shown
    assert "its cards show no data until it is resumed" in shown
    assert f'action="{page}/refresh"' not in shown
    fragment = html(oscar.post_form(f"{page}/resume", headers=FRAGMENT))
    assert fragment.lstrip().startswith('<section id="status"')
    assert "Resumed. It goes on as before." in fragment
    assert world.reread(connection).state is ConnectionState.ACTIVE


def test_a_connection_without_a_grant_offers_no_pause(world, oscar):
    fresh = world.connection()
    page = f"/connections/{fresh.id}"
    assert f"{page}/pause" not in html(oscar.get(page))
    assert "It is not authorized, so there is nothing to pause." in flash(oscar, oscar.post_form(f"{page}/pause"))


def test_a_selection_is_paused_and_resumed_and_the_rest_is_told(world, oscar, connection):
    other, fresh, foreign = world.connection(), world.connection(), world.connection(workspace=world.globex)
    world.authorize(other)
    world.authorize(foreign)
    shown = flash(oscar, oscar.post_form("/operations/pause?text=Shop", select(connection, other, fresh, foreign)))
    assert "2 connections paused. 1 left out: it is not authorized" in shown
    assert 'value="Shop"' in shown
    assert world.reread(foreign).state is ConnectionState.ACTIVE
    assert "1 connection resumed." in flash(oscar, oscar.post_form("/operations/resume", select(other)))
    assert "Select at least one connection" in flash(oscar, oscar.post_form("/operations/pause", {}))


def test_all_that_match_are_paused_in_the_workspace_that_was_shown(world, oscar, owner, connection):
    foreign = world.connection(workspace=world.globex)
    world.authorize(foreign)
    everything = {"matching": "1", "workspace_id": str(world.acme.id)}
    flash(oscar, oscar.post_form("/operations/pause?text=Shop", everything))
    assert world.reread(connection).state is ConnectionState.PAUSED
    assert world.reread(foreign).state is ConnectionState.ACTIVE
    theirs = {"matching": "1", "workspace_id": str(world.globex.id)}
    assert oscar.post_form("/operations/pause", theirs).status_code == 404
    flash(owner, owner.post_form("/operations/pause?all=1", {"matching": "1"}))
    assert world.reread(foreign).state is ConnectionState.PAUSED


def test_an_operator_sees_how_the_providers_of_the_workspace_stand(world, oscar, owner, connection):
    elsewhere = world.connection(workspace=world.globex, token_endpoint="https://another.example/token")
    world.authorize(elsewhere)
    put(
        world,
        failures=7,
        failure_class=FailureClass.PROVIDER_DOWN,
        failure_reason="It cannot be reached.",
        failed_at=utc_now() - timedelta(minutes=3),
        open_until=utc_now() + timedelta(minutes=2),
    )
    assert f'href="{PROVIDERS}"' in html(oscar.get("/operations"))
    for headers in ({}, FRAGMENT):
        shown = html(oscar.get(PROVIDERS, headers=headers))
        assert "Does not answer" in shown
        assert "It cannot be reached." in shown
        assert "another.example" not in shown
        assert "Pause everything" not in shown
    fragment = html(owner.get(f"{PROVIDERS}?all=1", headers=FRAGMENT))
    assert fragment.lstrip().startswith('<section id="providers"')
    assert "another.example" in fragment
    assert "Try now" in fragment
    assert oscar.get(f"{PROVIDERS}?all=1").status_code == 403
    assert f"{HOST} does not answer; that began" in html(oscar.get(f"/connections/{connection.id}"))


def test_the_owner_pauses_a_provider_and_everybody_is_told_on_their_pages(world, oscar, owner, connection):
    assert f"Pause {HOST}?" in html(owner.get(f"{PROVIDERS}/pause?host={HOST}"))
    shown = flash(owner, owner.post_form(f"{PROVIDERS}/pause?all=1", {"host": HOST}))
    assert f"Token requests to {HOST} are paused." in shown
    assert world.alice.email in shown
    pages = ("/operations", PROVIDERS, "/connections", f"/connections/{connection.id}")
    for address in (*pages, f"/operations/history/{connection.id}"):
        told = html(oscar.get(address))
        assert f"Token requests to {HOST} are paused" in told, address
        assert world.alice.email not in told
        assert "Resume" not in told.split('aria-label="Paused"')[1].split("</section>")[0]
    assert f"Token requests to {HOST} go on." in flash(owner, owner.post_form(f"{PROVIDERS}/resume", {"host": HOST}))
    assert f"Token requests to {HOST}" not in html(oscar.get("/operations"))
    told = html(owner.get("/audit"))
    assert "Owner of the installation" in told
    assert f"Paused token requests to {HOST}" in told


def test_everything_is_paused_on_every_page_of_every_workspace(world, app, owner, connection):
    gus = world.client(world.gus)
    assert "Pause everything?" in html(owner.get(f"{PROVIDERS}/pause"))
    flash(owner, owner.post_form(f"{PROVIDERS}/pause", {"host": "*"}))
    for address in ("/operations", "/connections"):
        assert "All token requests are paused" in html(gus.get(address))
    assert "Pause everything" not in html(owner.get(PROVIDERS))
    again = flash(owner, owner.post_form(f"{PROVIDERS}/pause", {"host": "*"}))
    assert "That was paused already." in again
    flash(owner, owner.post_form(f"{PROVIDERS}/resume", {"host": "*"}))
    assert "All token requests are paused" not in html(gus.get("/operations"))


def test_an_admin_who_does_not_own_the_installation_pauses_no_provider(world, app, connection):
    world.join(world.acme, world.gus, Role.ADMIN)
    gus = world.client(world.gus)
    for verb in ("pause", "resume", "try"):
        assert gus.post_form(f"{PROVIDERS}/{verb}", {"host": HOST}).status_code == 403
    assert world.all(ProviderHost) == []


def test_a_provider_nobody_uses_is_not_there(owner, connection):
    for host in ("nobody.example", "", "x" * 3000):
        assert owner.post_form(f"{PROVIDERS}/pause", {"host": host}).status_code == 404
    assert owner.get(f"{PROVIDERS}/pause?host=nobody.example").status_code == 404


def test_nobody_authorizes_while_paused_and_what_was_begun_is_refused(world, app, owner, provider):
    provider.control(auto_consent=True)
    fresh = world.connection()
    page, back = flow.answer(owner, fresh)
    flash(owner, owner.post_form(f"{PROVIDERS}/pause", {"host": provider.address}))
    owner.get(back)
    refused = flow.attempt_of(world, page)
    assert (refused.outcome, "are paused" in refused.failure_reason) == (AttemptOutcome.FAILED, True)
    again = flow.attempt_of(world, flow.press(owner, fresh))
    assert (again.outcome, again.failure_class) == (AttemptOutcome.FAILED, FailureClass.LOCAL)
    assert again.next_step.startswith("Wait until that is resumed.")
    assert provider.hits("authorization_code") == 0
    flash(owner, owner.post_form(f"{PROVIDERS}/resume", {"host": provider.address}))
    assert flow.walk(world, owner, fresh).outcome is AttemptOutcome.SUCCEEDED


def test_an_authorization_that_succeeds_shows_that_the_provider_is_back(world, resources, app, owner, provider):
    provider.control(auto_consent=True)
    world._add(
        ProviderHost(
            host=provider.address,
            failures=8,
            failure_class=FailureClass.PROVIDER_DOWN,
            failed_at=utc_now(),
            open_until=utc_now() + timedelta(minutes=5),
        )
    )
    assert flow.walk(world, owner, world.connection()).outcome is AttemptOutcome.SUCCEEDED
    with resources.database.session() as session:
        assert hosts.standing(session, resources.settings, utc_now()) == hosts.Standing()


def test_refresh_now_says_what_it_waits_for(world, owner, connection):
    put(world, failures=9, failure_class=FailureClass.UNKNOWN, failed_at=utc_now(), open_until=utc_now() + HOUR)
    page = f"/connections/{connection.id}"
    assert f"{HOST} does not answer just now" in html(owner.post_form(f"{page}/refresh", headers=FRAGMENT))
    other = world.connection()
    world.authorize(other)
    flash(owner, owner.post_form(f"{PROVIDERS}/pause", {"host": "*"}))
    told = flash(owner, owner.post_form(f"/connections/{other.id}/refresh"))
    assert "It is sent when token requests are resumed." in told


def test_the_metrics_tell_of_providers_and_pauses(world, owner, client, connection):
    put(world, failures=9, failure_class=FailureClass.UNKNOWN, failed_at=utc_now(), open_until=utc_now() + HOUR)
    told = html(client.get("/metrics"))
    assert 'cardkey_providers{standing="silent"} 1.0' in told
    assert "cardkey_paused 0.0" in told
    flash(owner, owner.post_form(f"{PROVIDERS}/pause", {"host": "*"}))
    assert "cardkey_paused 1.0" in html(client.get("/metrics"))


def test_the_owner_has_a_silent_provider_tried_at_once(world, resources, owner, connection):
    put(world, failures=9, failure_class=FailureClass.UNKNOWN, open_until=utc_now() + timedelta(minutes=5))
    world.set_token(connection, held=True, failures=4, next_refresh_at=utc_now() + timedelta(hours=1))
    assert f"{HOST} is tried with the next request" in flash(owner, owner.post_form(f"{PROVIDERS}/try", {"host": HOST}))
    with resources.database.session() as session:
        assert hosts.standing(session, resources.settings, utc_now()).limits == {HOST: 1}
    assert world.token(connection).next_refresh_at <= utc_now()
    assert world.all(AuditEntry, action="provider.tried")

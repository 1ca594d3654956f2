"""The settings pages."""

import pytest

from models import Membership, Role, UserSession, Workspace

pytestmark = pytest.mark.sqlite_only


def test_times_follow_the_chosen_zone(app, world):
    alice = world.client(world.alice)
    assert " UTC" in alice.get("/members").text
    assert alice.post_form("/settings", {"time_zone": "Asia/Kathmandu"}).status_code == 303
    page = alice.get("/members").text
    assert " UTC" not in page
    assert 'data-when="person"' in page


def test_a_zone_that_does_not_exist_is_refused_at_the_field(app, world):
    answer = world.client(world.alice).post_form("/settings", {"time_zone": "Mars/Olympus"})
    assert answer.status_code == 422
    assert 'id="time_zone-error"' in answer.text
    assert world.reread(world.alice).time_zone == ""


def test_both_passwords_are_checked_at_once(app, world):
    answer = world.client(world.alice).post_form("/settings/password", {"present": "planted one", "password": "two"})
    assert answer.status_code == 422
    assert "This is not your present password." in answer.text
    assert "Use at least 12 characters" in answer.text
    assert "planted one" not in answer.text


def test_sessions_are_listed_and_can_be_ended(app, world):
    here, there = world.client(world.alice), world.client(world.alice)
    page = here.get("/settings").text
    assert page.count("test browser") == 0
    assert "This browser" in page
    other = next(row for row in world.all(UserSession) if f"/settings/sessions/{row.id}/end" in page)
    assert here.post_form(f"/settings/sessions/{other.id}/end").status_code == 303
    assert there.get("/settings").status_code == 303
    assert here.get("/settings").status_code == 200


def test_an_admin_renames_the_workspace(app, world):
    alice = world.client(world.alice)
    form = {"name": " Acme  Ltd ", "time_zone": "Europe/London"}
    assert alice.post_form("/settings/workspace", form).status_code == 303
    stored = world.reread(world.acme)
    assert (stored.name, stored.time_zone) == ("Acme Ltd", "Europe/London")
    assert "saved the workspace" in alice.get("/audit").text.lower()


def test_two_workspaces_cannot_have_one_name(app, world):
    answer = world.client(world.alice).post_form("/settings/workspace", {"name": "GLOBEX", "time_zone": "UTC"})
    assert answer.status_code == 422
    assert "There is a workspace of that name already." in answer.text
    assert 'value="GLOBEX"' in answer.text


def test_the_owner_makes_a_workspace_and_is_in_it(app, world):
    alice = world.client(world.alice)
    assert alice.post_form("/settings/workspaces", {"workspace_name": "Initech"}).status_code == 303
    made = world.all(Workspace, name="Initech")[0]
    assert world.all(Membership, workspace_id=made.id)[0].role is Role.ADMIN
    assert '<span class="sr-only">Workspace: </span>Initech' in alice.get("/settings").text


def test_nobody_but_the_owner_makes_workspaces(app, world):
    for person in (world.gus, world.oscar, world.ann):
        client = world.client(person)
        assert client.get("/settings/workspaces").status_code == 403
        assert client.post_form("/settings/workspaces", {"workspace_name": "Mine"}).status_code == 403
    assert len(world.all(Workspace)) == 2


def test_somebody_of_no_workspace_keeps_their_own_settings(app, world):
    lonely = world._person("lonely@nowhere.example")
    world._add(lonely)
    client = world.client(lonely)
    assert "You belong to no workspace" in client.get("/").text
    assert client.get("/settings").status_code == 200
    assert client.get("/members").status_code == 404
    assert client.get("/settings/workspace").status_code == 404

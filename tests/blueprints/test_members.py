"""The members' pages as people use them."""

import re

import pytest

from models import AuditEntry, Membership, Role, SingleUseLink

pytestmark = pytest.mark.sqlite_only


def link_in(answer):
    return re.search(r'id="link" value="([^"]+)"', answer.text)[1]


def invite(client, email="new@acme.example", role="operator"):
    return client.post_form("/members/invite", {"email": email, "role": role})


def role_of(world, person, workspace=None):
    rows = world.all(Membership, workspace_id=(workspace or world.acme).id, user_id=person.id)
    return rows[0].role if rows else None


def test_the_list_names_everybody_and_nobody_of_another_workspace(app, world):
    page = world.client(world.alice).get("/members").text
    for person in (world.alice, world.oscar, world.ann):
        assert person.email in page
    assert world.gus.email not in page


def test_somebody_new_joins_by_the_link_and_is_signed_in(app, world, settings):
    link = link_in(invite(world.client(world.alice)))
    assert link.startswith(f"{settings.public_url}/join/")
    newcomer, path = app.test_client(), link.removeprefix(settings.public_url)
    page = newcomer.get(path).text
    assert "Acme" in page
    assert "new@acme.example" in page
    joined = newcomer.post_form(path, {"password": "a trestle of pear wood", "time_zone": "Europe/Vienna"})
    assert joined.status_code == 303
    assert newcomer.get("/operations").status_code == 200
    assert newcomer.get("/members").status_code == 403
    assert app.test_client().get(path).status_code == 410


def test_a_weak_password_is_refused_at_its_field_and_the_link_lives_on(app, world, settings):
    path = link_in(invite(world.client(world.alice))).removeprefix(settings.public_url)
    newcomer = app.test_client()
    refused = newcomer.post_form(path, {"password": "short"})
    assert refused.status_code == 422
    assert 'id="password-error"' in refused.text
    assert 'value="short"' not in refused.text
    assert newcomer.post_form(path, {"password": "a trestle of pear wood"}).status_code == 303


def test_the_link_is_shown_once(app, world):
    alice = world.client(world.alice)
    token = link_in(invite(alice)).rpartition("/")[2]
    page = alice.get("/members").text
    assert "new@acme.example" in page
    assert token not in page


def test_an_invitation_is_withdrawn(app, world, settings):
    alice = world.client(world.alice)
    path = link_in(invite(alice)).removeprefix(settings.public_url)
    row = world.all(SingleUseLink)[0]
    assert alice.post_form(f"/members/invitations/{row.id}/withdraw").status_code == 303
    assert app.test_client().get(path).status_code == 410


def test_somebody_known_joins_while_signed_in(app, world, settings):
    path = link_in(invite(world.client(world.alice), "gus@globex.example")).removeprefix(settings.public_url)
    gus = world.client(world.gus)
    assert "Join Acme" in gus.get(path).text
    assert gus.post_form(path).status_code == 303
    assert role_of(world, world.gus) is Role.OPERATOR
    assert "Switch workspace" in gus.get("/settings").text


def test_an_invitation_is_for_one_person(app, world, settings):
    path = link_in(invite(world.client(world.alice))).removeprefix(settings.public_url)
    gus = world.client(world.gus)
    assert "You are signed in as gus@globex.example" in gus.get(path).text
    assert gus.post_form(path).status_code == 409
    assert role_of(world, world.gus) is None


def test_inviting_somebody_who_is_there_says_so_at_the_field(app, world):
    answer = invite(world.client(world.alice), "ann@acme.example")
    assert answer.status_code == 422
    assert "This person is a member already" in answer.text
    assert 'value="ann@acme.example"' in answer.text


def test_a_role_changes_and_is_written_down(app, world):
    alice = world.client(world.alice)
    assert 'checked id="role-0"' in alice.get(f"/members/{world.ann.id}").text
    assert alice.post_form(f"/members/{world.ann.id}", {"role": "operator"}).status_code == 303
    assert role_of(world, world.ann) is Role.OPERATOR
    entry = world.all(AuditEntry, action="member.role_changed")[0]
    assert (entry.detail["before"], entry.detail["after"]) == ("agent", "operator")


def test_no_other_role_exists(app, world):
    answer = world.client(world.alice).post_form(f"/members/{world.ann.id}", {"role": "owner"})
    assert answer.status_code == 422
    assert role_of(world, world.ann) is Role.AGENT


@pytest.mark.parametrize("path", ["", "/remove"])
def test_the_last_admin_stays(app, world, path):
    answer = world.client(world.alice).post_form(f"/members/{world.alice.id}{path}", {"role": "agent"})
    assert answer.status_code == 409
    assert "A workspace needs an admin" in answer.text
    assert role_of(world, world.alice) is Role.ADMIN


def test_removal_asks_first_and_then_acts(app, world):
    alice = world.client(world.alice)
    question = alice.get(f"/members/{world.ann.id}/remove").text
    assert 'id="confirm"' in question
    assert "Remove ann@acme.example?" in question
    assert role_of(world, world.ann) is Role.AGENT
    assert alice.post_form(f"/members/{world.ann.id}/remove").status_code == 303
    assert role_of(world, world.ann) is None
    assert alice.get(f"/members/{world.ann.id}").status_code == 404


def test_a_password_link_lets_in_once_and_ends_every_session(app, world, settings):
    alice, ann = world.client(world.alice), world.client(world.ann)
    answer = alice.post_form(f"/members/{world.ann.id}/password-link")
    assert answer.status_code == 200
    path = link_in(answer).removeprefix(settings.public_url)
    somewhere = app.test_client()
    assert "ann@acme.example" in somewhere.get(path).text
    assert somewhere.post_form(path, {"password": "a cradle of ash wood"}).status_code == 303
    assert somewhere.get("/cards").status_code == 200
    assert ann.get("/cards").status_code == 303
    assert app.test_client().get(path).status_code == 410


def test_no_password_link_for_somebody_with_more_rights(app, world):
    world._add(Membership(workspace_id=world.globex.id, user_id=world.ann.id, role=Role.ADMIN))
    world._add(Membership(workspace_id=world.acme.id, user_id=world.gus.id, role=Role.ADMIN))
    gus = world.client(world.gus)
    gus.post_form("/workspace", {"workspace_id": str(world.acme.id)})
    assert gus.post_form(f"/members/{world.alice.id}/password-link").status_code == 409
    assert [row for row in world.all(SingleUseLink) if row.user_id] == []


@pytest.mark.parametrize("method", ["get", "post_form"])
def test_members_of_other_workspaces_look_like_nobody(app, world, method):
    alice = world.client(world.alice)
    for path in (f"/members/{world.gus.id}", f"/members/{world.gus.id}/remove"):
        foreign = getattr(alice, method)(path)
        absent = getattr(alice, method)(path.replace(str(world.gus.id), str(world.acme.id)))
        assert foreign.status_code == absent.status_code == 404
        assert foreign.text == absent.text


@pytest.mark.parametrize("path", ["/members", "/members/invite", "/audit", "/settings/workspace"])
def test_only_admins_see_these_pages(app, world, path):
    for person in (world.oscar, world.ann):
        assert world.client(person).get(path).status_code == 403
    assert app.test_client().get(path).status_code == 303

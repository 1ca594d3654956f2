"""Who belongs to a workspace, who says so, and what no admin can do by accident."""

import pytest
from sqlmodel import select

from models import LinkPurpose, Membership, Role, User, Workspace
from services.audit import Actor
from services.errors import InvalidInput, NotFound, Refused
from services.people import links, members, passwords, sign_in
from tests.support.together import at_once
from tests.support.world import PASSWORD


def actor(person):
    return Actor.person(person)


def invite(session, settings, world, email="new@acme.example", role=Role.AGENT):
    return members.invite(session, settings, actor(world.alice), world.acme.id, email, role)


def person(session, email="new@acme.example"):
    return members.new_user(email, PASSWORD)


# --- The first workspace


def test_the_set_up_link_makes_the_first_workspace_and_its_owner(session, settings):
    token = links.setup_token(session, settings)
    user = members.set_up(session, token, "  Acme   Ltd ", "Ada@Acme.example", PASSWORD, "Europe/Berlin")
    assert (user.email, user.is_owner, user.time_zone) == ("ada@acme.example", True, "Europe/Berlin")
    ((workspace, role),) = members.workspaces_of(session, user.id)
    assert (workspace.name, role) == ("Acme Ltd", Role.ADMIN)


def test_of_many_who_set_up_at_once_one_succeeds(resources, settings):
    with resources.database.session(writing=True) as session:
        token = links.setup_token(session, settings)

    def set_up(number):
        with resources.database.session(writing=True) as session:
            return members.set_up(session, token, f"Acme {number}", f"ada{number}@acme.example", PASSWORD).email

    results = at_once(4, set_up)
    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, links.LinkSpent) for result in results) == 3
    with resources.database.session() as session:
        assert len(session.exec(select(User)).all()) == len(session.exec(select(Workspace)).all()) == 1


def test_everything_wrong_with_a_set_up_is_said_at_once_and_the_link_stays_good(session, settings):
    token = links.setup_token(session, settings)
    with pytest.raises(InvalidInput) as problem:
        members.set_up(session, token, "Acme", "no address", "short")
    assert set(problem.value.errors) == {"email", "password"}
    session.rollback()
    with pytest.raises(InvalidInput) as problem:
        members.set_up(session, token, " ", "ada@acme.example", PASSWORD)
    assert set(problem.value.errors) == {"workspace_name"}
    session.rollback()
    assert members.set_up(session, token, "Acme", "ada@acme.example", PASSWORD).is_owner


def test_two_workspaces_cannot_share_a_name_in_any_case(session, world):
    with pytest.raises(InvalidInput, match="already"):
        members.new_workspace(session, "aCME")


# --- Invitations


def test_an_invited_person_joins_with_the_role_of_the_invitation(session, settings, world):
    token = invite(session, settings, world, "New@Acme.example", Role.OPERATOR)
    user = person(session)
    assert members.join(session, token, user) == world.acme.id
    assert members.role_in(session, user.id, world.acme.id) is Role.OPERATOR
    assert members.role_in(session, user.id, world.globex.id) is None


def test_an_invitation_is_for_one_person_alone(session, settings, world):
    token = invite(session, settings, world)
    with pytest.raises(Refused, match=r"new@acme\.example"):
        members.join(session, token, session.get_one(User, world.gus.id))
    session.rollback()
    assert members.role_in(session, world.gus.id, world.acme.id) is None


def test_a_member_cannot_be_invited_again(session, settings, world):
    with pytest.raises(InvalidInput, match="member already"):
        invite(session, settings, world, "OSCAR@acme.example")


def test_a_withdrawn_invitation_lets_nobody_in(session, settings, world):
    token = invite(session, settings, world)
    (link,) = members.invitations(session, world.acme.id)
    members.withdraw(session, actor(world.alice), world.acme.id, link.id)
    assert members.invitations(session, world.acme.id) == []
    with pytest.raises(links.LinkSpent):
        members.join(session, token, person(session))


def test_an_invitation_of_another_workspace_cannot_be_withdrawn(session, settings, world):
    token = invite(session, settings, world)
    (link,) = members.invitations(session, world.acme.id)
    with pytest.raises(NotFound):
        members.withdraw(session, actor(world.gus), world.globex.id, link.id)
    assert links.find(session, LinkPurpose.INVITATION, token).used_at is None


def test_who_joined_by_one_invitation_has_used_up_the_others(session, settings, world):
    """Otherwise somebody removed from a workspace could come back by an older link."""
    first, second = invite(session, settings, world), invite(session, settings, world, role=Role.ADMIN)
    user = person(session)
    members.join(session, first, user)
    with pytest.raises(links.LinkSpent):
        members.join(session, second, user)


def test_a_removed_member_cannot_come_back_by_an_open_invitation(session, settings, world):
    user = person(session)
    token = invite(session, settings, world)
    session.add(user)
    session.flush()
    session.add(Membership(workspace_id=world.acme.id, user_id=user.id, role=Role.AGENT))
    session.commit()
    members.remove(session, actor(world.alice), world.acme.id, user.id)
    with pytest.raises(links.LinkSpent):
        members.join(session, token, user)


# --- Roles


def test_a_role_changes_at_once_and_in_one_workspace(session, world):
    members.change_role(session, actor(world.alice), world.acme.id, world.ann.id, Role.OPERATOR)
    assert members.role_in(session, world.ann.id, world.acme.id) is Role.OPERATOR


def test_the_last_admin_stays(session, world):
    with pytest.raises(Refused, match="needs an admin"):
        members.change_role(session, actor(world.alice), world.acme.id, world.alice.id, Role.AGENT)
    session.rollback()
    with pytest.raises(Refused, match="needs an admin"):
        members.remove(session, actor(world.alice), world.acme.id, world.alice.id)


def test_two_admins_cannot_remove_each_other_at_once(resources, world):
    with resources.database.session(writing=True) as session:
        members.change_role(session, actor(world.alice), world.acme.id, world.oscar.id, Role.ADMIN)
    pairs = ((world.alice, world.oscar), (world.oscar, world.alice))

    def remove(number):
        by, whom = pairs[number]
        with resources.database.session(writing=True) as session:
            members.remove(session, actor(by), world.acme.id, whom.id)

    results = at_once(2, remove)
    assert results.count(None) == 1
    admins = [row for row in world.all(Membership, workspace_id=world.acme.id) if row.role is Role.ADMIN]
    assert len(admins) == 1


def test_nobody_outside_a_workspace_can_be_changed_through_it(session, world):
    with pytest.raises(NotFound):
        members.change_role(session, actor(world.alice), world.acme.id, world.gus.id, Role.AGENT)
    with pytest.raises(NotFound):
        members.remove(session, actor(world.alice), world.acme.id, world.gus.id)
    assert members.role_in(session, world.gus.id, world.globex.id) is Role.ADMIN


# --- Passwords by link


def password_link(session, settings, world, by, whom):
    return members.password_link(session, settings, session.get_one(User, by.id), world.acme.id, whom.id)


def test_a_new_password_ends_every_session_and_every_other_link(session, settings, world):
    first = password_link(session, settings, world, world.alice, world.oscar)
    second = password_link(session, settings, world, world.alice, world.oscar)
    _user, token = sign_in.sign_in(session, world.oscar.email, PASSWORD, "a browser")
    members.set_password(session, second, "a throw of soft wool")
    assert sign_in.current(session, settings, token) is None
    assert passwords.matches(world.reread(world.oscar).password_hash, "a throw of soft wool")
    with pytest.raises(links.LinkSpent):
        members.set_password(session, first, "a mug with enamel on")


def test_a_weak_new_password_leaves_the_link_good(session, settings, world):
    token = password_link(session, settings, world, world.alice, world.oscar)
    with pytest.raises(InvalidInput):
        members.set_password(session, token, "short")
    session.rollback()
    assert members.set_password(session, token, "a throw of soft wool").id == world.oscar.id


def add_admin(session, world, email="second@acme.example"):
    second = User(email=email, password_hash=world.alice.password_hash)
    session.add(second)
    session.flush()
    session.add(Membership(workspace_id=world.acme.id, user_id=second.id, role=Role.ADMIN))
    session.commit()
    return second


def test_an_admin_cannot_become_the_owner_by_a_password_link(session, settings, world):
    second = add_admin(session, world)
    with pytest.raises(Refused, match="flask users reset"):
        password_link(session, settings, world, second, world.alice)


def test_an_admin_cannot_become_somebody_of_another_workspace(session, settings, world):
    """A member of both would carry the link's holder into the other."""
    second = add_admin(session, world)
    session.add(Membership(workspace_id=world.globex.id, user_id=world.oscar.id, role=Role.AGENT))
    session.commit()
    with pytest.raises(Refused, match="flask users reset"):
        password_link(session, settings, world, second, world.oscar)
    assert password_link(session, settings, world, second, world.ann)


def test_nobody_gets_a_link_for_a_stranger(session, settings, world):
    with pytest.raises(NotFound):
        password_link(session, settings, world, world.alice, world.gus)


def test_workspaces_are_listed_by_name_with_the_role_in_each(session, world):
    session.add(Workspace(name="Zeta"))
    session.add(Membership(workspace_id=world.globex.id, user_id=world.alice.id, role=Role.AGENT))
    session.commit()
    listed = [(workspace.name, role) for workspace, role in members.workspaces_of(session, world.alice.id)]
    assert listed == [("Acme", Role.ADMIN), ("Globex", Role.AGENT)]

"""Workspaces and who belongs to them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import cast
from zoneinfo import available_timezones

from email_validator import EmailNotValidError, validate_email
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, func, select

from config import Settings
from models import AuditEntry, LinkPurpose, Membership, Role, SingleUseLink, User, Workspace
from models.types import utc_now
from services import audit
from services.audit import Actor
from services.errors import InvalidInput, NotFound, Refused
from services.people import links, passwords, sign_in


def check_email(email: str) -> str:
    """The address in its stored form. Raises InvalidInput at `email`."""
    try:
        return sign_in.normal_email(validate_email(email.strip(), check_deliverability=False).normalized)
    except EmailNotValidError:
        raise InvalidInput({"email": "Enter an e-mail address such as ada@example.com."}) from None


def check_password(password: str, email: str) -> str:
    """The password, if it will do. Raises InvalidInput at `password`."""
    weakness = passwords.weakness(password, email)
    if weakness:
        raise InvalidInput({"password": weakness})
    return password


def set_up(session: Session, token: str, workspace_name: str, email: str, password: str, time_zone: str = "") -> User:
    """Make the first workspace and its admin, who owns the installation; spends the set-up link. Commits.

    Raises LinkSpent, InvalidInput.
    """
    link = links.find(session, LinkPurpose.SETUP, token)
    if session.exec(select(User.id).limit(1)).first() is not None:
        raise links.LinkSpent
    user = new_user(email, password, time_zone, is_owner=True)
    links.spend(session, link)
    workspace = new_workspace(session, workspace_name)
    session.add(user)
    session.flush()
    session.add(Membership(workspace_id=workspace.id, user_id=user.id, role=Role.ADMIN))
    audit.record_for(session, Actor.person(user), "workspace.created", workspace.id, name=workspace.name)
    session.commit()
    return user


def new_user(email: str, password: str, time_zone: str = "", *, is_owner: bool = False) -> User:
    """A person, checked, not yet added. Raises InvalidInput with every problem at once."""
    errors: dict[str, str] = {}
    stored = email
    try:
        stored = check_email(email)
    except InvalidInput as problem:
        errors |= problem.errors
    weakness = passwords.weakness(password, stored)
    if weakness:
        errors["password"] = weakness
    if errors:
        raise InvalidInput(errors)
    zone = time_zone if time_zone in available_timezones() else ""
    return User(email=stored, password_hash=passwords.hash_password(password), time_zone=zone, is_owner=is_owner)


def new_workspace(session: Session, name: str) -> Workspace:
    """Add a workspace. Raises InvalidInput. Does not commit."""
    name = " ".join(name.split())
    if not name:
        raise InvalidInput({"workspace_name": "Give the workspace a name."})
    if len(name) > 100:
        raise InvalidInput({"workspace_name": "Use at most 100 characters."})
    if session.exec(select(Workspace.id).where(func.lower(Workspace.name) == func.lower(name))).first():
        raise InvalidInput({"workspace_name": "There is a workspace of that name already."})
    workspace = Workspace(name=name)
    session.add(workspace)
    try:
        session.flush()
    except IntegrityError:  # somebody took the name since we looked
        session.rollback()
        raise InvalidInput({"workspace_name": "There is a workspace of that name already."}) from None
    return workspace


def exists(session: Session, email: str) -> bool:
    """Whether somebody has this e-mail address; for people who hold an invitation to it."""
    return session.exec(select(User.id).where(User.email == email)).first() is not None


def workspaces_of(session: Session, user_id: uuid.UUID) -> Sequence[tuple[Workspace, Role]]:
    """The workspaces a person belongs to with their role, by name."""
    query = select(Workspace, Membership.role).join(Membership).where(Membership.user_id == user_id)
    return cast("Sequence[tuple[Workspace, Role]]", session.exec(query.order_by(Workspace.name)).all())


def role_in(session: Session, user_id: uuid.UUID, workspace_id: uuid.UUID) -> Role | None:
    """A person's role in a workspace, as it is this moment."""
    query = select(Membership.role).where(Membership.user_id == user_id, Membership.workspace_id == workspace_id)
    return cast("Role | None", session.exec(query).one_or_none())


def known_name(session: Session, entry: AuditEntry) -> str:
    """Who did what an entry tells of, for a member of its workspace; empty for a person who is none (any more)."""
    if entry.user_id is None or entry.workspace_id is None:
        return entry.actor
    return entry.actor if role_in(session, entry.user_id, entry.workspace_id) is not None else ""


def members(session: Session, workspace_id: uuid.UUID) -> Sequence[tuple[User, Membership]]:
    """Everybody in a workspace, by e-mail."""
    query = select(User, Membership).join(Membership, col(Membership.user_id) == User.id)
    return session.exec(query.where(Membership.workspace_id == workspace_id).order_by(User.email)).all()


def invitations(session: Session, workspace_id: uuid.UUID) -> Sequence[SingleUseLink]:
    """Invitations still open, newest first."""
    query = select(SingleUseLink).where(
        SingleUseLink.workspace_id == workspace_id,
        SingleUseLink.purpose == LinkPurpose.INVITATION,
        col(SingleUseLink.used_at).is_(None),
        col(SingleUseLink.expires_at) > utc_now(),
    )
    return session.exec(query.order_by(col(SingleUseLink.created_at).desc())).all()


def invite(session: Session, settings: Settings, actor: Actor, workspace_id: uuid.UUID, email: str, role: Role) -> str:
    """Invite somebody by link; returns its token. Commits. Raises InvalidInput."""
    email = check_email(email)
    present = select(Membership).join(User).where(Membership.workspace_id == workspace_id, User.email == email)
    if session.exec(present).first() is not None:
        raise InvalidInput({"email": "This person is a member already; change the role in the list."})
    token = links.make(
        session,
        settings,
        LinkPurpose.INVITATION,
        workspace_id=workspace_id,
        email=email,
        role=role,
        created_by=actor.user_id,
    )
    audit.record_for(session, actor, "member.invited", workspace_id, email=email, role=role.value)
    session.commit()
    return token


def withdraw(session: Session, actor: Actor, workspace_id: uuid.UUID, link_id: uuid.UUID) -> None:
    """Take an open invitation back. Commits. Raises NotFound."""
    link = session.get(SingleUseLink, link_id)
    if link is None or link.workspace_id != workspace_id or link.purpose is not LinkPurpose.INVITATION:
        raise NotFound("There is no such invitation.")
    links.spend(session, link)
    audit.record_for(session, actor, "member.invitation_withdrawn", workspace_id, email=link.email)
    session.commit()


def join(session: Session, token: str, user: User) -> uuid.UUID:
    """Accept an invitation as `user`, new or known; returns the workspace. Commits. Raises LinkSpent, Refused."""
    link = links.find(session, LinkPurpose.INVITATION, token)
    if link.email != user.email:
        raise Refused(f"This invitation is for {link.email}. Sign in as that person, or ask for one of your own.")
    assert link.workspace_id is not None and link.role is not None
    links.spend(session, link)
    session.add(user)
    session.flush()
    if role_in(session, user.id, link.workspace_id) is None:
        session.add(Membership(workspace_id=link.workspace_id, user_id=user.id, role=link.role))
    _end_invitations(session, link.workspace_id, user.email)
    audit.record_for(session, Actor.person(user), "member.joined", link.workspace_id, role=link.role.value)
    session.commit()
    return link.workspace_id


def change_role(session: Session, actor: Actor, workspace_id: uuid.UUID, user_id: uuid.UUID, role: Role) -> None:
    """Give a member another role, at once. Commits. Raises NotFound, Refused for the last admin."""
    membership = _membership(session, workspace_id, user_id)
    if membership.role is Role.ADMIN and role is not Role.ADMIN:
        _keep_an_admin(session, workspace_id)
    before, membership.role = membership.role, role
    session.add(membership)
    audit.record_for(
        session,
        actor,
        "member.role_changed",
        workspace_id,
        email=session.get_one(User, user_id).email,
        before=before.value,
        after=role.value,
    )
    session.commit()


def remove(session: Session, actor: Actor, workspace_id: uuid.UUID, user_id: uuid.UUID) -> None:
    """Remove a member, at once. Commits. Raises NotFound, Refused for the last admin."""
    membership = _membership(session, workspace_id, user_id)
    if membership.role is Role.ADMIN:
        _keep_an_admin(session, workspace_id)
    session.delete(membership)
    email = session.get_one(User, user_id).email
    _end_invitations(session, workspace_id, email)
    audit.record_for(session, actor, "member.removed", workspace_id, email=email)
    session.commit()


def password_link(
    session: Session, settings: Settings, actor: User, workspace_id: uuid.UUID, user_id: uuid.UUID
) -> str:
    """A link with which a member chooses a new password; returns its token. Commits.

    Whoever holds the link becomes that person, so it is refused where the person is more than the
    admin is: in another workspace, or as owner. Raises NotFound, Refused.
    """
    _membership(session, workspace_id, user_id)
    if not actor.is_owner and not _commands_all_of(session, actor.id, user_id):
        raise Refused(
            "This person also has rights that you do not have. An operator of the installation can make the link: "
            "flask users reset EMAIL"
        )
    token = links.make(session, settings, LinkPurpose.PASSWORD, user_id=user_id, created_by=actor.id)
    email = session.get_one(User, user_id).email
    audit.record_for(session, Actor.person(actor), "member.password_link_made", workspace_id, email=email)
    session.commit()
    return token


def set_password(session: Session, token: str, password: str) -> User:
    """Choose a new password by link; every session and other such link of the person ends. Commits.

    Raises LinkSpent, InvalidInput.
    """
    link = links.find(session, LinkPurpose.PASSWORD, token)
    assert link.user_id is not None
    user = session.get_one(User, link.user_id)
    password_hash = passwords.hash_password(check_password(password, user.email))
    links.spend(session, link)
    links.end(session, LinkPurpose.PASSWORD, col(SingleUseLink.user_id) == user.id)
    user.password_hash = password_hash
    session.add(user)
    sign_in.end_all(session, user.id)
    audit.record_for(session, Actor.person(user), "user.password_changed", None)
    session.commit()
    return user


def _end_invitations(session: Session, workspace_id: uuid.UUID, email: str) -> None:
    """No older invitation brings a person back who has joined, or was removed since."""
    mine = (col(SingleUseLink.workspace_id) == workspace_id, col(SingleUseLink.email) == email)
    links.end(session, LinkPurpose.INVITATION, *mine)


def _commands_all_of(session: Session, admin_id: uuid.UUID, user_id: uuid.UUID) -> bool:
    """Whether `admin_id` is an admin wherever `user_id` belongs, and the latter no owner."""
    if session.get_one(User, user_id).is_owner:
        return False
    theirs = select(Membership.workspace_id).where(Membership.user_id == user_id)
    return all(role_in(session, admin_id, workspace) is Role.ADMIN for workspace in session.exec(theirs))


def _membership(session: Session, workspace_id: uuid.UUID, user_id: uuid.UUID) -> Membership:
    membership = session.get(Membership, (workspace_id, user_id))
    if membership is None:
        raise NotFound("There is no such member.")
    return membership


def _keep_an_admin(session: Session, workspace_id: uuid.UUID) -> None:
    """Lock the admins' rows while counting, so that two cannot remove each other."""
    query = select(Membership).where(Membership.workspace_id == workspace_id, Membership.role == Role.ADMIN)
    if len(session.exec(query.with_for_update()).all()) < 2:
        raise Refused("A workspace needs an admin. Make somebody else one first.")

"""People and workspaces made by whoever runs the installation, from its command line rather than from a page."""

from __future__ import annotations

from sqlmodel import Session, select

from config import Settings
from models import LinkPurpose, Membership, Role, User, Workspace
from services import audit
from services.audit import COMMAND_LINE
from services.errors import NotFound, Refused
from services.people import links, members, sign_in, workspaces


def setup_link(session: Session, settings: Settings) -> str | None:
    """Address that makes the first workspace and its admin; None when somebody can sign in already. Commits."""
    token = links.setup_token(session, settings)
    return f"{settings.public_url}/setup?token={token}" if token else None


def person(session: Session, email: str) -> User | None:
    """Who has this e-mail address."""
    return session.exec(select(User).where(User.email == sign_in.normal_email(email))).one_or_none()


def add_person(session: Session, email: str, password: str | None, workspace_name: str, role: Role) -> User:
    """Make somebody a member; `password` is needed for a new person and None for a known one. Commits.

    The very first person owns the installation, as the one who used a set-up link would.
    Raises NotFound, InvalidInput, Refused for somebody who is a member already.
    """
    place = workspaces.named(session, workspace_name)
    user = person(session, email)
    if user is None:
        is_first = session.exec(select(User.id).limit(1)).first() is None
        user = members.new_user(email, password or "", is_owner=is_first)
        session.add(user)
        session.flush()
    if members.role_in(session, user.id, place.id) is not None:
        raise Refused(f"{user.email} is a member of {place.name} already; change the role on its Members page.")
    session.add(Membership(workspace_id=place.id, user_id=user.id, role=role))
    audit.record_for(session, COMMAND_LINE, "member.added", place.id, email=user.email, role=role.value)
    session.commit()
    return user


def reset_link(session: Session, settings: Settings, email: str) -> str:
    """Address at which a person chooses a new password, once. Commits. Raises NotFound."""
    user = person(session, email)
    if user is None:
        raise NotFound(f"Nobody has the e-mail address {email}.")
    token = links.make(session, settings, LinkPurpose.PASSWORD, user_id=user.id)
    audit.record_for(session, COMMAND_LINE, "member.password_link_made", None, email=user.email)
    session.commit()
    return f"{settings.public_url}/password/{token}"


def add_workspace(session: Session, name: str) -> Workspace:
    """Make a workspace without members. Commits. Raises InvalidInput."""
    made = members.new_workspace(session, name)
    audit.record_for(session, COMMAND_LINE, "workspace.created", made.id, name=made.name)
    session.commit()
    return made

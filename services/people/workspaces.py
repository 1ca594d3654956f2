"""Workspaces as such: their name and time zone, and new ones. Who belongs to them: members."""

from __future__ import annotations

from zoneinfo import available_timezones

from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, func, select

from models import Membership, Role, User, Workspace
from services import audit
from services.audit import Actor
from services.errors import InvalidInput, NotFound
from services.people import members

TAKEN = "There is a workspace of that name already."


def named(session: Session, name: str) -> Workspace:
    """The workspace of that name, as somebody types it on a command line. Raises NotFound."""
    found = session.exec(select(Workspace).where(func.lower(Workspace.name) == name.strip().lower())).one_or_none()
    if found is None:
        raise NotFound(f'There is no workspace named "{name}". Make it with: flask workspaces add "{name}"')
    return found


def save(session: Session, actor: Actor, workspace: Workspace, name: str, time_zone: str) -> None:
    """Change name and time zone. Commits. Raises InvalidInput."""
    name = " ".join(name.split())
    errors = {}
    same_name = select(Workspace.id).where(func.lower(Workspace.name) == func.lower(name), Workspace.id != workspace.id)
    if session.exec(same_name).first() is not None:
        errors["name"] = TAKEN
    if time_zone not in available_timezones():
        errors["time_zone"] = "Choose one of the list."
    if errors:
        raise InvalidInput(errors)
    values = {"name": name, "time_zone": time_zone}
    changed = [field for field, value in values.items() if getattr(workspace, field) != value]
    workspace.name, workspace.time_zone = name, time_zone
    session.add(workspace)
    if changed:
        audit.record_for(session, actor, "workspace.saved", workspace.id, changed=changed)
    _commit(session, "name")


def create(session: Session, user: User, name: str) -> Workspace:
    """A further workspace with `user` as its admin; the caller has checked that they own the installation.

    Commits. Raises InvalidInput at `workspace_name`.
    """
    workspace = members.new_workspace(session, name)
    session.add(Membership(workspace_id=workspace.id, user_id=user.id, role=Role.ADMIN))
    audit.record_for(session, Actor.person(user), "workspace.created", workspace.id, name=workspace.name)
    _commit(session, "workspace_name")
    return workspace


def _commit(session: Session, field: str) -> None:
    """Somebody may have taken the name since we looked."""
    try:
        session.commit()
    except IntegrityError:
        session.rollback()
        raise InvalidInput({field: TAKEN}) from None

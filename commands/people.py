"""`flask setup`, `flask users …`, `flask workspaces …`."""

from __future__ import annotations

import sys

import click
from flask.cli import AppGroup

from commands.console import Report, reporting
from models import Role
from services.errors import Refused
from services.people import provisioning
from services.people.workspaces import named as workspace_named
from services.resources import Resources

users = AppGroup("users", help="People.")
workspaces = AppGroup("workspaces", help="Workspaces.")


@click.command("setup")
@click.option("--if-needed", is_flag=True, help="Succeed without a link when somebody can sign in already.")
@reporting
def setup(resources: Resources, if_needed: bool) -> Report:
    """Print a single-use link that makes the first workspace and its admin."""
    with resources.database.session(writing=True) as session:
        link = provisioning.setup_link(session, resources.settings)
    if link is None and not if_needed:
        raise Refused("Somebody can sign in already. Invite others on the Members page, or with: flask users add")
    return Report(link or "Somebody can sign in already.", {"link": link})


@users.command("add")
@click.argument("email")
@click.option("--workspace", required=True, help="Name of the workspace.")
@click.option("--role", required=True, type=click.Choice([role.value for role in Role]))
@reporting
def add_user(resources: Resources, email: str, workspace: str, role: str) -> Report:
    """Make somebody a member. A new person's password is read from standard input, or asked for."""
    with resources.database.session() as session:
        workspace_named(session, workspace)
        password = None if provisioning.person(session, email) else read_password()
    with resources.database.session(writing=True) as session:
        user = provisioning.add_person(session, email, password, workspace, Role(role))
    words = f"{user.email} is now {role} of {workspace}."
    return Report(words, {"email": user.email, "workspace": workspace, "role": role, "new": password is not None})


@users.command("reset")
@click.argument("email")
@reporting
def reset_user(resources: Resources, email: str) -> Report:
    """Print a single-use link at which somebody chooses a new password."""
    with resources.database.session(writing=True) as session:
        link = provisioning.reset_link(session, resources.settings, email)
    return Report(link, {"email": email, "link": link})


@workspaces.command("add")
@click.argument("name")
@reporting
def add_workspace(resources: Resources, name: str) -> Report:
    """Make a workspace; add its first admin with `flask users add`."""
    with resources.database.session(writing=True) as session:
        made = provisioning.add_workspace(session, name)
    return Report(f"There is now a workspace {made.name}.", {"id": made.id, "name": made.name})


def read_password() -> str:
    """From standard input, its first line; typed twice without being shown where somebody sits there."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")

"""Settings: the person's own, the workspace's for its admins, new workspaces for the owner."""

from __future__ import annotations

import uuid

from flask import Blueprint, abort, render_template
from flask_login import login_required
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.settings.forms import NewWorkspaceForm, PasswordForm, PersonForm, WorkspaceForm
from models import Role
from services.errors import InvalidInput
from services.people import accounts, sign_in, workspaces

blueprint = Blueprint("settings", __name__)

Page = str | Response | tuple[str, int]


@blueprint.get("/settings")
@login_required
def index() -> Page:
    """One's own account."""
    return _person_page(_person_form(), PasswordForm(formdata=None))


@blueprint.post("/settings")
@login_required
def save_person() -> Page:
    """Save the time zone."""
    form = PersonForm()
    if form.validate():
        try:
            accounts.save_time_zone(web.db(), web.me().user, form.time_zone.data or "")
            return web.see_other("settings.index", "Saved.")
        except InvalidInput as problem:
            form.show(problem)
    return _person_page(form, PasswordForm(formdata=None)), 422


@blueprint.post("/settings/password")
@web.limiter.limit("20 per hour")
@login_required
def change_password() -> Page:
    """Change one's own password and end every other session."""
    form = PasswordForm()
    if form.validate():
        me = web.me()
        try:
            accounts.change_password(
                web.db(), me.user, form.present.data or "", form.password.data or "", me.session_row.id
            )
            return web.see_other("settings.index", "Your password is changed. Everywhere else you are signed out.")
        except InvalidInput as problem:
            form.show(problem)
    return _person_page(_person_form(), form), 422


@blueprint.post("/settings/sessions/end")
@login_required
def end_other_sessions() -> Response:
    """Sign out everywhere else."""
    accounts.end_other_sessions(web.db(), web.me().user, web.me().session_row.id)
    return web.see_other("settings.index", "Everywhere else you are signed out.")


@blueprint.post("/settings/sessions/<uuid:session_id>/end")
@login_required
def end_session(session_id: uuid.UUID) -> Response:
    """Sign out in one other browser."""
    accounts.end_session(web.db(), web.me().user, session_id)
    return web.see_other("settings.index", "That session has ended.")


@blueprint.get("/settings/workspace")
@web.role_required(Role.ADMIN)
def workspace() -> Page:
    """Name and time zone of the current workspace."""
    return render_template("settings/workspace.html", form=WorkspaceForm(formdata=None, obj=web.current_workspace()))


@blueprint.post("/settings/workspace")
@web.role_required(Role.ADMIN)
def save_workspace() -> Page:
    """Save them."""
    form = WorkspaceForm()
    if form.validate():
        try:
            workspaces.save(
                web.db(), web.actor(), web.current_workspace(), form.name.data or "", form.time_zone.data or ""
            )
            return web.see_other("settings.workspace", "Saved.")
        except InvalidInput as problem:
            form.show(problem)
    return render_template("settings/workspace.html", form=form), 422


@blueprint.get("/settings/workspaces")
@login_required
def new_workspace() -> Page:
    """A further workspace, for the installation's owner."""
    _owner_only()
    return render_template("settings/new_workspace.html", form=NewWorkspaceForm(formdata=None))


@blueprint.post("/settings/workspaces")
@login_required
def create_workspace() -> Page:
    """Make it, and show its lists from now on."""
    _owner_only()
    form = NewWorkspaceForm()
    if form.validate():
        try:
            made = workspaces.create(web.db(), web.me().user, form.workspace_name.data or "")
        except InvalidInput as problem:
            form.show(problem)
        else:
            sign_in.choose_workspace(web.db(), web.me().session_row, made.id)
            return web.see_other("pages.home", f"{made.name} is ready, and chosen.")
    return render_template("settings/new_workspace.html", form=form), 422


def _owner_only() -> None:
    if not web.me().user.is_owner:
        abort(403, web.OWNERS)


def _person_form() -> PersonForm:
    return PersonForm(formdata=None, data={"time_zone": web.me().time_zone})


def _person_page(person: PersonForm, password: PasswordForm) -> str:
    sessions = accounts.sessions_of(web.db(), web.resources().settings, web.me().user.id)
    return render_template("settings/index.html", person=person, password=password, sessions=sessions)

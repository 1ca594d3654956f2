"""The members' pages, for admins of the current workspace."""

from __future__ import annotations

import uuid

from flask import Blueprint, abort, render_template, url_for
from werkzeug.wrappers import Response

from blueprints import web
from blueprints.members.forms import InviteForm, RoleForm
from models import Membership, Role, User
from services.errors import InvalidInput
from services.people import members

blueprint = Blueprint("members", __name__)

Page = str | Response | tuple[str, int]


@blueprint.get("/members")
@web.role_required(Role.ADMIN)
def index() -> Page:
    """Everybody in the workspace, and invitations still open."""
    workspace_id = web.current_workspace().id
    return render_template(
        "members/index.html",
        members=members.members(web.db(), workspace_id),
        invitations=members.invitations(web.db(), workspace_id),
    )


@blueprint.get("/members/invite")
@web.role_required(Role.ADMIN)
def new() -> Page:
    """Whom to invite, and as what."""
    return render_template("members/invite.html", form=InviteForm(formdata=None))


@blueprint.post("/members/invite")
@web.role_required(Role.ADMIN)
def invite() -> Page:
    """Make an invitation; its link is shown on this page and never again."""
    form = InviteForm()
    if form.validate():
        workspace_id, email = web.current_workspace().id, form.email.data or ""
        settings = web.resources().settings
        try:
            token = members.invite(web.db(), settings, web.actor(), workspace_id, email, form.chosen())
        except InvalidInput as problem:
            form.show(problem)
        else:
            return _link_page("auth.join", token, email, "Invitation link")
    return render_template("members/invite.html", form=form), 422


@blueprint.post("/members/invitations/<uuid:link_id>/withdraw")
@web.role_required(Role.ADMIN)
def withdraw(link_id: uuid.UUID) -> Response:
    """Take an invitation back."""
    members.withdraw(web.db(), web.actor(), web.current_workspace().id, link_id)
    return web.see_other("members.index", "The invitation no longer works.")


@blueprint.get("/members/<uuid:user_id>")
@web.role_required(Role.ADMIN)
def show(user_id: uuid.UUID) -> Page:
    """One member."""
    user, membership = _member(user_id)
    form = RoleForm(formdata=None, data={"role": membership.role.value})
    return render_template("members/show.html", user=user, membership=membership, form=form)


@blueprint.post("/members/<uuid:user_id>")
@web.role_required(Role.ADMIN)
def change_role(user_id: uuid.UUID) -> Page:
    """Give a member another role, at once."""
    user, membership = _member(user_id)
    form = RoleForm()
    if not form.validate():
        return render_template("members/show.html", user=user, membership=membership, form=form), 422
    members.change_role(web.db(), web.actor(), web.current_workspace().id, user_id, form.chosen())
    endpoint = "members.index" if user_id != web.me().user.id else "pages.home"
    return web.see_other(endpoint, f"{user.email} is now {_a(form.chosen())}.")


@blueprint.get("/members/<uuid:user_id>/remove")
@web.role_required(Role.ADMIN)
def confirm_remove(user_id: uuid.UUID) -> Page:
    """The question before a member is removed."""
    user, _membership = _member(user_id)
    return render_template("members/remove.html", user=user, workspace=web.current_workspace())


@blueprint.post("/members/<uuid:user_id>/remove")
@web.role_required(Role.ADMIN)
def remove(user_id: uuid.UUID) -> Response:
    """Remove a member, at once."""
    user, _membership = _member(user_id)
    members.remove(web.db(), web.actor(), web.current_workspace().id, user_id)
    endpoint = "members.index" if user_id != web.me().user.id else "pages.home"
    return web.see_other(endpoint, f"{user.email} is no longer a member.")


@blueprint.post("/members/<uuid:user_id>/password-link")
@web.role_required(Role.ADMIN)
def password_link(user_id: uuid.UUID) -> Page:
    """Make a link with which the member chooses a new password; shown on this page and never again."""
    user, _membership = _member(user_id)
    workspace_id, settings = web.current_workspace().id, web.resources().settings
    token = members.password_link(web.db(), settings, web.me().user, workspace_id, user_id)
    return _link_page("auth.new_password", token, user.email, "Password link")


def _member(user_id: uuid.UUID) -> tuple[User, Membership]:
    """Somebody of the current workspace; anybody else is a 404 like nobody."""
    membership = web.db().get(Membership, (web.current_workspace().id, user_id))
    if membership is None:
        abort(404)
    return web.db().get_one(User, user_id), membership


def _link_page(endpoint: str, token: str, email: str, label: str) -> str:
    settings = web.resources().settings
    address = settings.public_url + url_for(endpoint, token=token)
    return render_template(
        "members/link.html", address=address, email=email, label=label, days=round(settings.link_ttl / 86400)
    )


def _a(role: Role) -> str:
    return f"{'an' if role.value[0] in 'ao' else 'a'} {role.value}"

"""Pages for people who are not signed in yet, and signing out."""

from __future__ import annotations

import uuid

from flask import Blueprint, abort, redirect, render_template, request, session, url_for
from flask_login import current_user, login_required, login_user, logout_user
from flask_wtf.csrf import generate_csrf
from werkzeug.wrappers import Response

from blueprints import carried, web
from blueprints.auth.forms import JoinForm, NewPasswordForm, SetupForm, SignInForm
from models import LinkPurpose, SingleUseLink, User, Workspace
from services.errors import InvalidInput, Refused
from services.people import links, members, sign_in

blueprint = Blueprint("auth", __name__)

Page = str | Response | tuple[str, int]


def throttle_key() -> str:
    """Sign-ins are counted for each address and account together."""
    email = sign_in.normal_email(request.form.get("email", ""))
    return f"{request.remote_addr}|{links.digest(email)}"


def refused(response: Response) -> bool:
    """Only failures count against the limit."""
    return response.status_code == 422


@blueprint.get("/login")
def login() -> Page:
    """The sign-in page."""
    target = web.safe_next(request.args.get("next")) or ""
    if current_user.is_authenticated:
        return redirect(target or url_for("pages.home"), 303)
    return render_template("auth/login.html", form=SignInForm(), next=target)


@blueprint.post("/login")
@web.limiter.limit("10 per 5 minutes", key_func=throttle_key, deduct_when=refused)
@web.limiter.limit("100 per hour", deduct_when=refused)
def sign_in_now() -> Page:
    """Check the password and open a session."""
    form = SignInForm()
    target, came_along = web.safe_next(request.form.get("next")), carried.with_sign_in()
    if form.validate():
        try:
            _user, token = sign_in.sign_in(web.db(), form.email.data or "", form.password.data or "", browser())
        except sign_in.WrongPassword as problem:
            form.form_errors.append(str(problem))
        else:
            start_session(token)
            return carried.page(came_along) if came_along else redirect(target or url_for("pages.home"), 303)
    return render_template("auth/login.html", form=form, next=target or "", carried=came_along), 422


@blueprint.post("/logout")
@login_required
def logout() -> Response:
    """End the session here and on the server."""
    sign_in.sign_out(web.db(), web.me().token)
    logout_user()
    session.clear()
    return web.see_other("auth.login", "You are signed out.")


@blueprint.get("/session")
@login_required
def form_token() -> Response:
    """A fresh form token for a page that has been open for long; 401 when its session ended."""
    return Response(generate_csrf(), mimetype="text/plain")


@blueprint.post("/workspace")
@login_required
def choose_workspace() -> Response:
    """Switch to another workspace of one's own."""
    try:
        workspace_id = uuid.UUID(request.form.get("workspace_id", ""))
    except ValueError:
        abort(404)
    if web.role_in(workspace_id) is None:
        abort(404)
    sign_in.choose_workspace(web.db(), web.me().session_row, workspace_id)
    return web.see_other("pages.home")


@blueprint.get("/setup")
def setup() -> Page:
    """The first page of a new installation, by its set-up link."""
    token = request.args.get("token", "")
    links.find(web.db(), LinkPurpose.SETUP, token)
    return render_template("auth/setup.html", form=SetupForm(), token=token)


@blueprint.post("/setup")
@web.limiter.limit("30 per hour")
def set_up() -> Page:
    """Make the first workspace and sign its admin in."""
    form, token = SetupForm(), request.form.get("token", "")
    if form.validate():
        fields = (form.workspace_name.data or "", form.email.data or "", form.password.data or "")
        try:
            user = members.set_up(web.db(), token, *fields, form.time_zone.data or "")
        except InvalidInput as problem:
            form.show(problem)
        else:
            return enter(user)
    return render_template("auth/setup.html", form=form, token=token), 422


@blueprint.get("/join/<token>")
def join(token: str) -> Page:
    """An invitation: for somebody signed in, signed out, or new."""
    link = links.find(web.db(), LinkPurpose.INVITATION, token)
    return _join_page(link, JoinForm(), token)


@blueprint.post("/join/<token>")
@web.limiter.limit("30 per hour")
def join_now(token: str) -> Page:
    """Accept an invitation."""
    link = links.find(web.db(), LinkPurpose.INVITATION, token)
    if current_user.is_authenticated:
        members.join(web.db(), token, web.me().user)
        return web.see_other("pages.home", "You are now a member.")
    if _known(link.email):
        return redirect(url_for("auth.login", next=url_for("auth.join", token=token)), 303)
    form = JoinForm()
    if form.validate():
        try:
            user = members.new_user(link.email, form.password.data or "", form.time_zone.data or "")
            members.join(web.db(), token, user)
        except InvalidInput as problem:
            form.show(problem)
        else:
            return enter(user)
    return _join_page(link, form, token), 422


@blueprint.get("/password/<token>")
def new_password(token: str) -> Page:
    """Choose a new password by link."""
    link = links.find(web.db(), LinkPurpose.PASSWORD, token)
    return _password_page(link, NewPasswordForm(), token)


@blueprint.post("/password/<token>")
@web.limiter.limit("30 per hour")
def set_password(token: str) -> Page:
    """Set it, end every other session, sign in."""
    link, form = links.find(web.db(), LinkPurpose.PASSWORD, token), NewPasswordForm()
    if form.validate():
        try:
            return enter(members.set_password(web.db(), token, form.password.data or ""))
        except InvalidInput as problem:
            form.show(problem)
    return _password_page(link, form, token), 422


@blueprint.errorhandler(links.LinkSpent)
def spent(problem: Refused) -> tuple[str, int]:
    """A link that no longer works."""
    return render_template("auth/spent.html", words=str(problem)), 410


def enter(user: User) -> Response:
    """Sign in somebody who has just proven who they are."""
    token = sign_in.open_session(web.db(), user, browser())
    web.db().commit()
    start_session(token)
    return web.see_other("pages.home")


def browser() -> str:
    """What the browser says it is; any client may send anything here."""
    return "".join(filter(str.isprintable, str(request.user_agent)))


def start_session(token: str) -> None:
    """A new cookie for a new session: nothing from before sign-in survives in it."""
    found = sign_in.current(web.db(), web.resources().settings, token)
    assert found is not None
    session.clear()
    session.permanent = True
    login_user(web.Person(*found, token))


def _join_page(link: SingleUseLink, form: JoinForm, token: str) -> str:
    workspace = web.db().get_one(Workspace, link.workspace_id)
    return render_template(
        "auth/join.html", link=link, form=form, workspace=workspace, known=_known(link.email), token=token
    )


def _password_page(link: SingleUseLink, form: NewPasswordForm, token: str) -> str:
    email = web.db().get_one(User, link.user_id).email
    return render_template("auth/password.html", form=form, email=email, token=token)


def _known(email: str) -> bool:
    return members.exists(web.db(), email)

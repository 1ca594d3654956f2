"""Forms of people who are not signed in yet."""

from __future__ import annotations

from wtforms import EmailField, HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired, InputRequired, Length

from blueprints.forms import Form, plain_line, stripped


def new_password() -> PasswordField:
    """A field for a password to choose; a form shows its fields, and their problems, in the order they are made in."""
    return PasswordField(
        "Password", [InputRequired("Choose a password.")], description="At least 12 characters; a few words work well."
    )


class SignInForm(Form):
    """E-mail and password; what was typed elsewhere may come along (blueprints/carried.py)."""

    besides = Form.besides | {"carried_to", "carried_left_out"}

    email = EmailField("Email", [InputRequired("Enter your e-mail address."), Length(max=254)], filters=[stripped])
    password = PasswordField("Password", [InputRequired("Enter your password.")])

    def strangers(self) -> list[str]:
        """What is carried along belongs to another form."""
        return [name for name in super().strangers() if not name.startswith("carried:")]


class NewPasswordForm(Form):
    """A password to choose."""

    password = new_password()


class SetupForm(NewPasswordForm):
    """The first workspace and its admin."""

    workspace_name = StringField(
        "Workspace name",
        [DataRequired("Give the workspace a name."), Length(max=100), plain_line],
        filters=[stripped],
        description="Usually the name of your company or team.",
    )
    email = EmailField("Email", [InputRequired("Enter your e-mail address."), Length(max=254)], filters=[stripped])
    password = new_password()
    time_zone = HiddenField()


class JoinForm(NewPasswordForm):
    """A person new to the installation accepts an invitation."""

    time_zone = HiddenField()

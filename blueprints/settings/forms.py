"""Forms of the settings pages."""

from __future__ import annotations

from zoneinfo import available_timezones

from wtforms import PasswordField, SelectField, StringField
from wtforms.fields import SelectChoice
from wtforms.validators import DataRequired, InputRequired, Length

from blueprints.forms import Form, plain_line, stripped

REGIONS = ("Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")


def zones() -> list[SelectChoice]:
    """Time zones by region, as a select groups them."""
    found = [SelectChoice("UTC", optgroup="Everywhere")]
    for name in sorted(available_timezones()):
        region, slash, place = name.partition("/")
        if slash and region in REGIONS:
            found.append(SelectChoice(name, place.replace("_", " ").replace("/", ", "), optgroup=region))
    return found


ZONES = zones()


class PersonForm(Form):
    """How times are shown to this person."""

    time_zone = SelectField(
        "Time zone",
        choices=[SelectChoice("", "The browser's"), *ZONES],
        description="Used for the times shown to you.",
    )


class PasswordForm(Form):
    """Change one's own password."""

    present = PasswordField("Present password", [InputRequired("Enter your present password.")])
    password = PasswordField(
        "New password",
        [InputRequired("Choose a new password.")],
        description="At least 12 characters; a few words work well.",
    )


class WorkspaceForm(Form):
    """What a workspace is called, and where it is."""

    name = StringField(
        "Workspace name",
        [DataRequired("Give the workspace a name."), Length(max=100), plain_line],
        filters=[stripped],
    )
    time_zone = SelectField("Time zone", choices=ZONES, description="Used for dates inside cards.")


class NewWorkspaceForm(Form):
    """A further workspace of the installation."""

    workspace_name = StringField(
        "Workspace name",
        [DataRequired("Give the workspace a name."), Length(max=100), plain_line],
        filters=[stripped],
        description="You become its admin and invite others from its Members page.",
    )

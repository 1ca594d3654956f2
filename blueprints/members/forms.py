"""Forms of the members' pages."""

from __future__ import annotations

from wtforms import EmailField, RadioField
from wtforms.fields import SelectChoice
from wtforms.validators import InputRequired, Length

from blueprints.forms import Form, stripped
from models import Role

ROLES = (
    SelectChoice(Role.AGENT.value, "Agent: sees cards"),
    SelectChoice(Role.OPERATOR.value, "Operator: also sees connections and operations, and refreshes tokens"),
    SelectChoice(Role.ADMIN.value, "Admin: also edits cards and connections, and manages members"),
)


class RoleForm(Form):
    """A member's role."""

    role = RadioField("Role", choices=ROLES)

    def chosen(self) -> Role:
        """The role, after validation."""
        return Role(self.role.data)


class InviteForm(RoleForm):
    """An invitation."""

    email = EmailField("Email", [InputRequired("Enter an e-mail address."), Length(max=254)], filters=[stripped])
    role = RadioField("Role", choices=ROLES, default=Role.AGENT.value)

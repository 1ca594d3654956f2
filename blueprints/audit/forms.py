"""Which entries of the audit trail are shown: a form that lives in the address."""

from __future__ import annotations

from typing import Any

from flask import request
from wtforms import SearchField, SelectField
from wtforms.fields import SelectChoice

from blueprints.audit.words import KINDS
from blueprints.forms import Form, stripped

LONGEST_TEXT = 100


class FilterForm(Form):
    """What entries are about, and a name in them."""

    class Meta:
        """Only reads, so it carries no token."""

        csrf = False

    about = SelectField("About", validate_choice=False)
    text = SearchField("Name or person", filters=[stripped], render_kw={"maxlength": LONGEST_TEXT})

    @classmethod
    def from_address(cls) -> FilterForm:
        """Read from the query. Nonsense filters nothing."""
        form = cls(request.args)
        choices = [SelectChoice(kind, words) for kind, (words, _) in KINDS.items()]
        form.about.choices = [SelectChoice("", "Everything"), *choices]
        if form.about.data not in KINDS:
            form.about.data = ""
        form.validate()  # replaces what no database could be asked for
        form.text.data = (form.text.data or "")[:LONGEST_TEXT]
        return form

    @property
    def subjects(self) -> tuple[str, ...]:
        """First words of the actions that are shown; none for all of them."""
        return KINDS[self.about.data][1] if self.about.data else ()

    def address(self) -> dict[str, Any]:
        """The filter as parts of an address; what is not set is left out."""
        return {name: value for name, value in (("about", self.about.data), ("text", self.text.data)) if value}

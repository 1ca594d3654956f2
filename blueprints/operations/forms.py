"""What an operator looks at: filters that live in the address, so that a view can be bookmarked and shared."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from flask import request
from wtforms import BooleanField, SearchField, SelectField
from wtforms.fields import SelectChoice

from blueprints.forms import Form, stripped
from models import SHOWN_STATES
from services.operating.overview import Filter

LONGEST_TEXT = 100


class FilterForm(Form):
    """Which connections are shown."""

    class Meta:
        """Only reads, so it carries no token."""

        csrf = False

    text = SearchField("Search", filters=[stripped], render_kw={"maxlength": LONGEST_TEXT})
    state = SelectField("State", validate_choice=False)
    failing = BooleanField("Failing only")

    @classmethod
    def from_address(cls) -> FilterForm:
        """Read from the query. Nonsense filters nothing."""
        form = cls(request.args)
        form.state.choices = [SelectChoice(shown, shown) for shown in ("", *SHOWN_STATES)]
        if form.state.data not in SHOWN_STATES:
            form.state.data = ""
        form.validate()  # replaces what no database could be asked for
        form.text.data = (form.text.data or "")[:LONGEST_TEXT]
        return form

    def offer(self, counts: Mapping[str, int]) -> None:
        """Say beside each state how many there are."""
        self.state.choices = [SelectChoice("", f"Any state ({sum(counts.values())})")]
        self.state.choices += [SelectChoice(shown, f"{shown} ({number})") for shown, number in counts.items()]

    def wanted(self, workspace_id: uuid.UUID | None) -> Filter:
        """The filter, for one workspace or all."""
        return Filter(workspace_id, self.state.data or "", self.text.data or "", bool(self.failing.data))

    def address(self) -> dict[str, Any]:
        """The filters as parts of an address; those not set are left out."""
        values = {"text": self.text.data, "state": self.state.data, "failing": "y" if self.failing.data else ""}
        return {name: value for name, value in values.items() if value}

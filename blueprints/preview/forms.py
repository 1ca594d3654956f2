"""Sample values of a conversation, one field for each placeholder that a card uses."""

from __future__ import annotations

from collections.abc import Iterable

from wtforms import StringField
from wtforms.validators import Length

from blueprints.forms import Form, plain_line, stripped
from rendering.placeholders import Placeholder

LONGEST = 200


def values_form(used: Iterable[Placeholder]) -> type[Form]:
    """A form class with a field for each placeholder; what is not typed starts as the placeholder's sample."""
    fields = {known.name: _field(known) for known in used}
    return type("SampleValues", (Form,), fields)


def _field(known: Placeholder) -> StringField:
    too_long = f"Use at most {LONGEST} characters."
    return StringField(
        known.label,
        [Length(max=LONGEST, message=too_long), plain_line],
        filters=[stripped],
        default=known.sample,
        description=f"{{{{{known.name}}}}}",
    )

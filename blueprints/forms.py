"""What every form shares: text the database can hold, all errors at once, and a service's errors at their fields."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

from flask import request
from flask_wtf import FlaskForm
from werkzeug.datastructures import MultiDict
from wtforms import Field, FieldList, FormField, HiddenField
from wtforms.validators import ValidationError

import logs
from blueprints.web import SAFE_METHODS
from services.errors import InvalidInput

log = logs.get(__name__)

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
LINE_BREAKING = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Form(FlaskForm):
    """Base of every form."""

    class Meta(FlaskForm.Meta):
        """Fields hold text."""

        def wrap_formdata(self, form: FlaskForm, formdata: Any) -> Any:
            """Read posted text only: uploaded files and JSON would be other things than text, and no page sends any."""
            if formdata is None or isinstance(formdata, MultiDict):
                return formdata
            return (request.form or None) if request.method not in SAFE_METHODS else None

    besides: frozenset[str] = frozenset({"csrf_token", "next", "token"})
    """Names a form may carry besides its fields."""

    def strangers(self) -> list[str]:
        """Names that were posted and belong to no field: nothing is done with them (MT-03)."""
        fields = [field.name for field in self]
        return sorted(
            name
            for name in request.form
            if name.startswith(self._prefix)
            and name not in self.besides
            and not any(name == field or name.startswith(f"{field}-") for field in fields)
        )

    def validate(self, extra_validators: Any = None) -> bool:
        """Check every field; refuse what no database can hold before anything else looks at it."""
        bad = [field for field in self if isinstance(field.data, str) and UNSTORABLE.search(field.data)]
        for field in bad:
            field.data = UNSTORABLE.sub("\ufffd", field.data)
        strangers = self.strangers()
        if strangers:
            log.info("fields ignored", endpoint=request.endpoint, names=[name[:60] for name in strangers[:20]])
        sound = bool(super().validate(extra_validators))
        for field in bad:  # afterwards, because validating starts with an empty list of errors
            found: Any = field
            found.errors = [*field.errors, "This contains a character that cannot be stored; it is shown as \ufffd."]
        return sound and not bad

    def show(self, problem: InvalidInput) -> None:
        """Put a service's errors at their fields; what has no field stands above the form."""
        for name, words in problem.errors.items():
            field = self._fields.get(name)
            if field is None:
                self.form_errors.append(words)
            else:
                field.errors = [*field.errors, words]

    def problems(self) -> list[tuple[str, str, str]]:
        """Everything to correct, for the list above the form: element id (or empty), label, words."""
        found = [("", "", words) for words in self.form_errors]
        for field in self:
            found += _problems_of(field)
        return found


class Rows(FieldList):
    """A list of fields in which odd numbers in a name are no rows: not every digit is one that `int` takes."""

    def _extract_indices(self, prefix: str, formdata: Any) -> Iterator[int]:
        for name in formdata:
            number = name.removeprefix(f"{prefix}-").partition("-")[0]
            if name.startswith(f"{prefix}-") and number.isascii() and number.isdigit() and len(number) < 10:
                yield int(number)


def _problems_of(field: Any) -> list[tuple[str, str, str]]:
    """A field's problems; a list of fields tells of its entries', each at its own element."""
    if isinstance(field, (FieldList, FormField)):
        return [problem for entry in field for problem in _problems_of(entry)]
    return [(field.id, field.label.text, str(words)) for words in field.errors]


class VersionedForm(Form):
    """A form about a row that others may save meanwhile."""

    version = HiddenField()

    def read_version(self) -> int:
        """The version of the row this form was made from; 0 for anything unreadable."""
        text = str(self.version.data or "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def plain_line(_form: Any, field: Field) -> None:
    """Validator: one line without control or direction-changing characters."""
    if field.data and (LINE_BREAKING.search(field.data) or "\n" in field.data or "\r" in field.data):
        raise ValidationError("Use one line of plain text, without control characters.")


def stripped(value: str | None) -> str:
    """Filter: text without blanks at its ends."""
    return value.strip() if isinstance(value, str) else ""


def parsed_uuid(text: str | None) -> uuid.UUID | None:
    """An id from a form, or None for anything that is none."""
    try:
        return uuid.UUID(text or "")
    except ValueError:
        return None

"""A form field for a secret: typed once, never shown again, and not lost when the form is refused."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from datetime import datetime
from typing import Any

from markupsafe import Markup
from pydantic import SecretStr
from wtforms import Field
from wtforms.validators import ValidationError
from wtforms.widgets import html_params

from blueprints.web import me, resources
from models.types import Place, Undecryptable

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
LONGEST = 16_384


class SecretInput:
    """A password input that is always empty; what was typed before travels beside it, sealed."""

    def __call__(self, field: SecretField, **attributes: Any) -> Markup:
        """HTML of the field."""
        attributes = {"autocomplete": "off", "spellcheck": "false", "placeholder": field.hint, **attributes}
        attributes |= {"id": field.id, "name": field.name, "type": "password", "value": ""}
        kept = ""
        if field.data is not None:
            kept = f"<input {html_params(type='hidden', name=field.kept_name, value=field.sealed())}>"
        return Markup(f"<input {html_params(**attributes)}>{kept}")  # noqa: S704  # html_params escapes every value


class SecretField(Field):
    """`data` is a SecretStr, or None where nothing was typed, which keeps the stored value.

    A refused form carries the typed secret back as ciphertext that only this person's next try can open,
    so that nothing typed is lost and nothing is rendered in plain.
    """

    widget = SecretInput()
    data: SecretStr | None
    was_carried: bool
    """Whether `data` is what an earlier try carried along, and nothing was typed since."""

    def __init__(self, *args: Any, set_at: datetime | None = None, **kwargs: Any) -> None:
        """`set_at`: when the stored secret was set; None where there is none."""
        super().__init__(*args, **kwargs)
        self.set_at = set_at
        self.was_carried = False

    @property
    def kept_name(self) -> str:
        """Name of the hidden input."""
        return f"{self.name}-kept"

    @property
    def hint(self) -> str:
        """What the empty input says about itself."""
        if self.data is not None:
            return "Filled in, not shown"
        return "Leave empty to keep it" if self.set_at else ""

    def process(self, formdata: Any, data: Any = None, extra_filters: Any = None) -> None:
        """Read what was typed, or else what an earlier try carried along."""
        super().process(formdata, None, extra_filters)
        self.data = data if isinstance(data, SecretStr) else None
        if formdata is None:
            return
        typed = formdata.get(self.name) or ""
        kept = formdata.get(self.kept_name) or ""
        self.data = SecretStr(typed) if typed else self._opened(kept)
        self.was_carried = not typed and self.data is not None

    def pre_validate(self, form: Any) -> None:
        """Refuse what cannot be stored."""
        if self.data is None:
            return
        if UNSTORABLE.search(self.data.get_secret_value()):
            self.data = None
            raise ValidationError("This contains a character that cannot be stored. Enter it once more.")
        if len(self.data.get_secret_value()) > LONGEST:
            raise ValidationError(f"This may hold {LONGEST} characters at most.")

    def sealed(self) -> str:
        """Ciphertext of the typed value, bound to this person and this field."""
        assert self.data is not None
        return base64.b64encode(resources().database.keyring.encrypt(self.data, self._place())).decode()

    def _opened(self, kept: str) -> SecretStr | None:
        if not kept:
            return None
        try:
            return resources().database.keyring.decrypt(base64.b64decode(kept, validate=True), self._place())
        except (binascii.Error, Undecryptable):
            return None

    def _place(self) -> Place:
        return Place(uuid.UUID(int=0), "form", me().user.id, self.short_name)

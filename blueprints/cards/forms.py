"""The card's form: its own fields, its headers, and its connection's fields in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup
from pydantic import SecretStr
from werkzeug.datastructures import MultiDict
from wtforms import BooleanField, FormField, HiddenField, SelectField, StringField, TextAreaField
from wtforms import Form as PlainForm
from wtforms.widgets import html_params

from blueprints.connections.forms import ConnectionForm
from blueprints.forms import Form, Rows, VersionedForm, parsed_uuid, stripped
from blueprints.secret_field import SecretField, SecretInput
from models import Card, CardAuthorization, CardHeader
from models.types import Keyring, Undecryptable
from rendering import placeholders
from services.errors import InvalidInput
from services.setup import headers
from services.setup.cards import CONNECTION, METHODS, TypedCard, TypedConnection
from services.setup.connections import Offer
from services.setup.headers import TypedHeader

NEW = "new"
LONGEST_LOOKED_FOR = 100
PLACEHOLDERS = ", ".join(f"{{{{{known.name}}}}} ({known.label})" for known in placeholders.KNOWN)
AUTHORIZATIONS = {
    CardAuthorization.NONE.value: "None",
    CardAuthorization.HEADER.value: "Authorization header",
    CardAuthorization.OAUTH.value: "OAuth",
}


class HeaderInput(SecretInput):
    """An ordinary input for an ordinary value, a sealed one for a secret."""

    def __call__(self, field: Any, **attributes: Any) -> Markup:
        """HTML of the field."""
        if field.secret:
            return super().__call__(field, **attributes)
        value = field.data.get_secret_value() if field.data else ""
        attributes |= {"id": field.id, "name": field.name, "type": "text", "value": value}
        return Markup(f"<input {html_params(**attributes)}>")  # noqa: S704  # html_params escapes every value


class HeaderValueField(SecretField):
    """A header's value; a secret one is never shown again."""

    widget = HeaderInput()
    secret = False


class HeaderForm(PlainForm):
    """One header."""

    row_id = HiddenField()
    name = StringField("Name", filters=[stripped])
    value = HeaderValueField("Value")
    secret = BooleanField("Secret")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Keep the value from sight where it is a secret."""
        super().__init__(*args, **kwargs)
        value: Any = self.value
        # What was typed as a secret stays one until it is typed again, as a stored one does: the tick shows nothing.
        self.secret.data = bool(self.secret.data) or value.was_carried
        value.secret = headers.is_secret(self.name.data or "", self.secret.data)

    def typed(self) -> TypedHeader:
        """What was typed."""
        row_id = parsed_uuid(self.row_id.data)
        return TypedHeader(self.name.data or "", self.value.data, bool(self.secret.data), row_id)


class CardForm(VersionedForm):
    """Everything about one card."""

    title = StringField("Title", filters=[stripped], description="Agents see it above the panel.")
    hook_url = StringField(
        "Hook URL",
        filters=[stripped],
        description="The address that answers with JSON. It and the headers may hold placeholders for a "
        f"conversation's values: {PLACEHOLDERS}.",
    )
    method = SelectField("Method", choices={method: method for method in METHODS})
    authorization = SelectField("Authorization", choices=AUTHORIZATIONS, id="card-authorization")
    connection_id = SelectField("Connection", validate_choice=False)
    authorization_header = SecretField(
        "Authorization header", description="The whole value, such as Bearer followed by the token."
    )
    headers: Any = Rows(FormField(HeaderForm), label="Headers")
    template_content = TextAreaField(
        "Template content", description="HTML and Liquid. The reply's keys can be used by name: {{ customer.name }}"
    )

    besides = Form.besides | {
        *("card_id", "workspace_id", "shown_connection", "add_header", "remove_header"),
        *("find_connection", "found_for", "entered"),
    }

    connection: ConnectionForm | None = None
    """The fields of the connection that is shown with the card."""

    looked_for: str = ""
    """Part of the names of the connections to choose from."""
    offer: Offer | None = None

    def choose_among(self, offer: Offer) -> None:
        """Offer connections of the workspace."""
        self.offer = offer
        choices = {NEW: "New connection", **{str(row_id): name for row_id, name in offer.names.items()}}
        self.connection_id.choices = choices
        if self.connection_id.data not in choices:
            self.connection_id.data = NEW

    def strangers(self) -> list[str]:
        """The connection's names are its own form's business."""
        return [name for name in super().strangers() if not name.startswith(CONNECTION)]

    @property
    def wants_oauth(self) -> bool:
        """Whether the connection's fields are shown."""
        return bool(self.authorization.data == CardAuthorization.OAUTH.value)

    @property
    def wants_header(self) -> bool:
        """Whether the Authorization header's field is shown."""
        return bool(self.authorization.data == CardAuthorization.HEADER.value)

    @property
    def readable(self) -> bool:
        """Whether `typed` can be called: every choice is one that was offered."""
        return not self.authorization.errors and (self._part is None or self._part.readable)

    @property
    def _part(self) -> ConnectionForm | None:
        return self.connection if self.wants_oauth else None

    def validate(self, extra_validators: Any = None) -> bool:
        """Check the card's fields and its connection's, all of them."""
        return all([super().validate(extra_validators), self._part is None or self._part.validate()])

    def problems(self) -> list[tuple[str, str, str]]:
        """Everything to correct, the connection's part included."""
        return [*super().problems(), *(self._part.problems() if self._part else ())]

    def notes(self) -> list[str]:
        """What looks like an accident in something that was kept exactly as typed."""
        return self._part.notes() if self._part else []

    def date_secrets(self, card: Card | None, rows: Sequence[CardHeader]) -> None:
        """Say of each stored secret when it was set."""
        field: Any = self.authorization_header
        field.set_at = card.authorization_header_set_at if card else None
        stored = {str(row.id): row for row in rows}
        for entry in self.headers:
            row = stored.get(entry.form.row_id.data or "")
            if row is None:
                entry.form.row_id.data = ""
            elif row.secret:
                entry.form.value.secret, entry.form.value.set_at = True, row.set_at

    def show(self, problem: InvalidInput) -> None:
        """Put errors at the fields of the card, its headers and its connection."""
        rest: dict[str, str] = {}
        for name, words in problem.errors.items():
            part = name.split("-")
            if name.startswith(CONNECTION) and self.connection is not None:
                self.connection.show(InvalidInput({name.removeprefix(CONNECTION): words}))
            elif len(part) == 3 and part[0] == "headers":
                field = self.headers[int(part[1])].form[part[2]]
                field.errors = [*field.errors, words]
            else:
                rest[name] = words
        super().show(InvalidInput(rest))

    def typed(self) -> TypedCard:
        """What was typed; call after `validate`."""
        return TypedCard(
            title=self.title.data or "",
            hook_url=self.hook_url.data or "",
            method=self.method.data or "",
            authorization=CardAuthorization(self.authorization.data),
            connection_id=parsed_uuid(self.connection_id.data),
            authorization_header=self.authorization_header.data,
            headers=[entry.form.typed() for entry in self.headers],
            template_content=self.template_content.data or "",
            connection=self._typed_connection(),
        )

    def _typed_connection(self) -> TypedConnection | None:
        if self._part is None:
            return None
        return TypedConnection(self._part.configuration(), self._part.read_version())


def typed_card(formdata: MultiDict[str, str]) -> CardForm:
    """The form with everything that was typed, header rows added or removed as asked."""
    form = CardForm(formdata=formdata)
    gone = formdata.get("remove_header", "")
    if gone.isascii() and gone.isdigit() and len(gone) < 10 and int(gone) < len(form.headers.entries):
        kept = [entry for place, entry in enumerate(form.headers.entries) if place != int(gone)]
        form = CardForm(formdata=_renumbered(formdata, [entry.name for entry in kept]))
    if "add_header" in formdata and len(form.headers.entries) < headers.MOST:
        form.headers.append_entry()
    form.looked_for = " ".join(formdata.get("find_connection", "").split())[:LONGEST_LOOKED_FOR]
    return form


def stored_card(card: Card, rows: Sequence[CardHeader], keyring: Keyring) -> CardForm:
    """The form of a stored card; secret values stay where they are."""
    entries = [
        {"row_id": str(row.id), "name": row.name, "secret": row.secret, "value": _shown(row, keyring)} for row in rows
    ]
    values = {
        "version": str(card.version),
        "title": card.title,
        "hook_url": card.hook_url,
        "method": card.method,
        "authorization": card.authorization.value,
        "connection_id": str(card.connection_id or NEW),
        "headers": entries,
        "template_content": card.template_content,
    }
    return CardForm(formdata=None, data=values)


def _shown(row: CardHeader, keyring: Keyring) -> SecretStr | None:
    if row.secret:
        return None
    try:
        return row.unseal("value", keyring)
    except Undecryptable:
        return None


def _renumbered(formdata: MultiDict[str, str], kept: Sequence[str]) -> MultiDict[str, str]:
    """The same form data with only the header rows `kept`, numbered anew."""
    moved = {f"{name}-": f"headers-{place}-" for place, name in enumerate(kept)}
    result: MultiDict[str, str] = MultiDict()
    for name, value in formdata.items(multi=True):
        if not name.startswith("headers-"):
            result.add(name, value)
            continue
        for before, after in moved.items():
            if name.startswith(before):
                result.add(after + name.removeprefix(before), value)
    return result

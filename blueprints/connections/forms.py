"""A form for each flow: the same fields in the order and with the words of that flow."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session
from werkzeug.datastructures import MultiDict
from wtforms import BooleanField, SelectField, StringField, TextAreaField
from wtforms.validators import ValidationError

from blueprints.connections.lives import LIVES_LABEL, LivesForm
from blueprints.secret_field import SecretField
from models import Connection
from oauth.fields import MAPPABLE
from oauth.grants import GRANTS
from oauth.vocabulary import ClientAuthMethod, GrantType
from services.authorizing import grants
from services.engine import client_secrets, tokens
from services.setup.configuration import Configuration

PREFIX = "connection-"
AUTH_METHODS = {
    ClientAuthMethod.AUTOMATIC.value: "Automatic: find out what the provider accepts",
    ClientAuthMethod.BASIC.value: "Basic",
    ClientAuthMethod.BASIC_RAW.value: "Basic, without encoding id and secret first",
    ClientAuthMethod.POST.value: "In the body",
    ClientAuthMethod.NONE.value: "None: a public client without a secret",
}
MAPPED = (
    "Where the provider's token reply keeps a field that is not found by itself: one line each, as in "
    f"access_token=data.token. Fields: {', '.join(MAPPABLE)}. What follows the equals sign is a JMESPath."
)
ADVANCED = (
    "token_endpoint_auth_method",
    "pkce",
    "audience",
    "authorization_params",
    "token_params",
    "issuer",
    "revocation_endpoint",
    "reply_mapping",
)


class ParamsField(TextAreaField):
    """Parameters, `name=value`, one a line; `params` holds them as a mapping."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Start without parameters."""
        super().__init__(*args, **kwargs)
        self.params: dict[str, str] = {}

    def process_data(self, value: Any) -> None:
        """Show a mapping as lines."""
        self.data = "\n".join(f"{name}={item}" for name, item in dict(value or {}).items())

    def pre_validate(self, form: Any) -> None:
        """Read the lines."""
        self.params = {}
        for line in filter(None, (line.strip() for line in (self.data or "").splitlines())):
            name, sign, value = line.partition("=")
            if not sign or not name.strip():
                raise ValidationError(f"Write name=value, one a line. This line does not fit: {line[:60]}")
            if name.strip() in self.params:
                raise ValidationError(f"{name.strip()[:60]} is there twice.")
            self.params[name.strip()] = value.strip()


class ConnectionForm(LivesForm):
    """What both flows ask for; a flow's form says which fields stand where."""

    grant: GrantType
    basic: tuple[str, ...]
    """Fields of the flow, in the guide's order."""

    name = StringField("Connection name", description="How you recognise it here, such as the provider's name.")
    grant_type = SelectField("Flow", choices={grant.value: GRANTS[grant].label for grant in GrantType})
    client_id = StringField("Client ID")
    client_secret = SecretField("Client secret")
    scope = StringField("Scope", description="Exactly as the provider writes it. Several are separated by blanks.")
    authorization_endpoint = StringField("Authorization Endpoint")
    token_endpoint = StringField("Token Endpoint")
    audience = StringField(
        "Audience", description="The API the token is meant for. Only where the provider asks for it."
    )
    token_endpoint_auth_method = SelectField("Token endpoint authentication", choices=AUTH_METHODS)
    pkce = BooleanField("Use PKCE", description="Switch it off only for a provider that refuses it.", default=True)
    authorization_params = ParamsField("Extra authorization parameters", description="name=value, one a line.")
    token_params = ParamsField("Extra token parameters", description="name=value, one a line.")
    issuer = StringField("Issuer", description="If set, answers that come from another issuer are refused.")
    revocation_endpoint = StringField(
        "Revocation Endpoint", description="Told when the connection is disconnected or deleted."
    )

    reply_mapping = ParamsField("Reply mapping", description=MAPPED)
    keep_old_secret = BooleanField(
        "Keep the old secret until a new one has worked",
        description="Cardkey then tries both, the one that worked last first. Switch it off if the old one leaked.",
    )

    secrets: Sequence[client_secrets.Shown] = ()
    """What is stored already, the newest first."""
    kept_secret: client_secrets.Shown | None = None
    """The secret that may stay beside a new one: there is a grant that depends on it."""
    has_grant = False
    stored_id: uuid.UUID | None = None

    def flow_label(self) -> str:
        """The flow's name on the screen."""
        return GRANTS[self.grant].label

    def basic_fields(self) -> list[Any]:
        """The flow's own fields."""
        return [self._fields[name] for name in self.basic]

    def advanced_fields(self) -> list[Any]:
        """The rest of them."""
        return [self._fields[name] for name in ADVANCED if name not in self.basic and name not in self.left_out]

    strange_flow = False
    """Whether another flow was asked for than those that exist."""

    def validate_grant_type(self, _field: Any) -> None:
        """Refuse a flow that does not exist instead of taking another for it (AC-13)."""
        if self.strange_flow:
            raise ValidationError("Choose one of the flows that are offered; there is no other.")

    def hidden_fields(self) -> list[Any]:
        """Fields of the other flow."""
        return [self._fields[name] for name in self.left_out]

    def advanced_is_wrong(self) -> bool:
        """Whether something under Advanced has to be corrected, so that it should be open."""
        return any(field.errors for field in self.advanced_fields()) or self.lives_are_wrong()

    def advanced_in_use(self) -> list[str]:
        """Labels of what differs from the usual under Advanced."""
        usual = (None, "", True, ClientAuthMethod.AUTOMATIC.value)
        own = [field.label.text for field in self.advanced_fields() if field.data not in usual]
        return [*own, *([LIVES_LABEL] if self.lives_in_use() else [])]

    @property
    def readable(self) -> bool:
        """Whether `configuration` can be called: every choice is one that was offered."""
        return not (self.token_endpoint_auth_method.errors or self.expires_in_unit.errors)

    def notes(self) -> list[str]:
        """What looks like an accident in something that was kept exactly as typed."""
        return [
            f"{field.label.text} begins or ends with a blank. It was kept as typed; remove it if it was pasted along."
            for field in (self.client_id, self.scope, self.audience)
            if field.data and field.data != field.data.strip()
        ]

    def configuration(self) -> Configuration:
        """What was typed; call after `validate`."""
        return Configuration(
            name=self.name.data or "",
            grant_type=self.grant,
            client_id=self.client_id.data or "",
            client_secret=self.client_secret.data,
            authorization_endpoint=(self.authorization_endpoint.data or "").strip(),
            token_endpoint=(self.token_endpoint.data or "").strip(),
            revocation_endpoint=(self.revocation_endpoint.data or "").strip(),
            issuer=(self.issuer.data or "").strip(),
            scope=self.scope.data or "",
            audience=self.audience.data or "",
            token_endpoint_auth_method=ClientAuthMethod(self.token_endpoint_auth_method.data),
            pkce=bool(self.pkce.data),
            authorization_params=self.authorization_params.params,
            token_params=self.token_params.params,
            reply_mapping=self.reply_mapping.params,
            keep_old_secret=bool(self.keep_old_secret.data),
            **self.lives(),
        )


class AuthorizationCodeForm(ConnectionForm):
    """RFC 6749 §4.1."""

    grant = GrantType.AUTHORIZATION_CODE
    basic = ("client_id", "client_secret", "scope", "authorization_endpoint", "token_endpoint")


class ClientCredentialsForm(ConnectionForm):
    """RFC 6749 §4.4."""

    grant = GrantType.CLIENT_CREDENTIALS
    basic = ("client_id", "client_secret", "authorization_endpoint", "token_endpoint", "scope", "audience")
    left_out = ("pkce", "authorization_params", "idle_limit")


FORMS: Mapping[GrantType, type[ConnectionForm]] = {
    form.grant: form for form in (AuthorizationCodeForm, ClientCredentialsForm)
}


def form_class(name: str | None) -> type[ConnectionForm]:
    """The form of a flow by its name; the first flow for anything else."""
    known = {grant.value: grant for grant in GrantType}
    return FORMS[known.get(name or "", GrantType.AUTHORIZATION_CODE)]


def typed_form(formdata: MultiDict[str, str], session: Session, stored: Connection | None) -> ConnectionForm:
    """The form of whichever flow is chosen in `formdata`, with everything that was typed."""
    chosen = formdata.get(f"{PREFIX}grant_type")
    form = form_class(chosen)(formdata=formdata, prefix=PREFIX)
    form.strange_flow = chosen != form.grant.value
    return _dated(form, session, stored)


def stored_form(session: Session, stored: Connection) -> ConnectionForm:
    """The form of a stored connection."""
    form = FORMS[stored.grant_type](formdata=None, obj=stored, prefix=PREFIX)
    form = _dated(form, session, stored)
    form.keep_old_secret.data = form.kept_secret is not None and not form.kept_secret.refused
    return form


def empty_form(values: Mapping[str, Any] | None = None) -> ConnectionForm:
    """The form of a connection to be made, with suggested values."""
    values = values or {}
    form = form_class(values.get("grant_type"))(formdata=None, prefix=PREFIX, data={"version": "0", **values})
    form.grant_type.data = form.grant.value
    return form


def _dated(form: ConnectionForm, session: Session, stored: Connection | None) -> ConnectionForm:
    if stored is not None:
        token = tokens.current_token(session, stored)
        form.stored_id, form.secrets = stored.id, client_secrets.shown(session, stored, token)
        form.has_grant = grants.kept(token)
        form.kept_secret = client_secrets.to_keep(form.secrets) if form.has_grant else None
    form.client_secret.set_at = form.secrets[0].set_at if form.secrets else None
    form.grant_type.data = form.grant.value
    return form

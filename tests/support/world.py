"""Two workspaces with people, and what a test puts into them: made by the records and verbs the portal uses."""

import functools
import itertools
import uuid

from pydantic import SecretStr

from models import (
    Card,
    CardAuthorization,
    CardHeader,
    ClientSecret,
    Connection,
    ConnectionState,
    Membership,
    Role,
    Token,
    User,
    Workspace,
)
from oauth.grants import GRANTS
from oauth.vocabulary import ClientAuthMethod, GrantType, LifetimeRung, TokenReply
from outbound import origin
from services.engine import settle, states, tokens
from services.people import passwords, sign_in
from services.resources import Resources
from tests.support.provider import CLIENTS, Provider

PASSWORD = "a lamp of walnut wood"
ELSEWHERE = "https://provider.example"
"""Where connections of tests without a provider point to; never called."""


@functools.cache
def password_hash() -> str:
    """Hashing is slow on purpose: once a process."""
    return passwords.hash_password(PASSWORD)


def token_reply(access: str, refresh: str | None = None, lifetime: float | None = 3600, **more) -> TokenReply:
    """A token reply as `oauth.reply` would have read it."""
    fields = {
        "access_token": SecretStr(access),
        "refresh_token": SecretStr(refresh) if refresh else None,
        "token_type": "Bearer",
        "scope": None,
        "lifetime": lifetime,
        "lifetime_rung": LifetimeRung.UNKNOWN if lifetime is None else LifetimeRung.REPLY,
        "raw": SecretStr("{}"),
        "auth_method": ClientAuthMethod.BASIC,
    }
    return TokenReply(**{**fields, **more})


class World:
    """`acme` with an owner and admin, an operator and an agent; `globex` with an admin. Everything is committed."""

    password = PASSWORD

    def __init__(self, resources: Resources, provider: Provider | None) -> None:
        self.resources, self.provider = resources, provider
        self.app = None
        self._numbers = itertools.count(1)
        self.acme, self.globex = Workspace(name="Acme"), Workspace(name="Globex")
        self.alice = self._person("alice@acme.example", is_owner=True)
        self.oscar, self.ann = self._person("oscar@acme.example"), self._person("ann@acme.example")
        self.gus = self._person("gus@globex.example")
        self._add(self.acme, self.globex, self.alice, self.oscar, self.ann, self.gus)
        self._add(
            Membership(workspace_id=self.acme.id, user_id=self.alice.id, role=Role.ADMIN),
            Membership(workspace_id=self.acme.id, user_id=self.oscar.id, role=Role.OPERATOR),
            Membership(workspace_id=self.acme.id, user_id=self.ann.id, role=Role.AGENT),
            Membership(workspace_id=self.globex.id, user_id=self.gus.id, role=Role.ADMIN),
        )

    def join(self, workspace: Workspace, person: User, role: Role) -> None:
        """Make somebody a member of a workspace as well."""
        self._add(Membership(workspace_id=workspace.id, user_id=person.id, role=role))

    def leave(self, workspace: Workspace, person: User) -> None:
        """Let somebody be no member any more."""
        with self.resources.database.session(writing=True) as session:
            session.delete(session.get_one(Membership, (workspace.id, person.id)))
            session.commit()

    @staticmethod
    def _person(email: str, **columns) -> User:
        return User(email=email, password_hash=password_hash(), **columns)

    def _add(self, *rows) -> None:
        with self.resources.database.session(writing=True) as session:
            for row in rows:
                session.add(row)
                session.flush()
            session.commit()

    def client(self, person: User):
        """A browser in which `person` has signed in; needs the `app` fixture."""
        assert self.app is not None, "ask for the fixture app as well"
        with self.resources.database.session(writing=True) as session:
            token = sign_in.open_session(session, person, "test browser")
            session.commit()
        return self.app.test_client().sign_in(token)

    def connection(
        self,
        workspace: Workspace | None = None,
        secret: str | None = None,
        grant_type: GrantType = GrantType.AUTHORIZATION_CODE,
        **columns,
    ) -> Connection:
        """A configured connection with its secret and its empty token row.

        With the provider in use it is one of the provider's clients, else it points nowhere.
        """
        row = Connection(**{**self._defaults(workspace or self.acme, grant_type), **columns})
        keyring = self.resources.database.keyring
        kept = ClientSecret(workspace_id=row.workspace_id, connection_id=row.id)
        known = CLIENTS.get(row.client_id)
        kept.seal("value", SecretStr(secret or (known.secret if known else "a client secret")), keyring)
        token = Token(workspace_id=row.workspace_id, connection_id=row.id, provider_host=origin(row.token_endpoint))
        self._add(row, kept, token)
        return row

    def _defaults(self, workspace: Workspace, grant_type: GrantType) -> dict:
        base = self.provider.url if self.provider else ELSEWHERE
        machine = grant_type is GrantType.CLIENT_CREDENTIALS
        return {
            "workspace_id": workspace.id,
            "name": f"Shop {next(self._numbers)}",
            "grant_type": grant_type,
            "refresh_kind": GRANTS[grant_type].refresh_kind,
            "client_id": "rehearsal-machine" if machine else "rehearsal-code",
            "authorization_endpoint": f"{base}/authorize",
            "token_endpoint": f"{base}/token",
            "revocation_endpoint": f"{base}/revoke",
            "issuer": base,
            "scope": "orders.read",
            "api_hosts": [origin(base)],
            "state": ConnectionState.CONFIGURED,
        }

    def authorize(
        self,
        connection: Connection,
        lifetime: float | None = 3600,
        refresh_token: str | None = "rt",
        access_token: str = "at",
    ) -> Token:
        """Store a token as a callback does; returns its row."""
        with self.resources.database.session(writing=True) as session:
            row = session.get_one(Connection, connection.id)
            token = tokens.current_token(session, row)
            reply = token_reply(access_token, refresh_token, lifetime)
            states.store(session, self.resources.settings, row, token, reply)
            row.authorized_by = self.alice.id
            settle.mark_authorized(row)
            session.commit()
        return token

    def consent(self, connection: Connection, lifetime: float | None = 3600) -> Token:
        """Store a token that the provider has really given; `lifetime` is what we believe of it, in seconds."""
        assert self.provider is not None, "ask for the fixture provider as well"
        access, refresh = self.provider.consent(connection.client_id)
        return self.authorize(connection, lifetime, refresh, access)

    def make_due(self, *connections: Connection, **columns) -> None:
        """Let the tokens of connections be due now, and set whatever else of their rows."""
        from models.types import utc_now

        for connection in connections:
            self.set_token(connection, **{"next_refresh_at": utc_now(), **columns})

    def set_token(self, connection: Connection, **columns) -> None:
        """Change columns of a connection's token row."""
        with self.resources.database.session(writing=True) as session:
            token = tokens.current_token(session, connection)
            for name, value in columns.items():
                setattr(token, name, value)
            session.add(token)
            session.commit()

    def token(self, connection: Connection) -> Token:
        """The token row as it is stored now."""
        with self.resources.database.session() as session:
            return tokens.current_token(session, connection)

    def access_token(self, connection: Connection) -> str | None:
        """The stored access token in plain."""
        value = self.token(connection).unseal("access_token", self.resources.database.keyring)
        return value.get_secret_value() if value else None

    def refresh_token(self, connection: Connection) -> str | None:
        """The stored refresh token in plain."""
        value = self.token(connection).unseal("refresh_token", self.resources.database.keyring)
        return value.get_secret_value() if value else None

    def reread(self, row):
        """A row as it is stored now, None when it is gone."""
        with self.resources.database.session() as session:
            return session.get(type(row), row.id)

    def all(self, model, **columns) -> list:
        """Every stored row of a table whose columns have these values."""
        from sqlmodel import select

        with self.resources.database.session() as session:
            return list(session.exec(select(model).filter_by(**columns)).all())

    def card(
        self,
        workspace: Workspace | None = None,
        connection: Connection | None = None,
        headers: dict[str, str] | None = None,
        **columns,
    ) -> Card:
        """A card, authorized by `connection` where one is given; `headers` are secret ones."""
        base = self.provider.url if self.provider else "https://api.example"
        defaults = {
            "id": uuid.uuid4(),
            "workspace_id": connection.workspace_id if connection else (workspace or self.acme).id,
            "title": f"Orders {next(self._numbers)}",
            "hook_url": f"{base}/api/orders?email={{{{customer_email}}}}",
            "authorization": CardAuthorization.OAUTH if connection else CardAuthorization.NONE,
            "connection_id": connection.id if connection else None,
            "template_content": "<h1>{{ customer.name }}</h1>",
        }
        row = Card(**{**defaults, **columns})
        kept = []
        for place, (name, value) in enumerate((headers or {}).items()):
            header = CardHeader(workspace_id=row.workspace_id, card_id=row.id, position=place, name=name, secret=True)
            header.seal("value", SecretStr(value), self.resources.database.keyring)
            kept.append(header)
        self._add(row, *kept)
        return row

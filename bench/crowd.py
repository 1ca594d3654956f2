"""Authorized connections by the million, each with secrets really sealed for its own row, written as fast as may be."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, cast

import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import SQLModel

from bench.endpoint import ACCESS_FILLER, refresh_token
from models import ClientSecret, Connection, ConnectionState, Token, Workspace
from models.types import Keyring, Place, utc_now
from oauth.vocabulary import ClientAuthMethod, GrantType, LifetimeRung, RefreshKind
from services.resources import Resources

LIFETIME = 3600.0
CLIENT_SECRET = "the bench's own client secret"
PIECE = 5000
"""Rows written at once."""

Due = Callable[[int], datetime | None]


@dataclass(frozen=True)
class Crowd:
    """Connections of one workspace, `first` to `first + count - 1`, all at one provider."""

    resources: Resources
    workspace_id: uuid.UUID
    base: str
    """Address of the provider, such as http://127.0.0.1:9000."""
    first: int
    count: int
    client_id: str = "bench"

    @property
    def numbers(self) -> range:
        """Of the grants at the endpoint."""
        return range(self.first, self.first + self.count)

    @property
    def host(self) -> str:
        """As in `Token.provider_host`."""
        return self.base.partition("://")[2]

    def fill(self, due: Due) -> None:
        """Write every row; `due` says when each token is refreshed next."""
        tables = (Connection, ClientSecret, Token)
        engine = self.resources.database.engine
        templates = [self._connection(), self._secret(), self._token()]
        if engine.dialect.name == "sqlite":
            _fill_sqlite(engine, tables, templates, self._rows(due))
        else:
            _fill_postgresql(engine, tables, templates, self._rows(due))

    def _rows(self, due: Due) -> Iterator[list[dict[str, Any]]]:
        """Of each number what differs from the template, table by table."""
        keyring = self.resources.database.keyring
        sealed_as = CLIENT_SECRET, f"a-0-0-{ACCESS_FILLER}"
        for number in self.numbers:
            connection_id, secret_id, token_id = (identifier(kind, number) for kind in ("c", "s", "t"))
            seal = _sealer(keyring, self.workspace_id)
            yield [
                {"id": connection_id, "name": f"n{number:08d}"},
                {
                    "id": secret_id,
                    "connection_id": connection_id,
                    "value_sealed": seal("client_secrets", secret_id, "value", sealed_as[0]),
                },
                {
                    "id": token_id,
                    "connection_id": connection_id,
                    "access_token_sealed": seal("tokens", token_id, "access_token", sealed_as[1]),
                    "refresh_token_sealed": seal("tokens", token_id, "refresh_token", refresh_token(number, 0)),
                    "next_refresh_at": due(number),
                },
            ]

    def _connection(self) -> Connection:
        row = Connection(
            workspace_id=self.workspace_id,
            name="",
            grant_type=GrantType.AUTHORIZATION_CODE,
            refresh_kind=RefreshKind.REFRESH_TOKEN,
            client_id=self.client_id,
            authorization_endpoint=f"{self.base}/authorize",
            token_endpoint=f"{self.base}/token",
            token_endpoint_auth_method=ClientAuthMethod.BASIC,
            api_hosts=[self.host],
            state=ConnectionState.ACTIVE,
            authorized_at=utc_now(),
        )
        row.authorized_client, row.authorized_fingerprint = row.client, row.fingerprint()
        return row

    def _secret(self) -> ClientSecret:
        return ClientSecret(workspace_id=self.workspace_id, connection_id=self.workspace_id)

    def _token(self) -> Token:
        now = utc_now()
        return Token(
            workspace_id=self.workspace_id,
            connection_id=self.workspace_id,
            generation=1,
            token_type="Bearer",
            received_at=now,
            expires_at=now + timedelta(seconds=LIFETIME),
            lifetime_rung=LifetimeRung.REPLY,
            provider_host=self.host,
            auth_method=ClientAuthMethod.BASIC,
        )


def settle_in(resources: Resources, base: str, first: int, count: int, due: Due) -> Crowd:
    """A new workspace with so many connections."""
    workspace = Workspace(name=f"Bench {uuid.uuid4().hex[:12]}")
    with resources.database.session(writing=True) as session:
        session.add(workspace)
        session.commit()
        workspace_id = workspace.id
    crowd = Crowd(resources, workspace_id, base, first, count)
    crowd.fill(due)
    return crowd


def identifier(kind: str, number: int) -> uuid.UUID:
    """Always the same for a number, and spread like a random one."""
    return uuid.UUID(bytes=hashlib.blake2b(f"{kind}{number}".encode(), digest_size=16).digest())


def _sealer(keyring: Keyring, workspace_id: uuid.UUID) -> Callable[[str, uuid.UUID, str, str], bytes]:
    def seal(table: str, row_id: uuid.UUID, field: str, value: str) -> bytes:
        return keyring.encrypt(SecretStr(value), Place(workspace_id, table, row_id, field))

    return seal


def _columns(model: type[SQLModel]) -> Sequence[sa.Column[Any]]:
    return list(cast(sa.Table, model.__table__).columns)  # type: ignore[attr-defined]


def _binders(model: type[SQLModel], dialect: sa.Dialect) -> Mapping[str, Callable[[Any], Any]]:
    """By column what the driver wants to be given."""
    found: dict[str, Callable[[Any], Any]] = {}
    for column in _columns(model):
        processor: Callable[[Any], Any] | None = column.type.dialect_impl(dialect).bind_processor(dialect)
        if isinstance(column.type, sa.JSON):
            processor = json.dumps
        elif isinstance(column.type, sa.LargeBinary):
            processor = None
        found[column.name] = processor or (lambda value: value)
    return found


def _complete(model: type[SQLModel], template: SQLModel, dialect: sa.Dialect) -> Callable[[dict[str, Any]], list[Any]]:
    """From what differs to a whole row as the driver wants it."""
    binders = _binders(model, dialect)
    names = [column.name for column in _columns(model)]
    usual = [binders[name](getattr(template, name)) for name in names]
    places = {name: place for place, name in enumerate(names)}

    def row(changed: dict[str, Any]) -> list[Any]:
        values = list(usual)
        for name, value in changed.items():
            values[places[name]] = binders[name](value)
        return values

    return row


def _fill_sqlite(
    engine: sa.Engine,
    tables: Sequence[type[SQLModel]],
    templates: Sequence[SQLModel],
    rows: Iterator[list[dict[str, Any]]],
) -> None:
    complete = [_complete(table, template, engine.dialect) for table, template in zip(tables, templates, strict=True)]
    statements = []
    for table in tables:
        names = [column.name for column in _columns(table)]
        marks = ",".join("?" * len(names))
        statements.append(f"INSERT INTO {table.__tablename__} ({','.join(names)}) VALUES ({marks})")  # noqa: S608  # our own names
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        for pragma in ("synchronous=OFF", "cache_size=-500000", "wal_autocheckpoint=100000"):
            cursor.execute(f"PRAGMA {pragma}")  # while it is filled, on this one connection
        while piece := list(islice(rows, PIECE)):
            cursor.execute("BEGIN IMMEDIATE")
            for place, statement in enumerate(statements):
                cursor.executemany(statement, [complete[place](row[place]) for row in piece])
            cursor.execute("COMMIT")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.detach()  # not for use by others with these settings


def _fill_postgresql(
    engine: sa.Engine,
    tables: Sequence[type[SQLModel]],
    templates: Sequence[SQLModel],
    rows: Iterator[list[dict[str, Any]]],
) -> None:
    complete = [_complete(table, template, engine.dialect) for table, template in zip(tables, templates, strict=True)]
    with closing(engine.raw_connection()) as connection:
        cursor = cast(Any, connection.cursor())
        cursor.execute("SET session_replication_role = replica")  # no look-up of each row's own, just written parent
        while piece := list(islice(rows, PIECE)):
            for place, table in enumerate(tables):
                names = ",".join(column.name for column in _columns(table))
                with cursor.copy(f"COPY {table.__tablename__} ({names}) FROM STDIN") as copy:
                    copy.write("".join(_line(complete[place](row[place])) for row in piece))
            connection.commit()
        cursor.execute("RESET session_replication_role")
        connection.commit()


def _line(values: Sequence[Any]) -> str:
    """A row in COPY's text format."""
    return "\t".join(map(_field, values)) + "\n"


def _field(value: Any) -> str:
    if value is None:
        return r"\N"
    if isinstance(value, bytes | memoryview):
        return rf"\\x{bytes(value).hex()}"
    if isinstance(value, str):
        return value.replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n")
    return str(value)

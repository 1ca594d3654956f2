"""Engine and sessions: the one way to the database. Knows no table."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar

from pydantic import SecretStr
from sqlalchemy import Connection, Engine, MetaData, create_engine, event, func, select
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, TimeoutError
from sqlmodel import Field, Session, SQLModel

from models.types import Keyring, Place, UtcDateTime, utc_now

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
SQLITE_BUSY_SECONDS = 30
AWAY = (OperationalError, InterfaceError, InternalError, TimeoutError)
"""Raised while the database cannot be reached, has no room, is locked or cannot be written: trying again may help.

SQLite and psycopg call nearly all of it OperationalError: no connection, a full disk, a lock that is not given, a
deadlock, a transaction that could not be serialized, a server that stops. PostgreSQL's read-only transactions are an
InternalError; the last is that of our own pool, when every connection is in use.
"""


CLOCK = func.clock_timestamp(type_=UtcDateTime)
"""PostgreSQL's clock, which goes on within a transaction."""


class Record(SQLModel):
    """What every table has: metadata with fixed constraint names, and an id made before the insert."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=NAMING)
    id: uuid.UUID = Field(default_factory=uuid.uuid4, primary_key=True)


class Sealing:
    """For tables with secrets: columns named `<field>_sealed` hold ciphertext bound to the row."""

    id: uuid.UUID
    workspace_id: uuid.UUID

    def place(self, field: str) -> Place:
        """Where `field` of this row lives, as its ciphertext is bound."""
        return Place(self.workspace_id, str(self.__tablename__), self.id, field)  # type: ignore[attr-defined]

    def seal(self, field: str, value: SecretStr | None, keyring: Keyring) -> None:
        """Store `value` encrypted in `<field>_sealed`; None or empty removes it."""
        empty = value is None or not value.get_secret_value()
        sealed = None if empty or value is None else keyring.encrypt(value, self.place(field))
        setattr(self, f"{field}_sealed", sealed)

    def unseal(self, field: str, keyring: Keyring) -> SecretStr | None:
        """The secret in `<field>_sealed`. Raises Undecryptable."""
        sealed = getattr(self, f"{field}_sealed")
        return None if sealed is None else keyring.decrypt(sealed, self.place(field))


class Database:
    """The engine with what sessions need: one for each process."""

    def __init__(self, url: str, keyring: Keyring) -> None:
        """Open no connection yet. `url` is an SQLAlchemy URL (SQLite or PostgreSQL)."""
        self.keyring = keyring
        self.engine = make_engine(url)
        self._writing = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")

    @contextmanager
    def session(self, *, writing: bool = False) -> Iterator[Session]:
        """A session for one unit of work; rolled back unless it committed.

        `writing` takes SQLite's write lock at the start: a read that turns into a write would otherwise
        fail at once, without waiting, whenever another process wrote in between.
        """
        with Session(self._writing if writing else self.engine, expire_on_commit=False) as session:
            session.info["keyring"] = self.keyring
            yield session

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def keyring_of(session: Session) -> Keyring:
    """The key ring that came with the session."""
    keyring = session.info["keyring"]
    assert isinstance(keyring, Keyring)
    return keyring


def shared_now(session: Session) -> datetime:
    """The moment by the one clock of all processes: PostgreSQL's; SQLite's users are on one machine, with its clock."""
    if session.get_bind().dialect.name != "postgresql":
        return utc_now()
    moment: datetime = session.execute(select(CLOCK)).scalar_one()
    return moment


def make_engine(url: str) -> Engine:
    """An engine; SQLite with WAL, foreign keys, durable commits and pages wiped on delete.

    Errors never show the values of a statement: they end up in logs.
    """
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20, hide_parameters=True)
    options = {"timeout": SQLITE_BUSY_SECONDS, "isolation_level": None}
    engine = create_engine(url, connect_args=options, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """The driver's own transaction handling is switched off, so that a transaction starts where ours does."""
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))


def now_column() -> Any:
    """A column set on insert: UTC."""
    return Field(default_factory=utc_now, sa_type=UtcDateTime, nullable=False)


def moment(**options: Any) -> Any:
    """An optional column: UTC."""
    return Field(default=None, sa_type=UtcDateTime, **options)

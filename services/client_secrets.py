"""The client secret of a connection: reading it, setting it, and holding a typed one against it. Commits nothing."""

from __future__ import annotations

from pydantic import SecretStr
from sqlmodel import Session, col, select

from models import ClientSecret, Connection, keyring_of
from models.types import Undecryptable
from services import audit
from services.audit import Actor


def row(session: Session, connection: Connection) -> ClientSecret | None:
    """Where the newest client secret is kept; None when there is none."""
    mine = select(ClientSecret).where(ClientSecret.connection_id == connection.id)
    return session.exec(mine.order_by(col(ClientSecret.set_at).desc())).first()


def read(session: Session, connection: Connection) -> SecretStr | None:
    """The newest client secret. Raises Undecryptable."""
    stored = row(session, connection)
    return stored.unseal("value", keyring_of(session)) if stored else None


def matches(session: Session, connection: Connection, typed: SecretStr) -> bool:
    """Whether `typed` is the client secret that is stored; a damaged one matches nothing."""
    try:
        stored = read(session, connection)
    except Undecryptable:
        return False
    return stored is not None and stored.get_secret_value() == typed.get_secret_value()


def put(session: Session, actor: Actor, connection: Connection, value: SecretStr) -> None:
    """Replace the client secret, unless it is the one that is stored already."""
    if matches(session, connection, value):
        return
    drop(session, connection)
    stored = ClientSecret(workspace_id=connection.workspace_id, connection_id=connection.id)
    stored.seal("value", value, keyring_of(session))
    session.add(stored)
    audit.record(session, actor, "connection.secret_set", connection, connection.name)


def drop(session: Session, connection: Connection) -> None:
    """Remove every client secret of a connection."""
    for stored in session.exec(select(ClientSecret).where(ClientSecret.connection_id == connection.id)):
        session.delete(stored)
    session.flush()

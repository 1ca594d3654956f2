"""The client secrets of a connection, two at most: reading, setting, removing them. Commits nothing.

A second one is there while a provider's secret is exchanged for a new one. The one that worked last is sent first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr
from sqlmodel import Session, col, select

from models import ClientSecret, Connection, Token, keyring_of
from models.types import Keyring, Undecryptable
from oauth.vocabulary import Registration
from services import audit
from services.audit import Actor
from services.errors import Refused

IN_USE = "This client secret worked last, so it stays until the other one has worked."


@dataclass(frozen=True)
class Live:
    """A secret that may be sent."""

    id: uuid.UUID
    value: SecretStr


@dataclass(frozen=True)
class Shown:
    """What a page tells of a secret."""

    id: uuid.UUID
    set_at: datetime
    standing: str
    """In use, not used yet, or no longer used."""
    removable: bool


def rows(session: Session, connection: Connection) -> Sequence[ClientSecret]:
    """Where the client secrets are kept, the newest first."""
    mine = select(ClientSecret).where(ClientSecret.connection_id == connection.id)
    return session.exec(mine.order_by(col(ClientSecret.set_at).desc(), col(ClientSecret.id))).all()


def row(session: Session, connection: Connection) -> ClientSecret | None:
    """Where the newest client secret is kept; None when there is none."""
    return next(iter(rows(session, connection)), None)


def read(session: Session, connection: Connection) -> SecretStr | None:
    """The newest client secret. Raises Undecryptable."""
    stored = row(session, connection)
    return stored.unseal("value", keyring_of(session)) if stored else None


def live(session: Session, connection: Connection, token: Token) -> list[Live]:
    """The secrets in the order in which they are tried. Raises Undecryptable."""
    return in_order(rows(session, connection), token.client_secret_id, keyring_of(session))


def in_order(stored: Iterable[ClientSecret], worked: uuid.UUID | None, keyring: Keyring) -> list[Live]:
    """The one that worked last, else the newest, and one more that can be read. Raises Undecryptable."""
    ordered = sorted(stored, key=lambda kept: (kept.id == worked, kept.set_at), reverse=True)
    found: list[Live] = []
    for kept in ordered[:2]:
        try:
            value = kept.unseal("value", keyring)
        except Undecryptable:
            if not found:
                raise
            continue  # a spare one that is damaged stops nothing
        if value is not None:
            found.append(Live(kept.id, value))
    return found


def registration(session: Session, connection: Connection, token: Token) -> Registration:
    """What the protocol needs to know of a connection, its secrets included. Raises Undecryptable."""
    return with_secrets(connection, live(session, connection, token))


def with_secrets(connection: Connection, secrets: Sequence[Live]) -> Registration:
    """The registration that tries `secrets` in their order."""
    first, other = (*secrets, None, None)[:2]
    return Connection.registration(  # a drain has only its columns
        connection,
        first.value if first else None,
        client_secret_id=first.id if first else None,
        other_secret=other.value if other else None,
        other_secret_id=other.id if other else None,
    )


def shown(session: Session, connection: Connection, token: Token) -> list[Shown]:
    """What to tell of the secrets, the newest first; which one is in use is known once one has worked."""
    stored = rows(session, connection)
    used = next((kept.set_at for kept in stored if kept.id == token.client_secret_id), None)
    return [
        Shown(
            kept.id,
            kept.set_at,
            _standing(kept, token.client_secret_id, used),
            len(stored) > 1 and kept.id != token.client_secret_id and (used is not None or kept is not stored[0]),
        )
        for kept in stored
    ]


def match(session: Session, connection: Connection, typed: SecretStr) -> ClientSecret | None:
    """Which stored client secret `typed` is; a damaged one matches nothing."""
    for stored in rows(session, connection):
        try:
            value = stored.unseal("value", keyring_of(session))
        except Undecryptable:
            continue
        if value is not None and value.get_secret_value() == typed.get_secret_value():
            return stored
    return None


def matches(session: Session, connection: Connection, typed: SecretStr) -> bool:
    """Whether `typed` is a client secret that is stored."""
    return match(session, connection, typed) is not None


def put(
    session: Session, actor: Actor, connection: Connection, value: SecretStr, *, keep: uuid.UUID | None = None
) -> None:
    """Set the client secret, unless it is stored already; of those before, only the one called `keep` stays."""
    if matches(session, connection, value):
        return
    kept = False
    for stored in rows(session, connection):
        if stored.id == keep:
            kept = True
        else:
            session.delete(stored)
    session.flush()
    added = ClientSecret(workspace_id=connection.workspace_id, connection_id=connection.id)
    added.seal("value", value, keyring_of(session))
    session.add(added)
    action = "connection.secret_added" if kept else "connection.secret_set"
    audit.record(session, actor, action, connection, connection.name)


def to_keep(session: Session, connection: Connection, token: Token) -> uuid.UUID | None:
    """Which secret stays when a new one is set beside it: the one that worked last, else the newest."""
    stored = rows(session, connection)
    used = next((kept.id for kept in stored if kept.id == token.client_secret_id), None)
    return used or (stored[0].id if stored else None)


def remove(session: Session, actor: Actor, connection: Connection, token: Token, secret_id: uuid.UUID) -> None:
    """Remove one of two secrets. Raises Refused for the one that is needed; one that is gone is gone."""
    offered = {secret.id: secret.removable for secret in shown(session, connection, token)}
    if secret_id not in offered:
        return
    if not offered[secret_id]:
        raise Refused(IN_USE)
    session.delete(session.get_one(ClientSecret, secret_id))
    session.flush()
    audit.record(session, actor, "connection.secret_removed", connection, connection.name)


def drop(session: Session, connection: Connection) -> None:
    """Remove every client secret of a connection."""
    for stored in rows(session, connection):
        session.delete(stored)
    session.flush()


def _standing(stored: ClientSecret, worked: uuid.UUID | None, used: datetime | None) -> str:
    if stored.id == worked:
        return "in use"
    return "not used yet" if used is None or stored.set_at >= used else "no longer used"

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

from models import ClientSecret, Connection, Refresh, Token, keyring_of
from models.types import Keyring, Undecryptable
from oauth.vocabulary import FailureClass, Registration
from services import audit
from services.audit import Actor
from services.errors import Refused

IN_USE, NOT_USED = "in use", "not used yet"
NEEDED = "This client secret worked last, so it stays until the other one has worked."
UNAUTHORIZED = "unauthorized_client"
"""Error code that says nothing against the secret: the client may not use this flow (RFC 6749 §5.2)."""


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
    """In words that go on from "it is"."""
    worked: bool
    """Whether it is the one that worked last."""
    refused: bool
    """Whether the provider has refused it since it was set, or, of the one that worked, since then."""
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
    """What to tell of the secrets, the newest first: which one works, and which were refused, as the journal has it."""
    stored = rows(session, connection)
    used = _worked(stored, token)
    refused_at = _refused_at(session, connection) if stored else None
    found = []
    for kept in stored:
        worked = used is not None and kept.id == used.id
        since = token.received_at if worked and token.received_at else kept.set_at
        refused = refused_at is not None and refused_at >= since
        spare = not worked and (used is not None or refused or kept is not stored[0])
        standing = _standing(kept, used, refused=refused)
        found.append(Shown(kept.id, kept.set_at, standing, worked, refused, spare and len(stored) > 1))
    return found


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


def to_keep(found: Sequence[Shown]) -> Shown | None:
    """Which secret may stay beside a new one: the one that worked last, else the newest if that was not refused."""
    worked = next((secret for secret in found if secret.worked), None)
    return worked or next((secret for secret in found[:1] if not secret.refused), None)


def remove(session: Session, actor: Actor, connection: Connection, token: Token, secret_id: uuid.UUID) -> None:
    """Remove one of two secrets. Raises Refused for the one that is needed; one that is gone is gone."""
    offered = {secret.id: secret.removable for secret in shown(session, connection, token)}
    if secret_id not in offered:
        return
    if not offered[secret_id]:
        raise Refused(NEEDED)
    session.delete(session.get_one(ClientSecret, secret_id))
    session.flush()
    audit.record(session, actor, "connection.secret_removed", connection, connection.name)


def drop(session: Session, connection: Connection) -> None:
    """Remove every client secret of a connection."""
    for stored in rows(session, connection):
        session.delete(stored)
    session.flush()


def _worked(stored: Sequence[ClientSecret], token: Token) -> ClientSecret | None:
    """The secret that brought the present token; where that was not noted, the newest there was when it came."""
    if token.client_secret_id is not None or token.received_at is None:
        return next((kept for kept in stored if kept.id == token.client_secret_id), None)
    return next((kept for kept in stored if kept.set_at <= token.received_at), None)


def _refused_at(session: Session, connection: Connection) -> datetime | None:
    """When the last request was sent in which the provider did not know the client by any of its secrets."""
    query = select(Refresh.sent_at).where(
        Refresh.connection_id == connection.id,
        Refresh.failure_class == FailureClass.CLIENT_BAD,
        Refresh.failure_code != UNAUTHORIZED,
    )
    return session.exec(query.order_by(col(Refresh.sent_at).desc()).limit(1)).first()


def _standing(stored: ClientSecret, used: ClientSecret | None, *, refused: bool) -> str:
    if used is not None and stored.id == used.id:
        return "no longer accepted" if refused else IN_USE
    if used is not None and stored.set_at < used.set_at:
        return "no longer used"
    return "refused by the provider" if refused else NOT_USED

"""Cards: listing, saving with their connection, deleting."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from sqlmodel import Session, col, select

from models import Card, CardAuthorization, Connection, keyring_of
from models.types import utc_now
from services import audit, edits
from services.audit import Actor
from services.errors import InvalidInput, NotFound, Stale
from services.resources import Resources
from services.setup import connections, destinations, headers
from services.setup.configuration import Configuration
from services.setup.headers import TypedHeader

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
CONNECTION = "connection-"
"""Prefix of a connection's fields in the errors of a card's form."""


@dataclass(frozen=True)
class TypedConnection:
    """The connection's part of a card's form: its configuration, and the version it was read at."""

    configuration: Configuration
    version: int


@dataclass(frozen=True)
class TypedCard:
    """A card as typed. Secrets are None where nothing was typed, which keeps the stored ones."""

    title: str
    hook_url: str
    method: str
    authorization: CardAuthorization
    connection_id: uuid.UUID | None
    authorization_header: SecretStr | None
    headers: Sequence[TypedHeader]
    template_content: str
    connection: TypedConnection | None = None
    """What was typed for the connection, with OAuth."""


def of_workspace(session: Session, workspace_id: uuid.UUID) -> Sequence[tuple[Card, Connection | None]]:
    """The cards of a workspace with their connections, by title."""
    query = select(Card, Connection).outerjoin(Connection, col(Card.connection_id) == Connection.id)
    return session.exec(query.where(Card.workspace_id == workspace_id).order_by(Card.title, col(Card.id))).all()


def connection_of(session: Session, card: Card) -> Connection | None:
    """The connection that authorizes a card's request, if it has one."""
    if card.authorization is not CardAuthorization.OAUTH or card.connection_id is None:
        return None
    return session.get(Connection, card.connection_id)


def save(
    session: Session,
    resources: Resources,
    actor: Actor,
    workspace_id: uuid.UUID,
    typed: TypedCard,
    *,
    existing: Card | None = None,
    version: int = 0,
) -> Card:
    """Make or change a card together with its connection, in one unit of work. Commits.

    Raises InvalidInput with every problem at once (the connection's fields prefixed), Stale for either row, NotFound.
    """
    edits.wait(session, workspace_id)
    existing = _read_again(session, existing) if existing else None
    errors = check(session, resources, workspace_id, typed, existing)
    if errors:
        raise InvalidInput(errors)
    card = _row(session, workspace_id, existing, version)
    before = card.connection_id
    _write(session, card, typed, _connection(session, resources, actor, workspace_id, typed))
    for affected in {before, card.connection_id} - {None}:
        destinations.settle(session, actor, session.get_one(Connection, affected))
    verb = "card.created" if existing is None else "card.configured"
    audit.record(session, actor, verb, card, card.title)
    session.commit()
    return card


def check(
    session: Session, resources: Resources, workspace_id: uuid.UUID, typed: TypedCard, existing: Card | None
) -> dict[str, str]:
    """Everything that stops what was typed from being saved: name of the field → words. Raises NotFound."""
    errors = _problems(session, resources, typed, existing)
    if typed.authorization is not CardAuthorization.OAUTH:
        return errors
    if typed.connection is None:
        return {**errors, "connection_id": "Choose a connection, or fill in a new one."}
    chosen = _chosen(session, workspace_id, typed)
    configuration = typed.connection.configuration
    found = connections.check(session, resources.http.policy, workspace_id, configuration, chosen)
    if chosen is not None and not found:
        found = destinations.new_host_problem(session, chosen, typed.hook_url, configuration)
    return errors | {f"{CONNECTION}{name}": words for name, words in found.items()}


def delete(session: Session, actor: Actor, card: Card) -> None:
    """Delete a card and its secrets; a connection stays, and forgets hosts only this card called. Commits.

    Raises NotFound.
    """
    edits.wait(session, card.workspace_id)
    card = _read_again(session, card)
    connection = connection_of(session, card)
    audit.record(session, actor, "card.deleted", card, card.title)
    session.delete(card)
    session.flush()
    if connection is not None:
        destinations.settle(session, actor, connection)
    session.commit()


def _chosen(session: Session, workspace_id: uuid.UUID, typed: TypedCard) -> Connection | None:
    """The existing connection that was chosen; a foreign id is as good as none. Raises NotFound."""
    if typed.connection_id is None:
        return None
    connection = session.get(Connection, typed.connection_id, populate_existing=True)
    if connection is None or connection.workspace_id != workspace_id:
        raise NotFound("There is no such connection in this workspace.")
    return connection


def _problems(session: Session, resources: Resources, typed: TypedCard, existing: Card | None) -> dict[str, str]:
    errors: dict[str, str] = {}
    if not typed.title:
        errors["title"] = "Give the card a title; agents see it above the panel."
    elif len(typed.title) > 100:
        errors["title"] = "Use at most 100 characters."
    if typed.method not in METHODS:
        errors["method"] = f"Choose one of {', '.join(METHODS)}."
    errors |= destinations.url_problem(typed.hook_url, resources.http.policy)
    moved = existing is not None and destinations.moved(existing.hook_url, typed.hook_url)
    errors |= _authorization_header_problem(typed, existing, moved)
    errors |= headers.problems(session, typed.headers, existing, moved)
    failure = resources.renderer.check(typed.template_content)
    if failure is not None:
        errors["template_content"] = f"This is not valid Liquid. {failure}"
    return errors


def _authorization_header_problem(typed: TypedCard, existing: Card | None, moved: bool) -> dict[str, str]:
    if typed.authorization is not CardAuthorization.HEADER:
        return {}
    if typed.authorization_header is not None:
        return headers.value_problem("authorization_header", typed.authorization_header.get_secret_value())
    if existing is None or existing.authorization_header_sealed is None:
        return {"authorization_header": "Enter the whole value of the header, such as Bearer followed by the token."}
    return {"authorization_header": headers.MOVED} if moved else {}


def _connection(
    session: Session, resources: Resources, actor: Actor, workspace_id: uuid.UUID, typed: TypedCard
) -> Connection | None:
    if typed.authorization is not CardAuthorization.OAUTH or typed.connection is None:
        return None
    chosen, part = _chosen(session, workspace_id, typed), typed.connection
    settings = resources.settings
    return connections.apply(session, settings, actor, workspace_id, part.configuration, chosen, part.version)


def _read_again(session: Session, card: Card) -> Card:
    """The row as it is now. Raises NotFound."""
    found = session.get(Card, card.id, populate_existing=True)
    if found is None:
        raise NotFound("This card no longer exists.")
    return found


def _row(session: Session, workspace_id: uuid.UUID, existing: Card | None, version: int) -> Card:
    """The row to write, a new one or the one that is there. Raises Stale."""
    if existing is None:
        card = Card(workspace_id=workspace_id, title="", version=0)
        session.add(card)
        return card
    if existing.version != version:
        raise Stale(existing)
    return existing


def _write(session: Session, card: Card, typed: TypedCard, connection: Connection | None) -> None:
    """Put what was typed into the row; secrets of a way of authorizing that is no longer chosen are removed."""
    card.title, card.hook_url, card.method = typed.title, typed.hook_url, typed.method
    card.authorization, card.template_content = typed.authorization, typed.template_content
    card.connection_id = connection.id if connection else None
    card.version += 1
    card.updated_at = utc_now()
    if typed.authorization is not CardAuthorization.HEADER:
        card.authorization_header_sealed = card.authorization_header_set_at = None
    elif typed.authorization_header is not None:
        card.seal("authorization_header", typed.authorization_header, keyring_of(session))
        card.authorization_header_set_at = utc_now()
    session.add(card)
    session.flush()
    headers.write(session, card, typed.headers)

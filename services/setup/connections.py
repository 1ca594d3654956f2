"""Connections: making, changing, disconnecting and deleting them. A stored secret only goes where it was given for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import inspect
from sqlmodel import Session, col, select

import outbound
from config import Settings
from models import AuthorizationAttempt, Card, Connection, ConnectionState, Token
from models.types import utc_now
from oauth.grants import GRANTS
from oauth.vocabulary import ClientAuthMethod, Reuse, Rotation
from services import audit, edits
from services.audit import Actor
from services.authorizing import attempts, grants
from services.engine import advice, client_secrets, kept_replies, lifetimes, tokens
from services.engine.lifetimes import LIVES
from services.errors import InvalidInput, NotFound, Stale
from services.resources import Resources
from services.setup.configuration import Configuration, problems

MOST_OFFERED = 50
"""Connections in one list to choose from; beyond that a person looks for a part of the name."""
MOVED = (
    "{label} now points to another host, so enter the Client secret again: a stored secret goes only to the host "
    "it was given for."
)
ALONE = (
    "In this flow the Client secret alone brings a token for the hosts that cards call, so enter it again: a stored "
    "secret is used only as it was given for."
)
TRIED_NOW = "Cardkey tries it now."
TRIED_LATER = "It is tried as soon as the connection is resumed."
UNTRIED = "The new client secret is untried until the next token request; Refresh now makes one."
NOT_ASKED_WITH = LIVES | frozenset(
    "name authorization_endpoint authorization_params pkce issuer revocation_endpoint".split()
)
"""Columns without a part in the requests that renew a token."""
DESTINATIONS = {
    "token_endpoint": "Token Endpoint",
    "revocation_endpoint": "Revocation Endpoint",
    "introspection_endpoint": "Introspection Endpoint",
}


@dataclass(frozen=True)
class Offer:
    """Connections to choose from."""

    names: Mapping[uuid.UUID, str]
    """By name, so many of them as a person reads; the chosen one is always among them."""
    more: bool
    """Whether there are others."""


def offered(session: Session, workspace_id: uuid.UUID, chosen: uuid.UUID | None, text: str = "") -> Offer:
    """Some connections of a workspace, those with `text` in their names, and the `chosen` one if it is there."""
    query = select(Connection.id, Connection.name).where(Connection.workspace_id == workspace_id)
    fitting = query.where(col(Connection.name).icontains(text, autoescape=True)) if text else query
    rows = session.exec(fitting.order_by(Connection.name, col(Connection.id)).limit(MOST_OFFERED + 1)).all()
    names = dict(rows[:MOST_OFFERED])
    if chosen is not None and chosen not in names:
        names = dict(session.exec(query.where(Connection.id == chosen)).all()) | names
    return Offer(names, len(rows) > MOST_OFFERED)


def unused_name(session: Session, workspace_id: uuid.UUID, name: str) -> str:
    """`name`, with a number behind it where the workspace has a connection of that name already."""
    query = select(Connection.name).where(Connection.workspace_id == workspace_id)
    taken = set(session.exec(query.where(col(Connection.name).startswith(name, autoescape=True))).all())
    return next(
        free for free in (name, *(f"{name} {count}" for count in range(2, len(taken) + 3))) if free not in taken
    )


def cards_of(session: Session, connection: Connection) -> Sequence[Card]:
    """The cards that use a connection, by title."""
    query = select(Card).where(Card.workspace_id == connection.workspace_id, Card.connection_id == connection.id)
    return session.exec(query.order_by(Card.title, col(Card.id))).all()


def cards_of_each(session: Session, connection_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[Card]]:
    """The cards that use these connections, by title; a connection no card uses is left out."""
    query = select(Card).where(col(Card.connection_id).in_(connection_ids)).order_by(Card.title, col(Card.id))
    found: dict[uuid.UUID, list[Card]] = {}
    for card in session.exec(query):
        if card.connection_id is not None:
            found.setdefault(card.connection_id, []).append(card)
    return found


def save(
    session: Session,
    policy: outbound.Policy,
    actor: Actor,
    workspace_id: uuid.UUID,
    typed: Configuration,
    *,
    settings: Settings,
    existing: Connection | None = None,
    version: int = 0,
) -> Connection:
    """Make or change a connection. Commits. Raises InvalidInput with every problem at once, Stale, NotFound."""
    edits.wait(session, workspace_id)
    # Its key without reading it: somebody may have deleted it since.
    existing = _read_again(session, inspect(existing).identity[0]) if existing else None
    errors = check(session, policy, workspace_id, typed, existing)
    if errors:
        raise InvalidInput(errors)
    connection = apply(session, settings, actor, workspace_id, typed, existing, version)
    session.commit()
    return connection


def check(
    session: Session,
    policy: outbound.Policy,
    workspace_id: uuid.UUID,
    typed: Configuration,
    existing: Connection | None,
) -> dict[str, str]:
    """Everything that stops what was typed from being saved: name of the field → words."""
    errors = problems(session, policy, workspace_id, typed, existing)
    if typed.client_secret is None and typed.token_endpoint_auth_method is not ClientAuthMethod.NONE:
        stored = existing is not None and client_secrets.row(session, existing) is not None
        moved = _moved(existing, typed) if existing is not None else ""
        if not stored:
            errors.setdefault("client_secret", "Enter the Client secret that the provider gave you.")
        elif moved:
            errors.setdefault("client_secret", MOVED.format(label=DESTINATIONS[moved]))
        elif existing is not None and existing.api_hosts and _needs_nobody_now(existing, typed):
            errors.setdefault("client_secret", ALONE)
    return errors


def apply(
    session: Session,
    settings: Settings,
    actor: Actor,
    workspace_id: uuid.UUID,
    typed: Configuration,
    existing: Connection | None,
    version: int,
) -> Connection:
    """Write what was checked. Does not commit. Raises Stale when somebody else saved in between, NotFound."""
    if existing is None:
        return _create(session, actor, workspace_id, typed)
    connection = _locked(session, existing.id)
    changed = sorted(name for name, value in typed.columns().items() if getattr(connection, name) != value)
    if not changed and typed.client_secret is None:
        return connection
    if connection.version != version:
        raise Stale(connection)
    token = tokens.current_token(session, connection)
    moved, agreed_to = _moved(connection, typed), connection.fingerprint()
    connection.sqlmodel_update({name: typed.columns()[name] for name in changed})
    connection.version += 1
    connection.updated_at = utc_now()
    if moved:
        client_secrets.drop(session, connection)
        grants.forget(session, connection, token)
        audit.record(session, actor, "connection.host_changed", connection, connection.name, field=moved)
    if typed.token_endpoint_auth_method is ClientAuthMethod.NONE:
        client_secrets.drop(session, connection)
    if connection.fingerprint() != agreed_to:
        kept_replies.erase_consents(session, connection.id)
    kept = _secret_to_keep(session, connection, token, typed)
    if typed.client_secret is not None:
        client_secrets.put(session, actor, connection, typed.client_secret, keep=kept.id if kept else None)
    token.client_secret_id = kept.id if kept and kept.worked else token.client_secret_id
    if moved == "token_endpoint":
        token.rotation, token.reuse = Rotation.UNSEEN, Reuse.UNSEEN
    token.provider_host = outbound.origin(connection.token_endpoint)
    token.auth_method = None if set(changed) - LIVES or (typed.client_secret and not kept) else token.auth_method
    asks_anew = typed.client_secret is not None or not NOT_ASKED_WITH.issuperset(changed)
    grants.after_change(session, connection, token, asks_anew=asks_anew)
    lifetimes.after_change(settings, connection, token, frozenset(changed))
    session.add_all((connection, token))
    audit.record(session, actor, "connection.configured", connection, connection.name, changed=changed)
    return connection


def what_follows(session: Session, connection: Connection, typed: Configuration) -> str:
    """What becomes of settings that were just saved, as a sentence; empty where nobody need know."""
    token = tokens.current_token(session, connection)
    if not grants.usable(connection, token) or connection.awaits_replay:
        return ""
    if advice.is_untried(connection, token):
        return TRIED_LATER if connection.state is ConnectionState.PAUSED else TRIED_NOW
    untried = typed.client_secret is not None and client_secrets.shown(session, connection, token)[:1]
    return UNTRIED if untried and untried[0].standing == client_secrets.NOT_USED else ""


def disconnect(resources: Resources, actor: Actor, connection_id: uuid.UUID) -> str:
    """Take the grant away at once, then tell the provider; returns what came of that, in words."""
    with resources.database.session(writing=True) as session:
        connection = _locked(session, connection_id)
        goodbye = grants.goodbye(session, connection)
        grants.forget(session, connection, tokens.current_token(session, connection))
        withdrawn = attempts.withdraw(session, connection, attempts.DISCONNECTED)
        connection.clear_failure()
        connection.state = ConnectionState.DISCONNECTED
        audit.record(session, actor, "connection.disconnected", connection, connection.name, **withdrawn)
        session.commit()
    return grants.revoke(resources, goodbye)


def remove_secret(resources: Resources, actor: Actor, connection_id: uuid.UUID, secret_id: uuid.UUID) -> None:
    """Remove one of two client secrets. Raises Refused for the one that is needed, NotFound."""
    with resources.database.session(writing=True) as session:
        connection = _locked(session, connection_id)
        token = tokens.current_token(session, connection)
        client_secrets.remove(session, actor, connection, token, secret_id)
        session.commit()


def delete(resources: Resources, actor: Actor, connection_id: uuid.UUID) -> str:
    """Delete a connection with its secrets at once, then tell the provider; returns what came of that, in words.

    Cards that used it stay, and wait for another connection.
    """
    with resources.database.session(writing=True) as session:
        connection = _locked(session, connection_id)
        goodbye = grants.goodbye(session, connection)
        _wait_for_others(session, connection)
        for card in cards_of(session, connection):
            card.connection_id = None
            card.version += 1
        audit.record(session, actor, "connection.deleted", connection, connection.name)
        session.flush()
        session.delete(connection)
        session.commit()
    return grants.revoke(resources, goodbye)


def _secret_to_keep(
    session: Session, connection: Connection, token: Token, typed: Configuration
) -> client_secrets.Shown | None:
    """The secret that stays beside the one typed, if one is to."""
    if typed.client_secret is None or not typed.keep_old_secret:
        return None
    return client_secrets.to_keep(client_secrets.shown(session, connection, token))


def _read_again(session: Session, connection_id: uuid.UUID, *, lock: bool = False) -> Connection:
    found = session.get(
        Connection, connection_id, with_for_update=edits.WITHOUT_KEY if lock else None, populate_existing=True
    )
    if found is None:
        raise NotFound("This connection no longer exists.")
    return found


def _locked(session: Session, connection_id: uuid.UUID) -> Connection:
    """The row as it is now, for this edit alone; refreshes lock it in the same order."""
    edits.wait(session, _read_again(session, connection_id).workspace_id)
    return _read_again(session, connection_id, lock=True)


def _wait_for_others(session: Session, connection: Connection) -> None:
    """Let claims and callbacks under way finish: a row that is to go must not wait for them while they wait for it."""
    for model in (AuthorizationAttempt, Token):
        session.exec(select(model.id).where(model.connection_id == connection.id).with_for_update()).all()


def _moved(connection: Connection, typed: Configuration) -> str:
    """Name of the field that would send the stored secret or grant to another host; empty if none would."""
    known = {outbound.origin(getattr(connection, name)) for name in DESTINATIONS}
    if outbound.origin(typed.token_endpoint) != outbound.origin(connection.token_endpoint):
        return "token_endpoint"
    others = (name for name in DESTINATIONS if outbound.origin(getattr(typed, name)) not in {*known, ""})
    return next(others, "")


def _needs_nobody_now(connection: Connection, typed: Configuration) -> bool:
    """Whether another flow would spend the secret without a person: a host may be there that never needed it typed."""
    return connection.grant.needs_person and not GRANTS[typed.grant_type].needs_person


def _create(session: Session, actor: Actor, workspace_id: uuid.UUID, typed: Configuration) -> Connection:
    connection = Connection(workspace_id=workspace_id, state=ConnectionState.CONFIGURED, **typed.columns())
    session.add(connection)
    session.flush()
    host = outbound.origin(connection.token_endpoint)
    session.add(Token(workspace_id=workspace_id, connection_id=connection.id, provider_host=host))
    audit.record(session, actor, "connection.created", connection, connection.name)
    if typed.client_secret is not None and typed.token_endpoint_auth_method is not ClientAuthMethod.NONE:
        client_secrets.put(session, actor, connection, typed.client_secret)
    return connection

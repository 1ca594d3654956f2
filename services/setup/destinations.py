"""Which hosts a card calls, and which of them a connection's token may be sent to."""

from __future__ import annotations

import uuid

from sqlmodel import Session, col, select

import outbound
from models import Card, CardAuthorization, Connection
from oauth.grants import GRANTS
from rendering import placeholders
from services import audit
from services.audit import Actor
from services.authorizing import grants
from services.engine import client_secrets, tokens
from services.setup.configuration import Configuration, address_problem

NEW_HOST = (
    "{host} is a new host for this connection. Enter its Client secret again to let its token be sent there: a stored "
    "secret or token goes only where it was given for."
)
OTHER_SECRET = (
    "This is not the Client secret that is stored. Enter the stored one to let the token be sent to {host}, or save a "
    "new secret on the connection's own page first."
)


def host_of(hook_url: str) -> str:
    """Host of a Hook URL, `host` or `host:port`; empty when it has none."""
    return outbound.origin(hook_url)


def moved(before: str, after: str) -> bool:
    """Whether a card's requests now go to another host."""
    return bool(before) and host_of(before) != host_of(after)


def url_problem(hook_url: str, policy: outbound.Policy) -> dict[str, str]:
    """What is wrong with a Hook URL: `hook_url` → words."""
    if not hook_url:
        return {"hook_url": "Enter the address that answers with the data, starting with https://"}
    try:
        words = address_problem("Hook URL", placeholders.without(hook_url), policy)
    except placeholders.PlaceholderProblem as problem:
        return {"hook_url": str(problem)}
    return {"hook_url": words} if words else {}


def new_host_problem(session: Session, connection: Connection, hook_url: str, typed: Configuration) -> dict[str, str]:
    """Why a stored grant may not go to a card's host yet: `client_secret` → words.

    Whoever knows the secret may open another host. Without a grant there is nothing to send, unless the
    secret alone brings one; a grant that rests counts, since the edit that wakes it asks for nothing.
    """
    host = host_of(hook_url)
    at_hand = grants.kept(tokens.current_token(session, connection)) or not GRANTS[typed.grant_type].needs_person
    if host in connection.api_hosts or not at_hand:
        return {}
    if client_secrets.row(session, connection) is None:
        return {}
    if typed.client_secret is None:
        return {"client_secret": NEW_HOST.format(host=host)}
    known = client_secrets.match(session, connection, typed.client_secret)
    vouching = _vouching(session, connection)
    if known is None or (vouching and known.id not in vouching):
        return {"client_secret": OTHER_SECRET.format(host=host)}
    return {}


def settle(session: Session, actor: Actor, connection: Connection) -> None:
    """Make the hosts a token may go to those that its cards call. Does not commit.

    A grant does not travel to a new host on the word of somebody who may not know the secret: where
    there is none, or it was set after the grant was given, the grant is dropped.
    """
    query = select(Card.hook_url).where(
        Card.workspace_id == connection.workspace_id,
        Card.connection_id == connection.id,
        col(Card.authorization) == CardAuthorization.OAUTH,
    )
    hosts = sorted({host_of(url) for url in session.exec(query)} - {""})
    added = sorted(set(hosts) - set(connection.api_hosts))
    if hosts == connection.api_hosts:
        return
    connection.api_hosts = hosts
    token = tokens.current_token(session, connection)
    if added and grants.kept(token) and not _vouching(session, connection):
        grants.forget(session, connection, token)
    session.add(connection)
    if added:
        audit.record(session, actor, "connection.host_added", connection, connection.name, hosts=added)


def _vouching(session: Session, connection: Connection) -> set[uuid.UUID]:
    """The secrets that were there when the grant was given: whoever set a later one need not know any of them."""
    since = connection.authorized_at
    return {row.id for row in client_secrets.rows(session, connection) if since is not None and row.set_at <= since}

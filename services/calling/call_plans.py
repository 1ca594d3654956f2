"""What a card's call needs to know, read and decrypted in one short session. Sends nothing."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from pydantic import SecretStr
from sqlalchemy import and_, bindparam, select
from sqlmodel import Session, col

from models import Card, CardHeader, Connection, Slot, Token, keyring_of
from models.types import Undecryptable, utc_now
from rendering import placeholders
from services.calling.call_failures import CallFailure, Problem, Step
from services.engine import states
from services.errors import NotFound
from services.resources import Resources
from services.setup import headers as stored_headers

WHOLE = (
    select(Card, Connection, Token)
    .outerjoin(
        Connection,
        and_(col(Connection.workspace_id) == col(Card.workspace_id), col(Connection.id) == col(Card.connection_id)),
    )
    .outerjoin(
        Token,
        and_(
            col(Token.workspace_id) == col(Connection.workspace_id),
            col(Token.connection_id) == col(Connection.id),
            col(Token.slot) == Slot.CURRENT,
        ),
    )
    .where(col(Card.id) == bindparam("card"))
)
"""A card with its connection and that one's current token: one question to the database instead of three."""


@dataclass(frozen=True)
class Header:
    """A header an admin gave a card."""

    name: str
    value: SecretStr
    secret: bool


@dataclass(frozen=True)
class Plan:
    """A card with everything its call needs; the rows belong to no session any more."""

    card: Card
    headers: tuple[Header, ...]
    authorization_header: SecretStr | None
    connection: Connection | None
    token: Token | None = None
    """The connection's current token, read together with it."""
    token_is_valid: bool = False
    """Whether the connection's token had not run out when the plan was made."""
    token_is_renewable: bool = False


def load(resources: Resources, card_id: uuid.UUID) -> Plan:
    """Plan the call of a card, in a session that is closed at once. Raises NotFound, CallFailure."""
    with resources.database.session() as session:
        found = session.execute(WHOLE, {"card": card_id}).one_or_none()
        if found is None:
            raise NotFound("This card no longer exists.")
        try:
            return _plan(session, *found)
        except Undecryptable as problem:
            raise unreadable(problem) from None


def placeholders_of(session: Session, card: Card) -> tuple[placeholders.Placeholder, ...]:
    """The conversation's values that a card's request uses; a header that cannot be read counts as using none."""
    texts = [card.hook_url]
    for row in stored_headers.of_card(session, card):
        try:
            texts.append(_value(session, row).get_secret_value())
        except Undecryptable:
            continue  # the preview itself says so, with what to do
    used = {name for text in texts for name in placeholders.names_in(text)}
    return tuple(known for known in placeholders.KNOWN if known.name in used)


def unreadable(problem: Undecryptable) -> CallFailure:
    """A stored secret that cannot be decrypted, in a card's words."""
    return CallFailure(Step.CONNECTION, Problem.SECRET_UNREADABLE, problem.sentence)


def _plan(session: Session, card: Card, connection: Connection | None, token: Token | None) -> Plan:
    headers = tuple(Header(row.name, _value(session, row), row.secret) for row in stored_headers.of_card(session, card))
    authorization = card.unseal("authorization_header", keyring_of(session))
    if connection is None:
        return Plan(card, headers, authorization, None)
    assert token is not None, "every connection has its token"
    valid, renewable = token.is_valid(utc_now()), states.renewable(connection, token)
    return Plan(card, headers, authorization, connection, token, valid, renewable)


def _value(session: Session, row: CardHeader) -> SecretStr:
    return row.unseal("value", keyring_of(session)) or SecretStr("")

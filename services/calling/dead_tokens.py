"""A token that its API turns down: how to tell, when another one is worth asking for, and what its age teaches.

Marks no connection: whether a grant is over is for its provider to say.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlmodel import Session, col, select

import outbound
from models import Connection, Outcome, Refresh, Token, Trigger
from models.types import utc_now
from oauth import expressions
from oauth.scrub import NOTHING
from services.calling import call_replies
from services.engine import lifetimes, timing, tokens
from services.engine.tokens import Access
from services.resources import Resources

LONGEST_JUDGED = 64 * 1024
"""Bytes: what says that a token is no longer good is short, and an expression over megabytes is slow."""


def refused(connection: Connection, reply: outbound.Reply) -> bool:
    """Whether a reply means that the token is no longer good, by the connection's rule."""
    if reply.status in connection.dead_statuses:
        return True
    if not connection.dead_expression or len(reply.body) > LONGEST_JUDGED:
        return False
    try:
        document = call_replies.json_of(call_replies.text_of(reply), NOTHING)
    except call_replies.NotJson:
        return False
    return is_true(expressions.find(connection.dead_expression, document))


def is_true(found: object) -> bool:
    """Truth as JMESPath has it: 0 is true, and what is empty is not."""
    return found is not None and found is not False and found not in ("", [], {})


def was_just_replaced(resources: Resources, connection: Connection, access: Access) -> bool:
    """Whether the token was fetched a moment ago because the one before was no good either: another would not help."""
    with resources.database.session() as session:
        row = _asked_for_by_a_call(session, connection, access.generation - 1)
    since = utc_now() - timedelta(seconds=resources.settings.manual_cooldown)
    return row is not None and row.closed_at is not None and row.closed_at > since


def learn(resources: Resources, connection: Connection, access: Access, refused_at: datetime) -> None:
    """A new token worked where the one of `access` was refused: remember at which age, if nobody else says.

    Only if the refusal is why it was replaced: while a refresh is under way, many providers refuse the
    token that is about to be replaced, whatever its age.
    """
    if access.received_at is None or access.lifetime_rung in lifetimes.SAID:
        return  # where the provider says how long a token lives, one that dies early was taken back
    age = (refused_at - access.received_at).total_seconds()
    with resources.database.session(writing=True) as session:
        row = _asked_for_by_a_call(session, connection, access.generation)
        if row is None or row.sent_at < refused_at:
            return
        token = session.get_one(Token, tokens.current_token(session, connection).id, with_for_update=True)
        learned = timing.learn(token.learned_lifetime, age)
        if learned == token.learned_lifetime:
            return
        token.learned_lifetime = learned
        lifetimes.replan(resources.settings, connection, token)
        session.commit()


def _asked_for_by_a_call(session: Session, connection: Connection, spent: int) -> Refresh | None:
    """The refresh by which a card's call, or a preview, replaced the token of generation `spent`."""
    query = select(Refresh).where(
        Refresh.connection_id == connection.id,
        Refresh.generation == spent,
        col(Refresh.outcome) == Outcome.STORED,
        col(Refresh.trigger) == Trigger.AGENT_FACING,
    )
    return session.exec(query.order_by(col(Refresh.sent_at).desc()).limit(1)).first()

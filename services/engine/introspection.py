"""Asking a provider when a token ends (RFC 7662), where its reply did not say: after it is stored, by a worker.

Nothing rests on the answer. A question that is lost or fails leaves the token as it is, on the next rung of
the ladder; the next token is asked about again.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr
from sqlmodel import Session, col, select, update

import outbound
from models import Connection, ConnectionState, Outcome, Refresh, Token, keyring_of
from models.token import ASKED_FOR
from models.types import Undecryptable, utc_now
from oauth.introspection import STEP
from oauth.session import TokenClient
from oauth.vocabulary import ClientAuthMethod, LifetimeRung, OAuthFailure, Registration
from services import edits
from services.engine import client_secrets, hosts, lifetimes
from services.resources import Resources

AT_ONCE = 8
"""Questions under way in one process: they wait behind every refresh."""
USED_IN = frozenset({ConnectionState.ACTIVE, ConnectionState.REFRESHING, ConnectionState.DEGRADED})


@dataclass(frozen=True)
class Question:
    """What to ask of which token, as values that outlive the session."""

    token_id: uuid.UUID
    connection_id: uuid.UUID
    generation: int
    registration: Registration
    auth_method: ClientAuthMethod | None
    access_token: SecretStr = field(repr=False)


def waiting(session: Session) -> bool:
    """Whether there is a token to ask about, and anything may be sent at all."""
    return session.exec(_due().limit(1)).first() is not None and not hosts.is_everything_paused(session)


def run(resources: Resources, seconds: float, *, stopping: Callable[[], bool] = lambda: False) -> int:
    """Ask about tokens until there is none to ask about, or for `seconds`; returns how many were asked about.

    Raises OperationalError while the database is away.
    """
    until, asked = time.monotonic() + seconds, 0
    while not stopping() and time.monotonic() < until:
        with resources.database.session(writing=True) as session:
            taken, questions = _take(session)
        if not taken:
            break
        answers = resources.http.run(_ask(resources, questions))
        for question, answer in zip(questions, answers, strict=True):
            with resources.database.session(writing=True) as session:
                _note(session, resources, question, answer)
        asked += len(questions)
    return asked


def _due() -> Any:
    """Ids of tokens to ask about; the question about a connection that is paused waits until it goes on."""
    query = select(Token.id).join(Connection, col(Connection.id) == Token.connection_id)
    return query.where(ASKED_FOR, col(Connection.state) != ConnectionState.PAUSED)


def _take(session: Session) -> tuple[int, list[Question]]:
    """Take tokens off the list, so that nobody else asks about them; commits. How many, and what to ask of them."""
    if hosts.is_everything_paused(session):
        return 0, []
    due = _due().limit(AT_ONCE).with_for_update(of=Token, skip_locked=True)
    statement = (
        update(Token)
        .where(col(Token.id).in_(due), col(Token.introspection_due))
        .values(introspection_due=False)
        .returning(col(Token.id))
        .execution_options(synchronize_session=False)
    )
    ids = session.execute(statement).scalars().all()
    query = select(Token, Connection).join(Connection, col(Connection.id) == Token.connection_id)
    rows = session.exec(query.where(col(Token.id).in_(ids)).execution_options(populate_existing=True)).all()
    found = [_question(session, token, connection) for token, connection in rows]
    session.commit()
    return len(ids), [question for question in found if question is not None]


def _question(session: Session, token: Token, connection: Connection) -> Question | None:
    """What to ask about a token; None where nothing may be sent, with the reason on the row where there is one."""
    if not connection.introspection_endpoint or connection.has_strange_grant or connection.state not in USED_IN:
        return None
    refusal = hosts.refusal(session, utc_now(), outbound.origin(connection.introspection_endpoint))
    if refusal is not None:
        token.introspection_problem = str(refusal)
        return None
    try:
        value = token.unseal("access_token", keyring_of(session))
        registration = client_secrets.registration(session, connection, token)
    except Undecryptable as problem:
        token.introspection_problem = problem.sentence
        return None
    if value is None:
        return None
    return Question(token.id, connection.id, token.generation, registration, token.auth_method, value)


async def _ask(resources: Resources, questions: Sequence[Question]) -> list[float | OAuthFailure]:
    return list(await asyncio.gather(*(_ask_one(resources, question) for question in questions)))


async def _ask_one(resources: Resources, question: Question) -> float | OAuthFailure:
    """Seconds left from now, or why nobody knows."""
    client = TokenClient(
        resources.http, question.registration, resources.token_limits, step=STEP, worked=question.auth_method
    )
    try:
        return await client.introspect(question.access_token)
    except OAuthFailure as failure:
        return failure


def _note(session: Session, resources: Resources, question: Question, answer: float | OAuthFailure) -> None:
    """Plan the token by the answer, unless another has come meanwhile (compare-and-swap on generation). Commits."""
    now = utc_now()
    connection = session.get(Connection, question.connection_id, with_for_update=edits.WITHOUT_KEY)
    token = session.get(Token, question.token_id, with_for_update=True)
    if connection is None or token is None or token.generation != question.generation or token.received_at is None:
        return
    if isinstance(answer, OAuthFailure):
        token.introspection_problem = " ".join(filter(None, (str(answer), answer.provider_said)))
    else:
        age = max(0.0, (now - token.received_at).total_seconds())
        lifetimes.plan(resources.settings, connection, token, age + answer, LifetimeRung.INTROSPECTION)
        token.introspection_problem = ""
        _tell_history(session, token)
    session.commit()


def _tell_history(session: Session, token: Token) -> None:
    """The journal's row of this token learns its lifetime as well."""
    statement = (
        update(Refresh)
        .where(
            col(Refresh.connection_id) == token.connection_id,
            col(Refresh.generation) == token.generation - 1,
            col(Refresh.outcome) == Outcome.STORED,
        )
        .values(lifetime=token.lifetime, lifetime_rung=token.lifetime_rung)
        .execution_options(synchronize_session=False)
    )
    session.execute(statement)

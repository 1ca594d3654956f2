"""Storing many good replies at once: the plain majority of what a drain settles, in three statements.

Anything unusual is left to `services.engine.settle`: failures, first authorizations, and every connection that was
edited, paused, failing or taken away while the request was under way.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import Session, col

from config import Settings
from models import Connection, ConnectionState, Outcome, Refresh, Token, Trigger, batches, keyring_of
from models.types import Keyring, Place, nonces, utc_now
from oauth.grants import GRANTS
from oauth.vocabulary import OAuthFailure, TokenReply
from services import edits
from services.engine import habits, states
from services.engine.claims import Claim

FENCE = ("generation", "lease_owner")
NEVER_ERASED = ("refresh_token_sealed", "scope")
"""A reply that is silent about them leaves them as they are (RFC 6749 §5.1, §6)."""
NEXT = "generation = tokens.generation + 1, lease_owner = NULL, lease_until = NULL"


class Overtaken(Exception):
    """Somebody changed a token between our look at it and our write: nothing of this transaction may stay."""


def store(
    session: Session, settings: Settings, results: Iterable[tuple[Claim, TokenReply | OAuthFailure]]
) -> set[uuid.UUID]:
    """Store what can be stored plainly, and close its journal rows; returns their ids. Does not commit.

    Compare-and-swap on generation and lease owner. Raises Overtaken.
    """
    good = [(claim, result) for claim, result in results if isinstance(result, TokenReply) and _is_plain(claim, result)]
    unchanged = _unchanged(session, [claim for claim, _ in good])
    stored = [(claim, reply) for claim, reply in good if claim.refresh_id in unchanged]
    if not stored:
        return set()
    tokens, journal = _rows(settings, keyring_of(session), stored)
    found = batches.update_many(session, Token, tokens, where=FENCE, keep=NEVER_ERASED, also=NEXT)
    if found < len(stored):
        raise Overtaken
    batches.update_many(session, Refresh, journal)
    return {claim.refresh_id for claim, _ in stored}


def _is_plain(claim: Claim, reply: TokenReply) -> bool:
    same_secret = reply.client_secret_id == claim.registration.client_secret_id
    return claim.plain and same_secret and claim.trigger is not Trigger.AUTHORIZE


def _unchanged(session: Session, claims: Sequence[Claim]) -> set[uuid.UUID]:
    """Journal ids of claims whose connection is as it was, and is ours until the commit.

    Locked in one order by everybody, the connection before the token.
    """
    by_connection = {claim.connection_id: claim for claim in claims}
    columns: list[Any] = [Connection.id, Connection.version, Connection.state, Connection.failure_class]
    columns += [Token.generation, Token.lease_owner]
    query = (
        sa.select(*columns)
        .join(Token, col(Token.connection_id) == Connection.id)
        .where(batches.among(session, Connection.id, by_connection))
        .where(batches.among(session, Token.id, [claim.token_id for claim in claims]))
        .order_by(col(Connection.id))
        .with_for_update(of=Connection, **edits.WITHOUT_KEY)
    )
    found = set()
    for connection_id, version, state, failure_class, generation, owner in session.execute(query) if claims else ():
        claim = by_connection[connection_id]
        as_it_was = (version, generation, owner) == (claim.version, claim.generation, claim.owner)
        if as_it_was and state is ConnectionState.ACTIVE and failure_class is None:
            found.add(claim.refresh_id)
    return found


def _rows(
    settings: Settings, keyring: Keyring, stored: Sequence[tuple[Claim, TokenReply]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What is written to the tokens' rows and to the journal's."""
    tokens, journal = [], []
    drawn = nonces(2 * len(stored))
    for claim, reply in stored:
        renewable = bool(claim.refresh_token or reply.refresh_token)
        renewable = renewable or not GRANTS[claim.registration.grant_type].needs_person
        news, planned = states.news(settings, claim.timing, reply, renewable=renewable, learned=claim.learned_lifetime)
        rotation, reuse = habits.learn(
            claim.rotation,
            claim.reuse,
            sent=claim.refresh_token,
            received=reply.refresh_token,
            failure=None,
            after_unknown=False,
        )
        token = {
            "id": claim.token_id,
            "generation": claim.generation,
            "lease_owner": claim.owner,
            **news,
            "access_token_sealed": _sealed(keyring, claim, "access_token", reply.access_token, next(drawn)),
            "refresh_token_sealed": _sealed(keyring, claim, "refresh_token", reply.refresh_token, next(drawn)),
            "scope": reply.scope,
            "client_secret_id": reply.client_secret_id,
            "rotation": rotation,
            "reuse": reuse,
            "next_refresh_at": planned.due,
            "priority": planned.priority,
        }
        tokens.append(token)
        journal.append(
            {
                "id": claim.refresh_id,
                "outcome": Outcome.STORED,
                "closed_at": utc_now(),
                "lifetime": planned.expires_at and (planned.expires_at - news["received_at"]).total_seconds(),
                "lifetime_rung": planned.rung,
                "rotated": habits.is_replaced(claim.refresh_token, reply.refresh_token),
            }
        )
    return tokens, journal


def _sealed(keyring: Keyring, claim: Claim, field: str, value: SecretStr | None, nonce: bytes) -> bytes | None:
    place = Place(claim.workspace_id, "tokens", claim.token_id, field)
    return None if value is None else keyring.encrypt(value, place, nonce)

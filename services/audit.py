"""Writing and reading the audit trail; entries join the transaction of what they tell of."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import String, cast, or_
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

import logs
from models import AuditEntry, User
from models.types import utc_now

log = logs.get(__name__)


@dataclass(frozen=True)
class Actor:
    """Who acts: a person, or a process of ours."""

    user_id: uuid.UUID | None
    name: str

    @classmethod
    def person(cls, user: User) -> Actor:
        """A signed-in person."""
        return cls(user.id, user.email)


WORKER = Actor(None, "Cardkey worker")
COMMAND_LINE = Actor(None, "Command line")


REFUSED = "access.refused"
REFUSALS_APART = timedelta(minutes=1)
STRANGER = "Somebody of another workspace"


class Subject(Protocol):
    """A row an entry can be about."""

    id: uuid.UUID
    workspace_id: uuid.UUID


def record(session: Session, actor: Actor, action: str, subject: Subject, name: str = "", **detail: Any) -> None:
    """Add an entry about `subject`; `detail` must hold no secret. Does not commit."""
    session.add(
        AuditEntry(
            workspace_id=subject.workspace_id,
            user_id=actor.user_id,
            actor=actor.name,
            action=action,
            subject_id=subject.id,
            subject_name=name[:254],
            detail=detail,
        )
    )


def record_for(session: Session, actor: Actor, action: str, workspace_id: uuid.UUID | None, **detail: Any) -> None:
    """Add an entry about a workspace or the installation as such. Does not commit."""
    session.add(
        AuditEntry(workspace_id=workspace_id, user_id=actor.user_id, actor=actor.name, action=action, detail=detail)
    )


@contextmanager
def aside(session: Session) -> Iterator[None]:
    """For entries whose loss must not undo what they tell of: a token that has come is stored first (TK-06)."""
    session.flush()  # what fails here is no entry
    try:
        with session.begin_nested():
            yield
    except DBAPIError as problem:
        log.warning("audit entry lost", problem=type(problem.orig).__name__)


def note_refusal(session: Session, user: User, workspace_id: uuid.UUID, what: str, *, is_member: bool) -> None:
    """Add that somebody was denied `what` in a workspace, once a minute at the most for each. Commits.

    Whoever is no member stays unnamed there: other workspaces' people are nobody's business.
    """
    again = select(AuditEntry.id).where(
        AuditEntry.workspace_id == workspace_id,
        AuditEntry.user_id == user.id,
        AuditEntry.action == REFUSED,
        col(AuditEntry.at) > utc_now() - REFUSALS_APART,
    )
    if session.exec(again.limit(1)).first() is None:
        actor = Actor(user.id, user.email if is_member else STRANGER)
        record_for(session, actor, REFUSED, workspace_id, page=what)
        session.commit()


def last(session: Session, subject: Subject, action: str) -> AuditEntry | None:
    """The newest entry that tells of an action on `subject`; None where the trail has none."""
    query = select(AuditEntry).where(
        AuditEntry.workspace_id == subject.workspace_id,
        AuditEntry.subject_id == subject.id,
        AuditEntry.action == action,
    )
    return session.exec(query.order_by(col(AuditEntry.at).desc()).limit(1)).first()


def deletion(session: Session, kind: str, row_id: uuid.UUID) -> AuditEntry | None:
    """The entry of the deletion of a `kind` of row, whichever workspace it belonged to; None where there was none."""
    query = select(AuditEntry).where(AuditEntry.subject_id == row_id, AuditEntry.action == f"{kind}.deleted")
    return session.exec(query.order_by(col(AuditEntry.at).desc()).limit(1)).first()


def deleted_meanwhile(
    session: Session, user_id: uuid.UUID, workspace_ids: Collection[uuid.UUID], since: datetime
) -> AuditEntry | None:
    """The entry of the last deletion of a connection that somebody has begun to authorize `since` then."""
    started, gone = aliased(AuditEntry), aliased(AuditEntry)
    query = select(gone).where(
        col(gone.workspace_id).in_(workspace_ids),
        col(gone.at) > since,
        gone.action == "connection.deleted",
        gone.subject_id == started.subject_id,
        gone.workspace_id == started.workspace_id,
        col(started.at) > since,
        col(started.at) <= col(gone.at),
        started.user_id == user_id,
        started.action == "connection.authorize_started",
    )
    return session.exec(query.order_by(col(gone.at).desc()).limit(1)).first()


def entries(
    session: Session,
    workspace_id: uuid.UUID,
    *,
    page: int = 1,
    size: int = 50,
    subjects: Collection[str] = (),
    text: str = "",
) -> Sequence[AuditEntry]:
    """One page, newest first, plus one entry more if there is a next page.

    `subjects` are the first words of actions; `text` is part of who acted, or of what an entry names.
    """
    query = select(AuditEntry).where(AuditEntry.workspace_id == workspace_id)
    if subjects:
        query = query.where(or_(*(col(AuditEntry.action).startswith(f"{word}.", autoescape=True) for word in subjects)))
    if text:
        places = (col(AuditEntry.actor), col(AuditEntry.subject_name), cast(AuditEntry.detail, String))
        query = query.where(or_(*(place.icontains(text, autoescape=True) for place in places)))
    query = query.order_by(col(AuditEntry.at).desc(), col(AuditEntry.id)).offset((page - 1) * size).limit(size + 1)
    return session.exec(query).all()


def emails(session: Session, found: Collection[AuditEntry]) -> Mapping[uuid.UUID, str]:
    """Who acted in entries, by id, for somebody who may know everybody; people who were deleted are left out."""
    ids = {entry.user_id for entry in found if entry.user_id is not None}
    return dict(session.exec(select(User.id, User.email).where(col(User.id).in_(ids))).all()) if ids else {}

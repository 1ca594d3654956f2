"""Which workers and schedulers are alive: a row for each, written by the process itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete
from sqlmodel import Session, col, select

from models import Heartbeat
from models.types import utc_now

SILENT_AFTER = timedelta(seconds=30)
"""A process that has not been heard of for so long counts as gone."""


def beat(session: Session, process: str, kind: str) -> None:
    """Write that `process` (`kind:host:pid`, a name no other process has) is alive. Commits."""
    session.merge(Heartbeat(process=process, kind=kind, seen_at=utc_now()))
    session.commit()


def end(session: Session, process: str) -> None:
    """Take a process off the list, when it ends in good order. Commits."""
    session.execute(delete(Heartbeat).where(col(Heartbeat.process) == process))
    session.commit()


def alive(session: Session) -> Sequence[Heartbeat]:
    """Processes heard of lately, by kind and name."""
    query = select(Heartbeat).where(Heartbeat.seen_at > utc_now() - SILENT_AFTER)
    return session.exec(query.order_by(Heartbeat.kind, Heartbeat.process)).all()

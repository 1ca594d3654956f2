"""Answers of providers that nothing may come of: why not, as far as whoever brought one may know."""

from __future__ import annotations

from datetime import timedelta

from sqlmodel import Session

from config import Settings
from models import AttemptOutcome, AuthorizationAttempt, Role, User
from models.types import utc_now
from services import audit
from services.errors import Refused
from services.people import members

UNKNOWN = (
    "This answer belongs to no authorization that is under way here: it is an old one, or its connection was deleted. "
    "Start again from the connection's page."
)
DELETED = (
    "This answer belongs to no authorization that is under way here. {who} deleted the connection “{name}” while you "
    "were authorizing it, so nothing was kept. Where you had agreed already, remove the access at the provider as well."
)
SPENT = "This answer has been used already. The connection's page shows how it ended."
IN_USE = "This answer has been used already, and its token is being fetched. The connection's page shows how it ends."
EXPIRED = "This took longer than it may. Nothing was changed; start again from the connection's page."


class Unusable(Refused):
    """An answer that nothing may come of; the message tells no more than its bearer may know."""

    def __init__(self, words: str, status: int = 400) -> None:
        """`status` is the page's."""
        super().__init__(words)
        self.status = status


def check_open(attempt: AuthorizationAttempt) -> None:
    """Refuse what nothing may come of any more, and say why. The words name no connection: anybody may have come."""
    if attempt.interrupted:
        raise Unusable(f"This was interrupted. {attempt.stopped_words} {attempt.next_step}", 410)
    if attempt.expired:
        raise Unusable(EXPIRED, 410)
    if attempt.withdrawn:
        raise Unusable(f"{attempt.failure_reason} {attempt.next_step}", 410)
    if attempt.outcome is not AttemptOutcome.PENDING:
        raise Unusable(SPENT, 410)
    if attempt.used_at is not None:
        raise Unusable(IN_USE, 410)


def unknown(session: Session, settings: Settings, user: User | None) -> Unusable:
    """An answer whose attempt is not there: it may have gone with a connection, which its own admin is told."""
    mine = members.workspaces_of(session, user.id) if user else ()
    admin_of = [workspace.id for workspace, role in mine if role is Role.ADMIN]
    since = utc_now() - timedelta(seconds=settings.attempt_ttl)
    if user is None or not admin_of:
        return Unusable(UNKNOWN)
    entry = audit.deleted_meanwhile(session, user.id, admin_of, since)
    if entry is None:
        return Unusable(UNKNOWN)
    who = "You" if entry.user_id == user.id else members.known_name(session, entry) or "Somebody else"
    return Unusable(DELETED.format(who=who, name=entry.subject_name), 410)

"""What to do about a preview that failed, for whoever pressed: what they may do themselves, else who may."""

from __future__ import annotations

from models import Role
from oauth.vocabulary import FailureClass
from services.calling.call_failures import CallFailure, Problem

ADMIN = "an admin of this workspace can look into it."
BY_ANYBODY = frozenset({Problem.BEING_REFRESHED, Problem.BUSY, Problem.THROTTLED, Problem.CARD_GONE})
"""What is done about these takes no right that is not needed for the preview itself."""
PASSING = frozenset({Problem.TIMEOUT, Problem.API_BROKEN, Problem.UNREACHABLE})
ABOUT_VALUES = frozenset({400, 404, 422})
"""Statuses of APIs that may mean no more than that there is no such customer."""


def advice(failure: CallFailure, role: Role, *, is_owner: bool, status: int | None, has_values: bool) -> str:
    """A sentence or two. `has_values`: there are sample values in the form; `status` is the API's."""
    kind = failure.failure_class
    if kind is Problem.REFRESHES_PAUSED and is_owner:
        return "Resume token requests under Operations, then press Preview again."
    if role is Role.ADMIN or kind in BY_ANYBODY or kind is Problem.REFRESHES_PAUSED:
        return failure.next_step
    if kind is Problem.PAUSED:
        by_self = role is Role.OPERATOR
        return failure.next_step if by_self else "Ask an operator or admin of this workspace to press Resume on it."
    if kind is FailureClass.GRANT_DEAD or kind is Problem.NOT_AUTHORIZED:
        return "Ask an admin of this workspace to authorize it."
    if kind in PASSING or failure.retried:
        return f"Press Preview again in a while. If it stays, {ADMIN}"
    if has_values and status in ABOUT_VALUES:
        return f"Check the values above. If they are right, {ADMIN}"
    return f"A{ADMIN[1:]}"

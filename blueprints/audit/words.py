"""Audit entries as sentences: what follows the name of who acted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models import AuditEntry
from models.authorization_attempt import NEWER, PAUSED, PAUSED_SINCE, STOPPED, WITHDRAWN
from oauth.vocabulary import STEPS_BY_CODE, FailureClass

SENTENCES = {
    "card.created": "made the card {name}",
    "card.configured": "saved the card {name}",
    "card.deleted": "deleted the card {name}",
    "connection.created": "made the connection {name}",
    "connection.configured": "saved the connection {name}{changed}",
    "connection.secret_set": "set the client secret of {name}",
    "connection.secret_added": "set a new client secret of {name} and kept the old one",
    "connection.secret_worked": "used another client secret of {name} than before, and it worked",
    "connection.secret_removed": "removed a client secret of {name}",
    "connection.reply_used": "used a reply of {name} that could not be read before",
    "connection.reply_given_up": "gave up a reply of {name} that could not be read",
    "connection.host_added": "let the token of {name} be sent to {hosts}",
    "connection.host_changed": "moved the {field} of {name} to another host; its secret and authorization were dropped",
    "connection.authorize_started": "pressed Authorize on {name}",
    "connection.authorized": "authorized {name}",
    "connection.authorization_failed": "could not authorize {name}",
    "connection.state_changed": "{name} went from {from} to {to}",
    "connection.refresh_requested": "asked for a refresh of {name}",
    "bulk.requested": "asked for a refresh of {number} connections at once",
    "bulk.cancelled": "cancelled a refresh of many connections, as far as nothing had been sent",
    "connection.disconnected": "disconnected {name}{withdrawn}",
    "connection.deleted": "deleted the connection {name}",
    "connection.paused": "paused {name}{withdrawn}",
    "connection.resumed": "resumed {name}",
    "everything.paused": "paused all token requests",
    "everything.resumed": "resumed all token requests",
    "provider.paused": "paused token requests to {host}",
    "provider.resumed": "resumed token requests to {host}",
    "provider.tried": "had {host} tried at once",
    "provider.limited": "set the limit of requests in flight at {host} to {limit}",
    "member.added": "added {email} as {role}",
    "member.invited": "invited {email} as {role}",
    "member.invitation_withdrawn": "withdrew the invitation of {email}",
    "member.joined": "joined as {role}",
    "member.role_changed": "changed the role of {email} from {before} to {after}",
    "member.removed": "removed {email}",
    "member.password_link_made": "made a password link for {email}",
    "access.refused": "was denied {page}",
    "sign_in.refused": "was refused at sign-in",
    "sign_in.succeeded": "signed in",
    "user.password_changed": "chose a new password",
    "user.sessions_ended": "ended sessions in other browsers",
    "workspace.created": "made the workspace {name}",
    "workspace.saved": "saved the workspace's settings{changed}",
}
ICONS = {
    "bulk": "refresh",
    "card": "layout-cards",
    "provider": "player-pause",
    "everything": "player-pause",
    "connection": "plug-connected",
    "member": "users",
    "workspace": "building",
}

KINDS = {
    "cards": ("Cards", ("card",)),
    "connections": ("Connections and refreshes", ("connection", "bulk")),
    "providers": ("Providers", ("provider", "everything")),
    "people": ("Members and sign-in", ("member", "user", "sign_in", "access")),
    "workspace": ("The workspace", ("workspace",)),
}
"""What entries are about: its words, and the first words of actions."""
OURS = frozenset({WITHDRAWN, PAUSED, PAUSED_SINCE, NEWER, STOPPED, *STEPS_BY_CODE})
"""Codes of failures that are not a provider's."""
SETTINGS = frozenset({"changed", "field"})
"""Details that name settings; everything else is told as it was written."""


class _Values(dict[str, str]):
    """What a sentence may name; an older entry may lack some of it."""

    def __missing__(self, key: str) -> str:
        return "…"


def sentence(entry: AuditEntry) -> str:
    """What was done, in plain words; an action nobody described yet is told by its code."""
    pattern = SENTENCES.get(entry.action)
    if pattern is None:
        subject, _dot, verb = entry.action.partition(".")
        return f"{verb.replace('_', ' ')} ({subject.replace('_', ' ')}) {entry.subject_name}".rstrip()
    return pattern.format_map(_values(entry.subject_name, entry.detail))


def reason(entry: AuditEntry) -> str:
    """Why, where an entry says so: a class of failure by its words, anything else as it was written."""
    said = str(entry.detail.get("reason") or "")
    if said in set(FailureClass):
        title = FailureClass(said).title
        return f"{title[:1].lower()}{title[1:]}"
    return _plain(said)


def code(entry: AuditEntry) -> str:
    """The provider's own code for a failure, letter for letter; empty where the reason names it, or it is ours."""
    found = str(entry.detail.get("code") or "")
    return "" if found in OURS or found in str(entry.detail.get("reason")) else found


def icon(entry: AuditEntry) -> str:
    """The icon of what an entry is about."""
    return ICONS.get(entry.action.partition(".")[0], "user")


def _values(name: str, detail: Mapping[str, Any]) -> _Values:
    values = _Values(name=name or str(detail.get("name", "…")), changed="", withdrawn="")
    for key, value in detail.items():
        told = _plain if key in SETTINGS else str
        values[key] = ", ".join(map(told, value)) if isinstance(value, list) else told(value)
    if detail.get("changed"):
        values["changed"] = f": {values['changed']}"
    if detail.get("withdrawn"):
        number = detail["withdrawn"]
        values["withdrawn"] = f", which ended {number} unfinished authorization{'' if number == 1 else 's'}"
    return values


def _plain(value: Any) -> str:
    return str(value).replace("_", " ") if isinstance(value, str) and value.isidentifier() else str(value)

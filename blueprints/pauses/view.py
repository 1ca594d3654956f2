"""What pages show of pauses and providers; for the pages of connections and operations as well. Changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from blueprints import web
from models import AuditEntry, Connection, ConnectionState
from models.types import utc_now
from outbound import origin
from services.operating import pauses, providers
from services.operating.providers import Notice
from services.people import members


def of_operations(*, everywhere: bool) -> dict[str, Any]:
    """What the section of providers needs, for the current workspace or `everywhere`."""
    workspace_id = None if everywhere else web.current_workspace().id
    found = providers.listed(web.db(), web.resources().settings, utc_now(), workspace_id)
    return {
        "providers": found,
        "notices": providers.notices(web.db(), workspace_id),
        "is_owner": web.me().user.is_owner,
    }


def of_overview(*, everywhere: bool) -> dict[str, Any]:
    """What the page of operations needs of that; the section itself comes later, since it counts every connection."""
    workspace_id = None if everywhere else web.current_workspace().id
    return {
        "in_trouble": providers.in_trouble(web.db(), workspace_id),
        "notices": providers.notices(web.db(), workspace_id),
        "is_owner": web.me().user.is_owner,
    }


def of_lists() -> dict[str, Any]:
    """What the notices of a page about the workspace's connections need."""
    found = providers.notices(web.db(), web.current_workspace().id)
    return {"notices": found, "is_owner": web.me().user.is_owner}


def stopped(connections: Iterable[Connection], notices: Sequence[Notice]) -> set[uuid.UUID]:
    """Ids of those whose tokens are not renewed while the pauses in `notices` last."""
    if any(notice.is_for_all for notice in notices):
        return {connection.id for connection in connections}
    hosts = {notice.host for notice in notices}
    return {connection.id for connection in connections if hosts and origin(connection.token_endpoint) in hosts}


def is_stopped(connection: Connection) -> bool:
    """Whether somebody paused a connection, its provider or everything, so that nobody can authorize it."""
    notices = providers.notices(web.db(), connection.workspace_id, origin(connection.token_endpoint))
    return bool(notices) or connection.state is ConnectionState.PAUSED


def of_connection(connection: Connection) -> dict[str, Any]:
    """What a page about a connection shows of its provider."""
    host = origin(connection.token_endpoint)
    silent = providers.trouble(web.db(), utc_now(), host)
    return {
        "notices": providers.notices(web.db(), connection.workspace_id, host),
        "is_owner": web.me().user.is_owner,
        "silent": silent,
        "being_tried": silent is not None and providers.is_being_tried(web.db(), utc_now(), host),
        "paused": _pause(connection) if connection.state is ConnectionState.PAUSED else None,
    }


def _pause(connection: Connection) -> dict[str, Any]:
    """Since when a connection is paused, and by whom, as far as whoever looks may know."""
    entry = pauses.last_pause(web.db(), connection)
    return {"since": entry.at if entry else None, "by": _who(entry, connection) if entry else ""}


def _who(entry: AuditEntry, connection: Connection) -> str:
    if entry.user_id is None:
        return "somebody on the command line"
    is_known = members.role_in(web.db(), entry.user_id, connection.workspace_id) is not None
    return entry.actor if is_known or web.me().user.is_owner else "somebody who is no member of this workspace"

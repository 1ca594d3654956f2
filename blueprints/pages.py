"""What every page wears: navigation by role, workspace and person menus, and moments in the person's time zone.

Holds the way in, `/`, and no page of anything in particular.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flask import Blueprint, Flask, current_app, render_template, request, url_for
from flask_login import current_user, login_required
from markupsafe import Markup
from werkzeug.wrappers import Response

from blueprints import web
from models import Role, Workspace
from models.types import utc_now
from services.people import members

blueprint = Blueprint("pages", __name__)

PLACES = (
    ("cards.index", "Cards", "layout-cards", Role.AGENT),
    ("connections.index", "Connections", "plug-connected", Role.OPERATOR),
    ("operations.index", "Operations", "activity-heartbeat", Role.OPERATOR),
    ("audit.index", "Audit", "history", Role.ADMIN),
    ("members.index", "Members", "users", Role.ADMIN),
    ("settings.index", "Settings", "settings", Role.AGENT),
)
"""Endpoint, words, icon, and the role from which a place is shown. The views check the role by themselves."""

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STEPS = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (14 * 86400, 86400, "day"))
"""Up to how many seconds a distance is told in which unit; static/app.js goes on with the same."""
BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
"""What tells browsers and systems apart, the tellingest first: most name several."""

HTMX = json.dumps(
    {
        "selfRequestsOnly": True,
        "allowEval": False,
        "allowScriptTags": False,
        "includeIndicatorStyles": False,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        "disableInheritance": True,
        "defaultSwapStyle": "outerHTML",
        "defaultSettleDelay": 0,
        "attributesToSettle": ["class"],
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            {"code": "422", "swap": True},
            {"code": "[45]..", "swap": True, "error": True, "target": "#flashes", "swapOverride": "innerHTML"},
        ],
    }
)
"""What htmx may do (WB-07): no code from attributes or replies, no other site, fragments replace themselves.

New parts work from the moment they are there: with a delay, a quick second choice would be lost.
"""


@dataclass(frozen=True)
class Place:
    """An entry of the navigation."""

    address: str
    words: str
    icon: str
    here: bool


@dataclass(frozen=True)
class Surroundings:
    """What the header shows of a signed-in person."""

    email: str
    workspace: Workspace | None
    role: Role | None
    workspaces: Sequence[Workspace]
    places: Sequence[Place]

    @property
    def initial(self) -> str:
        """The letter in the person's badge."""
        return self.email[:1].upper()


@blueprint.get("/")
@login_required
def home() -> str | Response:
    """The way in: the first place open to the person."""
    around = surroundings()
    if around is None or around.workspace is None or not around.places:
        return render_template("pages/no_workspace.html")
    return web.see_other(_open_to(around.role)[0][0])


def surroundings() -> Surroundings | None:
    """Read who is asking and where; None for somebody signed out. Called by base.html, not by fragments."""
    if not current_user.is_authenticated:
        return None
    found = web.workspace_and_role()
    mine = [workspace for workspace, _role in members.workspaces_of(web.db(), web.me().user.id)]
    workspace, role = found or (None, None)
    return Surroundings(web.me().email, workspace, role, mine, [_place(entry) for entry in _open_to(role)])


def _open_to(role: Role | None) -> list[tuple[str, str, str, Role]]:
    """Places for a role; somebody without a workspace has settings alone."""
    if role is None:
        return [entry for entry in PLACES if entry[0] == "settings.index"]
    return [entry for entry in PLACES if role.includes(entry[3]) and entry[0] in current_app.view_functions]


def _place(entry: tuple[str, str, str, Role]) -> Place:
    endpoint, words, icon, _role = entry
    return Place(url_for(endpoint), words, icon, request.blueprint == endpoint.partition(".")[0])


def zone() -> ZoneInfo | None:
    """The person's time zone; None follows the browser, which the page's script knows."""
    name = web.me().time_zone if current_user.is_authenticated else ""
    try:
        return ZoneInfo(name) if name else None
    except (ZoneInfoNotFoundError, ValueError):
        return None  # a name that was known when it was chosen, and is not on this machine


def exact(moment: datetime) -> str:
    """`3 Nov 2026, 14:05:09` in the person's time zone, else in UTC and saying so."""
    here = zone()
    local = moment.astimezone(here or UTC)
    return f"{local.day} {MONTHS[local.month - 1]} {local.year}, {local:%H:%M:%S}{'' if here else ' UTC'}"


def day(moment: datetime) -> str:
    """`3 Nov 2026` in the person's time zone; without the year while it is this one."""
    local, today = (value.astimezone(zone() or UTC) for value in (moment, utc_now()))
    year = "" if local.year == today.year else f" {local.year}"
    return f"{local.day} {MONTHS[local.month - 1]}{year}"


def distance(moment: datetime, now: datetime) -> str:
    """`in 12 min`, `3 min ago`, or the day when that is far."""
    seconds = round((moment - now).total_seconds())
    if abs(seconds) < 5:
        return "in a moment" if seconds > 0 else "just now"
    for limit, unit, word in STEPS:
        if abs(seconds) < limit:
            amount = f"{abs(seconds) // unit} {word}"
            if word == "day" and abs(seconds) // unit > 1:
                amount += "s"
            return f"in {amount}" if seconds > 0 else f"{amount} ago"
    return day(moment)


def when(moment: datetime | None, never: str = "never") -> Markup:
    """A `<time>` with the distance, and the exact time for whoever points at it. `never` stands for None."""
    if moment is None:
        return Markup('<span class="quiet">{}</span>').format(never)
    now = utc_now()
    return Markup('<time datetime="{}" title="{}" data-when="{}"{}>{}</time>').format(
        moment.astimezone(UTC).isoformat(timespec="seconds"),
        exact(moment),
        "person" if zone() else "browser",
        Markup(" data-ahead") if moment > now else "",
        distance(moment, now),
    )


def attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of a template call as HTML attributes: `hx_post` is `hx-post`."""
    return {name.replace("_", "-") if name.startswith("hx_") else name: value for name, value in given.items()}


def browser(agent: str) -> str:
    """A browser's own description, shortened to what its user calls it."""
    name = next((words for mark, words in BROWSERS if mark in agent), "Unknown browser")
    system = next((words for mark, words in SYSTEMS if mark in agent), "")
    return f"{name} on {system}" if system else name


def init_app(app: Flask) -> None:
    """Register the way in, the filters, and what base.html reads."""
    app.register_blueprint(blueprint)
    app.jinja_env.filters.update(when=when, exact=exact, day=day, attributes=attributes, browser=browser)
    app.jinja_env.globals.update(surroundings=surroundings, when=when, exact=exact, htmx_config=HTMX)

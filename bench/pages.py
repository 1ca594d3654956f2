"""What a person waits for: a preview beside a direct call of the API, and a page while a million tokens are kept."""

from __future__ import annotations

import re
import secrets
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from functools import partial
from html import unescape
from http.client import HTTPConnection
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from bench.arena import Arena, Bare, arena
from bench.crowd import Crowd, identifier
from bench.figures import Figure, Goal, Part, Wanted, compare
from bench.installation import Installation
from models import Card, CardAuthorization, Membership, Role, User
from services.calling import call_plans, calls
from services.people import passwords

API_SECONDS = 0.03
CALLS, QUICK_CALLS = 60, 25
PASSWORD = "a lamp of walnut wood"


def parts() -> Iterator[Part]:
    """All measurements of this module."""
    yield Part(("preview", "preview-difference"), partial(_preview, "postgresql", "preview"))
    yield Part(("preview-sqlite", "preview-sqlite-difference"), partial(_preview, "sqlite", "preview-sqlite"))


def _preview(kind: str, name: str, wanted: Wanted) -> Iterator[Figure]:
    count = QUICK_CALLS if wanted.quick else CALLS
    with ExitStack() as stack:
        place = stack.enter_context(arena(kind))
        bare = stack.enter_context(closing(Bare()))
        crowd = place.settle(10)
        place.endpoint.ask("behave", latency=API_SECONDS)
        url = f"http://{place.endpoint.host}/api/customers/1"
        card_id = _card(place, crowd, url)
        ours, theirs = [], []
        for _ in range(wanted.rounds + 1):
            ours.append(statistics.median(_call(place, card_id) for _ in range(count)) * 1000)
            theirs.append(statistics.median(bare.calls(url, count)) * 1000)
        ours, theirs = ours[1:], theirs[1:]  # the first round makes connections
    setup = f"{kind}, {API_SECONDS * 1000:g} ms API, card with OAuth, one after the other, p50, without rendering"
    reference = "a direct call over aiohttp, JSON read"
    yield compare(name, "ms", setup, Goal(at_most=1.25), ours, reference, theirs)
    differences = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    spread = (min(differences), max(differences))
    yield Figure(
        f"{name}-difference",
        statistics.median(differences),
        "ms more",
        setup,
        Goal(at_most=6),
        reference,
        spread=spread,
    )


def _card(place: Arena, crowd: Crowd, url: str) -> uuid.UUID:
    card = Card(
        workspace_id=crowd.workspace_id,
        title="Bench",
        hook_url=url,
        authorization=CardAuthorization.OAUTH,
        connection_id=identifier("c", crowd.first),
    )
    with place.installation.resources.database.session(writing=True) as session:
        session.add(card)
        session.commit()
        return card.id


def _call(place: Arena, card_id: uuid.UUID) -> float:
    """Seconds from the press to the reply, read and made fit to be shown."""
    resources = place.installation.resources
    began = time.perf_counter()
    plan = call_plans.load(resources, card_id)
    with calls.slot(resources, plan.card.workspace_id, card_id):
        made = calls.call(resources, plan, {})
    taken = time.perf_counter() - began
    assert made.failure is None and made.is_json, made.failure
    return taken


class Visitor:
    """Somebody signed in, with a connection to the portal that is kept."""

    def __init__(self, installation: Installation, workspace_id: uuid.UUID) -> None:
        """An admin of the workspace, signed in through the form."""
        user = User(email=f"{secrets.token_hex(4)}@bench.example", password_hash=passwords.hash_password(PASSWORD))
        with installation.resources.database.session(writing=True) as session:
            session.add(user)
            session.flush()
            session.add(Membership(workspace_id=workspace_id, user_id=user.id, role=Role.ADMIN))
            session.commit()
            email = user.email
        self._installation, self._url = installation, installation.url
        self._line = HTTPConnection("127.0.0.1", installation.port, timeout=30)
        self._cookies: dict[str, str] = {}
        page = self._ask("GET", "/login")[1]
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
        assert found is not None, page
        form = {"csrf_token": unescape(found[1]), "email": email, "password": PASSWORD}
        status, page = self._ask("POST", "/login", urlencode(form))
        assert status == 303, page

    def times(self, path: str, seconds: float) -> list[float]:
        """Milliseconds that each view of a page took, one after the other for so long."""
        self._line.close()  # the portal has hung up if we were silent for long
        until, found = time.monotonic() + seconds, []
        while time.monotonic() < until:
            began = time.perf_counter()
            status, page = self._ask("GET", path)
            found.append((time.perf_counter() - began) * 1000)
            assert status == 200, f"{page}\n{self._installation.said()[-3000:]}"
        return found

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"{self._url}/login"}
        self._line.request(method, path, body, headers)
        reply = self._line.getresponse()
        page = reply.read().decode(errors="replace")
        for line in reply.headers.get_all("Set-Cookie", []):
            self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return reply.status, page

    def close(self) -> None:
        """Hang up."""
        self._line.close()

"""The portal from outside: somebody who signs in and sends forms, and a watcher who opens a page again and again."""

from __future__ import annotations

import http.client
import re
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from types import TracebackType
from urllib.parse import urlencode

from bench.faults.stage import Stage
from models import Membership, Role, User
from services.people import passwords

PASSWORD = "a lamp of walnut wood"
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
SECONDS = 40.0
"""How long a page may take."""


@dataclass(frozen=True)
class Page:
    """What the portal answered."""

    status: int
    headers: dict[str, str]
    text: str
    seconds: float


class Browser:
    """One person's, with the cookies of one portal."""

    def __init__(self, port: int) -> None:
        """Nobody has signed in yet."""
        self._port = port
        self.cookies: dict[str, str] = {}

    def get(self, path: str) -> Page:
        """Open a page. Raises OSError or HTTPException when nobody answers."""
        return self._send("GET", path, "")

    def post(self, path: str, form_from: str = "", **fields: str) -> Page:
        """Send a form, with the token from the page `form_from`."""
        found = TOKEN.search(self.get(form_from).text) if form_from else None
        token = {"csrf_token": unescape(found[1])} if found else {}
        return self._send("POST", path, urlencode({**token, **fields}))

    def sign_in(self, email: str) -> None:
        """As somebody made by `person`."""
        reply = self.post("/login", form_from="/login", email=email, password=PASSWORD)
        assert reply.status == 303, f"cannot sign in: {reply.status}"

    def _send(self, method: str, path: str, body: str) -> Page:
        began = time.monotonic()
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)
        try:
            origin = f"http://127.0.0.1:{self._port}"
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
            if method == "POST":
                headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": origin, "Referer": origin}
            line.request(method, path, body.encode() or None, headers)
            reply = line.getresponse()
            text = reply.read().decode(errors="replace")
            for value in reply.msg.get_all("Set-Cookie") or ():
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(value).items()}
            found = {name.lower(): value for name, value in reply.getheaders()}
            return Page(reply.status, found, text, time.monotonic() - began)
        finally:
            line.close()


def person(stage: Stage, role: Role = Role.ADMIN) -> Browser:
    """A new member of the stage's workspace, signed in."""
    email = f"{role.value}-{secrets.token_hex(4)}@faults.example"
    with stage.installation.resources.database.session(writing=True) as session:
        user = User(email=email, password_hash=passwords.hash_password(PASSWORD), is_owner=True)
        session.add(user)
        session.flush()
        session.add(Membership(workspace_id=stage.workspace.id, user_id=user.id, role=role))
        session.commit()
    browser = Browser(stage.installation.port)
    browser.sign_in(email)
    return browser


class _Form(HTMLParser):
    """Reads the fields of one form as they stand."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action, self._inside = action, False
        self._select, self._text = "", ""
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = found.get("action", "") == self._action and found.get("method", "") == "post"
        elif self._inside and tag == "input" and found.get("name"):
            chosen = found.get("type") not in ("radio", "checkbox", "submit") or "checked" in found
            if chosen:
                self.fields[found["name"]] = found.get("value", "on")
        elif self._inside and tag in ("select", "textarea"):
            self._select = found.get("name", "") if tag == "select" else ""
            self._text = found.get("name", "") if tag == "textarea" else ""
            self.fields.setdefault(self._text or self._select, "")
        elif self._inside and tag == "option" and self._select and "selected" in found:
            self.fields[self._select] = found.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("select", "textarea"):
            self._select = self._text = ""
        elif tag == "form":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._text:
            self.fields[self._text] += data


def fields_of(page: str, action: str) -> dict[str, str]:
    """What a page's form would send if nothing was typed."""
    form = _Form(action)
    form.feed(page)
    return form.fields


class Watcher:
    """Opens pages again and again in a thread of its own, and counts what comes."""

    def __init__(self, browser: Browser, *paths: str, pause: float = 0.1) -> None:
        """`paths` in turn."""
        self._browser, self._paths, self._pause = browser, paths, pause
        self.statuses: Counter[str] = Counter()
        self.slowest = 0.0
        self.missing_retry_after = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def bad(self) -> int:
        """Answers of 500 and above, and connections that broke off."""
        return sum(count for status, count in self.statuses.items() if not status.isdigit() or int(status) >= 500)

    def _go_on(self) -> None:
        place = 0
        while not self._ended.wait(self._pause):
            try:
                page = self._browser.get(self._paths[place % len(self._paths)])
            except (OSError, http.client.HTTPException) as problem:
                self.statuses[type(problem).__name__] += 1
            else:
                self.statuses[str(page.status)] += 1
                self.slowest = max(self.slowest, page.seconds)
                self.missing_retry_after += page.status == 503 and "retry-after" not in page.headers
            place += 1

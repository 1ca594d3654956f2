"""What holds for every request and response: host, size, browser id, headers. Knows no page."""

from __future__ import annotations

import hashlib
import secrets
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, g, redirect, request
from werkzeug.wrappers import Response as AnyResponse

from blueprints import web

LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})
OPEN_TO_ANY_SITE = frozenset({"authorization.callback"})
OPEN_TO_ANY_HOST = frozenset({"health.healthz", "health.readyz", "health.metrics"})
MOST_FIELDS = 200
BROWSER_DAYS = 400

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; object-src 'none'; "
    "frame-ancestors 'none'"
)


def init_app(app: Flask) -> None:
    """Put the guards before and after every request."""
    app.before_request(check_host)
    app.before_request(check_origin)
    app.before_request(check_size)
    app.after_request(add_headers)


def check_host() -> AnyResponse | None:
    """Serve the public host only; other local names lead to it, anything else is refused (AC-05)."""
    public = urlsplit(web.resources().settings.public_url)
    if request.host == public.netloc or request.endpoint in OPEN_TO_ANY_HOST:
        return None
    name = request.host.rpartition(":")[0] or request.host
    if name in LOCAL_NAMES and public.hostname in ("127.0.0.1", "localhost", "::1") and request.method == "GET":
        return redirect(f"{public.scheme}://{public.netloc}{request.full_path.rstrip('?')}", 307)
    return abort(400, "This portal is not served under that host name.")


def check_origin() -> None:
    """Refuse changes that another site asks for, besides the form's token (WB-01); old browsers send no Origin."""
    if request.method in web.SAFE_METHODS or request.endpoint in OPEN_TO_ANY_SITE:
        return
    public = urlsplit(web.resources().settings.public_url)
    ours = f"{public.scheme}://{public.netloc}"
    if request.headers.get("Sec-Fetch-Site") == "cross-site" or request.headers.get("Origin", ours) != ours:
        abort(403)


def check_size() -> None:
    """Refuse forms with more fields than any page of ours has (WB-05)."""
    if request.method not in web.SAFE_METHODS and sum(map(len, request.form.listvalues())) > MOST_FIELDS:
        abort(413)


def add_headers(response: Response) -> Response:
    """Security headers on everything, errors and static files included; a page may set stricter ones before."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", CSP)
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "same-origin")
    headers.setdefault("Cross-Origin-Opener-Policy", "same-origin-allow-popups")
    headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
    if "frame-ancestors 'none'" in headers["Content-Security-Policy"]:
        headers.setdefault("X-Frame-Options", "DENY")
    if web.resources().settings.is_https:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
    if request.endpoint != "static":
        headers.setdefault("Cache-Control", "no-store")
    return response


def browser_id() -> str:
    """The browser's random id from its cookie, made when it has none; see `keep_browser_id`."""
    if "browser_id" not in g:
        g.browser_id = request.cookies.get(browser_cookie()) or secrets.token_urlsafe(32)
    return str(g.browser_id)


def browser_hash() -> str:
    """What an attempt keeps of the browser's id: SHA-256 in hex."""
    return hashlib.sha256(browser_id().encode()).hexdigest()


def keep_browser_id(response: AnyResponse) -> AnyResponse:
    """Set the browser-id cookie on a response that starts an attempt."""
    response.set_cookie(
        browser_cookie(),
        browser_id(),
        max_age=BROWSER_DAYS * 86400,
        secure=bool(current_app.config["SESSION_COOKIE_SECURE"]),
        httponly=True,
        samesite="Lax",
    )
    return response


def browser_cookie() -> str:
    """Name of the browser-id cookie, prefixed under https."""
    return f"{'__Host-' if web.resources().settings.is_https else ''}cardkey_browser"

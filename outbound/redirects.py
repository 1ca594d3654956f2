"""What travels along when a redirect is followed. Sends nothing."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urljoin, urlsplit

from outbound.addresses import Policy, check_url, origin
from outbound.failures import BadAddress, RedirectRefused

FOLLOWED = frozenset({301, 302, 303, 307, 308})
MOST = 3
HARMLESS_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent"})
"""All that another origin gets to see: any other header may hold a secret."""


def target_of(url: str, location: str, policy: Policy) -> str:
    """Where a redirect from `url` leads, checked like any address. Raises BadAddress, Blocked, RedirectRefused."""
    host = urlsplit(url).hostname or ""
    try:
        target = urljoin(url, location)
    except ValueError:
        raise BadAddress(host, f"{host} redirects to something that is no address.") from None
    check_url(target, policy)
    if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
        raise RedirectRefused(host, "A redirect from https to http was not followed.")
    return target


def next_request(
    method: str, headers: Mapping[str, str], body: bytes | None, status: int, url: str, target: str
) -> tuple[str, Mapping[str, str], bytes | None]:
    """Method, headers and body of the next hop (RFC 9110 §15.4); neither body nor secrets reach another origin."""
    elsewhere = (urlsplit(url).scheme, origin(url)) != (urlsplit(target).scheme, origin(target))
    if elsewhere:
        headers = {name: value for name, value in headers.items() if name.lower() in HARMLESS_HEADERS}
    if status in (307, 308):
        if body is not None and elsewhere:
            raise RedirectRefused(urlsplit(url).hostname or "", "A redirect would send the request's body elsewhere.")
        return method, headers, body
    headers = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return ("HEAD" if method == "HEAD" else "GET"), headers, None

"""Who answered the authorization request (RFC 9207): the defence against mix-up that a fixed redirect URL has."""

from __future__ import annotations


def wrong_issuer(expected: str, received: str | None) -> str:
    """Why the `iss` of an authorization response is refused, in words; empty when it is not.

    An issuer that is configured is announced: then a missing `iss` stops the flow like a wrong one
    (§2.4). Compared as strings, exactly (RFC 3986 §6.2.1). Without a configured issuer nothing is known.
    """
    if not expected:
        return ""
    if received is None:
        return "The answer does not say which authorization server it comes from, though this connection expects that."
    if received != expected:
        return "The answer comes from another authorization server than the one this connection names as Issuer."
    return ""

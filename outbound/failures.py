"""How a request to the outside world can fail, sorted by what it means for whoever asked."""

from __future__ import annotations

from outbound.calls import Reply


class OutboundFailure(Exception):
    """Base. The message is for a person and holds a host name at most, never a path, query or secret."""

    maybe_sent = False
    """Whether the other side may have acted on the request."""
    arrived: Reply | None = None
    """The beginning of a reply that did not arrive whole."""

    def __init__(self, host: str, message: str, *, maybe_sent: bool | None = None) -> None:
        """`host` as typed; `message` a plain sentence."""
        super().__init__(message)
        self.host = host
        if maybe_sent is not None:
            self.maybe_sent = maybe_sent


class BadRequest(OutboundFailure):
    """The request itself is unusable; the message says what to change."""


class BadAddress(BadRequest):
    """The URL is unusable."""


class Blocked(OutboundFailure):
    """The address is internal or special and no operator allowed it."""


class Unreachable(OutboundFailure):
    """No connection, no such name, or the connection broke."""


class CertificateProblem(OutboundFailure):
    """The server could not prove that it is who it should be."""


class Timeout(OutboundFailure):
    """Not finished within the deadline of the whole call."""

    maybe_sent = True


class TooLarge(OutboundFailure):
    """More bytes than the limit, after decompression."""

    maybe_sent = True


class RedirectRefused(OutboundFailure):
    """A redirect that may not be followed."""

    maybe_sent = True

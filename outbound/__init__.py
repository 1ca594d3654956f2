"""The one guarded way out: every request to the outside world goes through `Client`.

Knows nothing of OAuth, Flask or SQL.
"""

from outbound.addresses import Policy, check_url, origin
from outbound.calls import Limits, Reply
from outbound.client import Client
from outbound.failures import (
    BadAddress,
    BadRequest,
    Blocked,
    CertificateProblem,
    OutboundFailure,
    RedirectRefused,
    Timeout,
    TooLarge,
    Unreachable,
)
from outbound.headers import BadHeader, check_header

__all__ = [
    "BadAddress",
    "BadHeader",
    "BadRequest",
    "Blocked",
    "CertificateProblem",
    "Client",
    "Limits",
    "OutboundFailure",
    "Policy",
    "RedirectRefused",
    "Reply",
    "Timeout",
    "TooLarge",
    "Unreachable",
    "check_header",
    "check_url",
    "origin",
]

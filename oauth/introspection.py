"""Reading an introspection reply (RFC 7662 §2.2): only how long an access token lives is of interest here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime

from pydantic import SecretStr

from oauth import lifetime, reply
from oauth.explanation import excerpt
from oauth.scrub import Hidden
from oauth.vocabulary import FailureClass, OAuthFailure

STEP = "introspection"
INACTIVE = (
    "The introspection endpoint says that the token is not active. Some answer so where this client may not ask about "
    "the token."
)
SILENT = "The introspection endpoint knows the token and does not say when it ends."
NOT_USABLE = "The introspection endpoint's reply is not one that RFC 7662 describes."


def seconds_left(
    status: int, headers: Mapping[str, str], body: bytes, *, received_at: datetime, secrets: Iterable[SecretStr | None]
) -> float:
    """Seconds from `received_at` to the token's end. Raises OAuthFailure for everything that does not say."""
    hidden = tuple(secrets)
    if not 200 <= status < 300:
        raise reply.refusal(status, headers, body, received_at=received_at, secrets=hidden, step=STEP)
    try:
        claims = json.loads(body)
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict) or not isinstance(claims.get("active"), bool):
        said = excerpt(body.decode("utf-8", "replace"), Hidden(hidden), status)
        raise OAuthFailure(STEP, FailureClass.REPLY_UNUSABLE, NOT_USABLE, status=status, provider_said=said)
    if not claims["active"]:
        raise OAuthFailure(STEP, FailureClass.REPLY_UNUSABLE, INACTIVE, status=status, code="inactive")
    left = lifetime.of_claims(claims, received_at.timestamp())
    if left is None:
        raise OAuthFailure(STEP, FailureClass.REPLY_UNUSABLE, SILENT, status=status, code="no_exp")
    return left

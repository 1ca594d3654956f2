"""Authlib's protocol client on top of `outbound`: what the Flask client and the workers both use."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from authlib.oauth2.client import OAuth2Client
from pydantic import SecretStr

import outbound
from oauth import introspection, reply
from oauth.client_auth import AUTHENTICATORS, Proof, form, proofs
from oauth.grants import GRANTS, extra
from oauth.vocabulary import ClientAuthMethod, FailureClass, OAuthFailure, Registration, TokenReply
from outbound import Limits

HEADERS = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}
NEITHER = "The connection's other client secret was tried as well, and is not accepted either."
SENT_SECRETS = frozenset({"refresh_token", "code", "code_verifier", "token"})
SECRET_PARAM = re.compile(r"(?i)(token|secret|passw(or)?d|passphrase|assertion|credential|signature|key|pin|otp)s?$")
"""Extra parameters by which some providers want a secret of their own."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Answer:
    """What came of a request."""

    reply: outbound.Reply
    secrets: list[SecretStr | None]
    """What its words must not repeat."""
    broken: OAuthFailure | None = None
    """Why only the beginning of the reply arrived."""


class TokenClient(OAuth2Client):
    """One registration's client: Authlib authenticates it, `outbound` sends, `oauth.reply` reads the answer."""

    def __init__(
        self,
        http: outbound.Client,
        registration: Registration,
        limits: Limits,
        *,
        step: str,
        worked: ClientAuthMethod | None = None,
        client_id: str | None = None,
        client_secret: str | None = None,
        **metadata: Any,
    ) -> None:
        """`worked` is the client authentication that worked last; Authlib's own arguments pass through."""
        secret = registration.client_secret
        super().__init__(
            session=None,
            client_id=registration.client_id,
            client_secret=secret.get_secret_value() if secret else "",
            code_challenge_method="S256" if registration.pkce else None,
            **metadata,
        )
        self.headers: dict[str, str] = {}
        self._http, self._registration, self._limits = http, registration, limits
        self._step, self._worked = step, worked
        for method, authenticate in AUTHENTICATORS.items():
            self.register_client_auth_method((method.value, authenticate))

    def __enter__(self) -> TokenClient:
        """Authlib's Flask client uses its client in a `with`; there is nothing to open."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing to close: connections belong to `outbound`."""

    async def obtain(self, params: Mapping[str, str]) -> TokenReply:
        """A token for `params` (`grant_type` included), trying client authentication as configured.

        Raises OAuthFailure. Only `invalid_client` leads to another method or secret: any other answer is final.
        """
        return await self._negotiate(lambda proof: self._obtain(params, proof))

    async def revoke(self, token: SecretStr, hint: str) -> None:
        """Tell the provider to forget `token` (RFC 7009). Raises OAuthFailure."""
        params = {"token": token.get_secret_value(), "token_type_hint": hint}
        await self._negotiate(lambda proof: self._revoke(params, proof))

    async def introspect(self, token: SecretStr) -> float:
        """Seconds left of an access token, as the provider knows it (RFC 7662). Raises OAuthFailure."""
        params = {"token": token.get_secret_value(), "token_type_hint": "access_token"}
        return await self._negotiate(lambda proof: self._introspect(params, proof))

    def fetch_token(self, url: str | None = None, **params: Any) -> dict[str, Any]:
        """Authlib's entry for the callback; the reply travels under `reply`."""
        own = {"grant_type": "authorization_code", "redirect_uri": self.redirect_uri, **params}
        own.pop("state", None)
        given = {name: value for name, value in own.items() if value}
        return {"reply": self._http.run(self.obtain({**extra(self._registration.token_params), **given}))}

    async def _negotiate(self, attempt: Callable[[Proof], Awaitable[T]]) -> T:
        """The first proof's answer, or the next one's as long as the client is not recognised.

        All of them together have the time of one request: the lease they are sent under is made for that.
        """
        refused: OAuthFailure | None = None
        until = time.monotonic() + self._limits.deadline
        for proof in proofs(self._registration, self._worked):
            try:
                return await attempt(proof)
            except OAuthFailure as failure:
                if failure.failure_class is not FailureClass.CLIENT_BAD or failure.code == "unauthorized_client":
                    raise
                refused = refused or failure
                left = max(0.0, round(until - time.monotonic(), 1))
                self._limits = replace(self._limits, deadline=left, connect=min(left, self._limits.connect))
        assert refused is not None
        raise refused.saying(NEITHER) if self._registration.other_secret else refused

    async def _obtain(self, params: Mapping[str, str], proof: Proof) -> TokenReply:
        parsed = self._parse(params, await self._ask(self._registration.token_endpoint, params, proof))
        return replace(parsed, auth_method=proof.method, client_secret_id=proof.secret_id)

    def _parse(self, params: Mapping[str, str], answer: _Answer) -> TokenReply:
        """The token in a reply, or in what arrived of it: if a new refresh token is there, nothing is in doubt."""
        try:
            return reply.parse(
                answer.reply.status,
                answer.reply.headers,
                answer.reply.body,
                received_at=datetime.now(UTC),
                secrets=answer.secrets,
                step=self._step,
                unit=self._registration.expires_in_unit,
                mapping=self._registration.reply_mapping,
                renews=GRANTS[self._registration.grant_type].needs_person,
                broken_off=answer.broken is not None,
            )
        except OAuthFailure as failure:
            if answer.broken is None:
                raise
            raise failure.saying(str(answer.broken)) if failure.brings_refresh_token else answer.broken from None

    async def _revoke(self, params: Mapping[str, str], proof: Proof) -> None:
        answer, secrets = await self._post(self._registration.revocation_endpoint, params, proof)
        if not 200 <= answer.status < 300:
            raise reply.refusal(
                answer.status,
                answer.headers,
                answer.body,
                received_at=datetime.now(UTC),
                secrets=secrets,
                step=self._step,
            )

    async def _introspect(self, params: Mapping[str, str], proof: Proof) -> float:
        answer, secrets = await self._post(self._registration.introspection_endpoint, params, proof)
        return introspection.seconds_left(
            answer.status, answer.headers, answer.body, received_at=datetime.now(UTC), secrets=secrets
        )

    async def _post(
        self, endpoint: str, params: Mapping[str, str], proof: Proof
    ) -> tuple[outbound.Reply, list[SecretStr | None]]:
        """The answer, and what its words must not repeat."""
        answer = await self._ask(endpoint, params, proof)
        if answer.broken is not None:
            raise answer.broken
        return answer.reply, answer.secrets

    async def _ask(self, endpoint: str, params: Mapping[str, str], proof: Proof) -> _Answer:
        """The answer, or what arrived of it."""
        self.client_secret = proof.secret.get_secret_value() if proof.secret else ""
        authentication = self.client_auth(proof.method.value)
        url, headers, body = authentication.prepare("POST", endpoint, dict(HEADERS), form(params))
        secrets = [self._registration.client_secret, self._registration.other_secret]
        sent = (value for name, value in params.items() if name in SENT_SECRETS or SECRET_PARAM.search(name))
        secrets += [SecretStr(value) for value in sent]
        if "Authorization" in headers:
            secrets.append(SecretStr(headers["Authorization"].removeprefix("Basic ")))
        try:
            answer = await self._http.send("POST", url, headers=headers, body=body.encode(), limits=self._limits)
        except outbound.OutboundFailure as failure:
            broken = OAuthFailure(self._step, sort(failure), str(failure))
            if failure.arrived is None:
                raise broken from None
            return _Answer(failure.arrived, secrets, broken)
        return _Answer(answer, secrets)


async def request_token(
    http: outbound.Client,
    registration: Registration,
    params: Mapping[str, str],
    *,
    limits: Limits,
    step: str,
    auth_method: ClientAuthMethod | None = None,
) -> TokenReply:
    """A token for `params`, on the loop of `http`; `auth_method` worked last. Raises OAuthFailure."""
    return await TokenClient(http, registration, limits, step=step, worked=auth_method).obtain(params)


def sort(failure: outbound.OutboundFailure) -> FailureClass:
    """The class of a failure below the protocol; whatever may have arrived is unknown, not failed."""
    if isinstance(failure, outbound.CertificateProblem):
        return FailureClass.CERTIFICATE
    if isinstance(failure, outbound.BadRequest | outbound.Blocked):
        return FailureClass.LOCAL
    return FailureClass.UNKNOWN if failure.maybe_sent else FailureClass.PROVIDER_DOWN

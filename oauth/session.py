"""Authlib's protocol client on top of `outbound`: what the Flask client and the workers both use."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from authlib.oauth2.client import OAuth2Client
from pydantic import SecretStr

import outbound
from oauth import reply
from oauth.client_auth import AUTHENTICATORS, candidates
from oauth.vocabulary import ClientAuthMethod, FailureClass, GrantType, OAuthFailure, Registration, TokenReply
from outbound import Limits

HEADERS = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}


class TokenClient(OAuth2Client):
    """One registration's client: Authlib builds the request, `outbound` sends it, `oauth.reply` reads the answer."""

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

        Raises OAuthFailure. Only `invalid_client` leads to another method: any other answer is final.
        """
        refused: OAuthFailure | None = None
        for method in candidates(self._registration, self._worked):
            try:
                return await self._obtain(params, method)
            except OAuthFailure as failure:
                if failure.failure_class is not FailureClass.CLIENT_BAD or failure.code == "unauthorized_client":
                    raise
                refused = refused or failure
        assert refused is not None
        raise refused

    def fetch_token(self, url: str | None = None, **params: Any) -> dict[str, Any]:
        """Authlib's entry for the callback; the reply travels under `reply`."""
        params = {**self._registration.token_params, "grant_type": "authorization_code", **params}
        params.pop("state", None)
        return {"reply": self._http.run(self.obtain(params))}

    async def _obtain(self, params: Mapping[str, str], method: ClientAuthMethod) -> TokenReply:
        rest = {name: value for name, value in params.items() if name != "grant_type"}
        body = self._prepare_token_endpoint_body("", params["grant_type"], **rest)
        endpoint = self._registration.token_endpoint
        url, headers, body = self.client_auth(method.value).prepare("POST", endpoint, dict(HEADERS), body)
        answer = await self._send(url, headers, body)
        parsed = reply.parse(
            answer.status,
            answer.headers,
            answer.body,
            received_at=datetime.now(UTC),
            secrets=self._secrets(params),
            step=self._step,
            renewable=self._registration.grant_type is GrantType.CLIENT_CREDENTIALS or "refresh_token" in params,
        )
        return TokenReply(**{**parsed.__dict__, "auth_method": method})

    async def revoke(self, token: SecretStr, hint: str) -> None:
        """Tell the provider to forget `token` (RFC 7009). Raises OAuthFailure."""
        method = next(candidates(self._registration, self._worked))
        body = self._prepare_token_endpoint_body("", "", token=token.get_secret_value(), token_type_hint=hint)
        endpoint = self._registration.revocation_endpoint
        url, headers, body = self.client_auth(method.value).prepare("POST", endpoint, dict(HEADERS), body)
        answer = await self._send(url, headers, body)
        if answer.status >= 400:
            raise OAuthFailure(
                self._step,
                FailureClass.PROVIDER_DOWN if answer.status >= 500 else FailureClass.REQUEST_BAD,
                f"The revocation endpoint answered with status {answer.status}.",
                status=answer.status,
            )

    async def _send(self, url: str, headers: dict[str, str], body: str) -> outbound.Reply:
        try:
            return await self._http.send("POST", url, headers=headers, body=body.encode(), limits=self._limits)
        except outbound.OutboundFailure as failure:
            raise OAuthFailure(self._step, sort(failure), str(failure)) from None

    def _secrets(self, params: Mapping[str, str]) -> list[SecretStr | None]:
        """What the provider might echo and nobody should read."""
        sent = (params.get(name) for name in ("refresh_token", "code", "code_verifier"))
        return [self._registration.client_secret, *(SecretStr(value) for value in sent if value)]


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
    if isinstance(failure, outbound.BadAddress | outbound.Blocked):
        return FailureClass.LOCAL
    if isinstance(failure, outbound.TooLarge):
        return FailureClass.REPLY_UNUSABLE
    return FailureClass.UNKNOWN if failure.maybe_sent else FailureClass.PROVIDER_DOWN

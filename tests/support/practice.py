"""A client of the rehearsal provider as it stands in the RFCs, without Cardkey: consent, code, token, API."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request

from tests.support import flow

REDIRECT = "http://127.0.0.1:9/auth/provider/callback"
SECRET = "practice-secret-code"


def authorize(provider, **params):
    """The callback's parameters; the provider has to agree at once."""
    asked = {
        "response_type": "code",
        "client_id": "rehearsal-code",
        "redirect_uri": REDIRECT,
        "scope": "orders.read",
        "state": "the state",
        **params,
    }
    return flow.query(flow.agree(f"{provider.url}/authorize?{urllib.parse.urlencode(asked)}"))


def token(provider, *, secret=SECRET, client_id="rehearsal-code", path="/token", **form):
    """Status and reply of a token request, or one to revoke, with Basic authentication."""
    pair = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
    status, text = ask(f"{provider.url}{path}", form, Authorization=f"Basic {pair}")
    return status, json.loads(text)


def exchange(provider, code, **form):
    """The same with a code."""
    return token(provider, grant_type="authorization_code", code=code, **{"redirect_uri": REDIRECT, **form})


def refresh(provider, refresh_token):
    """The same with a refresh token."""
    return token(provider, grant_type="refresh_token", refresh_token=refresh_token)


def orders(provider, access_token):
    """The status with which the API answers to a token."""
    return ask(f"{provider.url}/api/orders?email=ada@example.com", Authorization=f"Bearer {access_token}")[0]


def ask(address, form=None, **headers):
    """Status and text of any address."""
    body = urllib.parse.urlencode(form).encode() if form else None
    try:
        reply = urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=5)
    except urllib.error.HTTPError as error:
        reply = error
    with reply:
        return reply.status, reply.read().decode()

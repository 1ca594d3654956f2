"""Flask's test client, at the portal's own address and able to send its forms."""

import secrets
from urllib.parse import urlsplit

from flask.testing import FlaskClient
from itsdangerous import URLSafeTimedSerializer


class Client(FlaskClient):
    """A browser without a screen: cookies are kept, forms carry their token."""

    @property
    def public_url(self) -> str:
        """Address of the portal."""
        return self.application.extensions["cardkey"].settings.public_url

    def open(self, *args, **kwargs):
        """Any request; a path alone is one of the portal's."""
        if args and isinstance(args[0], str) and args[0].startswith("/"):
            kwargs.setdefault("base_url", self.public_url)
        return super().open(*args, **kwargs)

    def session_transaction(self, *args, **kwargs):
        """The session cookie of the portal's host."""
        kwargs.setdefault("base_url", self.public_url)
        return super().session_transaction(*args, **kwargs)

    def csrf(self) -> str:
        """A form token that fits the session."""
        with self.session_transaction() as session:
            value = session.setdefault("csrf_token", secrets.token_hex(20))
        return URLSafeTimedSerializer(self.application.secret_key, salt="wtf-csrf-token").dumps(value)

    def post_form(self, url, data=None, **kwargs):
        """Send a form of the portal's own page."""
        kwargs.setdefault("headers", {})
        kwargs["headers"] = {"Referer": f"{self.public_url}/", **kwargs["headers"]}
        return self.post(url, data={"csrf_token": self.csrf(), **(data or {})}, **kwargs)

    def sign_in(self, token: str) -> "Client":
        """Carry a session token, as the sign-in page would have set it."""
        with self.session_transaction() as session:
            session.permanent = True
            session["_user_id"], session["_fresh"] = token, True
        return self


def path_of(location: str) -> str:
    """Path and query of a redirect, whichever way it was written."""
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path

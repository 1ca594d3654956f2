"""The rehearsal provider, served for real on a port of its own."""

import json
import secrets
import threading
from contextlib import contextmanager
from urllib.request import Request, urlopen

from werkzeug.serving import make_server

from rehearsal.app import create_app
from rehearsal.state import AUDIENCE, CLIENTS, SCOPES, State, digest


class RemoteProvider:
    """A provider in another process, through its control endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def address(self) -> str:
        """`host:port`, as settings allow it and connections name it."""
        return self.url.removeprefix("http://")

    def control(self, **wishes) -> dict:
        """Change how it behaves, as its control endpoint offers; returns how it stands."""
        request = Request(f"{self.url}/control", json.dumps(wishes).encode(), {"Content-Type": "application/json"})
        with urlopen(request, timeout=10) as response:
            return json.load(response)

    @property
    def counts(self) -> dict[str, int]:
        """How often what happened."""
        return self.control()["counts"]

    def hits(self, grant_type: str = "refresh_token") -> int:
        """Token requests of one grant, whatever became of them."""
        return self.counts.get(f"token_{grant_type}", 0)


class Telling(State):
    """A state that tells tests every token it has issued; it keeps only by what to recognise them."""

    def __init__(self, issuer: str) -> None:
        super().__init__(issuer)
        self.issued: list[str] = []

    def issue(self, *args, **kwargs):
        """As ever."""
        reply = super().issue(*args, **kwargs)
        self.issued += [str(reply[name]) for name in ("access_token", "refresh_token") if name in reply]
        return reply


class Provider(RemoteProvider):
    """One in this process. Its tokens are strict: a refresh token works once, a second use kills its family."""

    def __init__(self, url: str, state: Telling) -> None:
        super().__init__(url)
        self.state = state

    @property
    def counts(self) -> dict[str, int]:
        """How often what happened."""
        with self.state.lock:
            return dict(self.state.counts)

    def consent(self, client_id: str = "rehearsal-code", scope: str = "orders.read") -> tuple[str, str]:
        """An access and a refresh token as if somebody had just agreed."""
        with self.state.change():
            reply = self.state.issue(client_id, scope, "sam@rehearsal.example", secrets.token_hex(8), "", True)
        return str(reply["access_token"]), str(reply["refresh_token"])

    def alive(self, access_token: str) -> bool:
        """Whether its API would take the token."""
        return self.state.alive(self.state.access.get(digest(access_token)))


@contextmanager
def serve():
    """A provider that ends with the context."""
    state = Telling("")
    server = make_server("127.0.0.1", 0, create_app(state), threaded=True)
    server.daemon_threads = True
    state.issuer = f"http://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Provider(state.issuer, state)
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


def reset(provider: RemoteProvider, lifetime: float = 3600) -> None:
    """As it was at the start; `lifetime` of its access tokens in seconds."""
    provider.control(reset=True, lifetime=lifetime, auto_consent=False)


__all__ = ["AUDIENCE", "CLIENTS", "SCOPES", "Provider", "RemoteProvider", "reset", "serve"]

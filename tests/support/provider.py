"""The rehearsal provider, served for real on a port of its own."""

import json
import secrets
import threading
from contextlib import contextmanager
from urllib.request import Request, urlopen

from werkzeug.serving import make_server

from rehearsal.app import create_app
from rehearsal.state import AUDIENCE, CLIENTS, SCOPES, State


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


class Provider(RemoteProvider):
    """One in this process. Its tokens are strict: a refresh token works once, a second use kills its family."""

    def __init__(self, url: str, state: State) -> None:
        super().__init__(url)
        self.state = state

    @property
    def counts(self) -> dict[str, int]:
        """How often what happened."""
        with self.state.lock:
            return dict(self.state.counts)

    def consent(self, client_id: str = "rehearsal-code", scope: str = "orders.read") -> tuple[str, str]:
        """An access and a refresh token as if somebody had just agreed."""
        with self.state.lock:
            reply = self.state.issue(client_id, scope, "sam@rehearsal.example", secrets.token_hex(8), "", True)
        return str(reply["access_token"]), str(reply["refresh_token"])

    def alive(self, access_token: str) -> bool:
        """Whether its API would take the token."""
        return self.state.alive(self.state.access.get(access_token))


@contextmanager
def serve():
    """A provider that ends with the context."""
    state = State("")
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

"""`python -m rehearsal`: serve until interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType

from werkzeug.serving import WSGIRequestHandler, make_server

from rehearsal.app import create_app
from rehearsal.shelves import Store, Unreadable, set_aside
from rehearsal.state import State


class Handler(WSGIRequestHandler):
    """One plain line a request, without its query: that holds codes and states."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Method, path, status."""
        print(f"{self.command} {self.path.partition('?')[0]} {code}", flush=True)


def main() -> None:
    """Read the options, serve, stop at once on SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal", description="A practice authorization server and API.")
    parser.add_argument("--host", default="localhost", help="name people use for it (default: localhost)")
    parser.add_argument("--port", type=int, default=8001)
    lifetime = os.environ.get("CARDKEY_REHEARSAL_LIFETIME")
    parser.add_argument("--lifetime", type=float, default=lifetime, help="seconds an access token lives")
    parser.add_argument("--auto-consent", action="store_true", help="sign the first person in and agree at once")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="remember there what a restart must not forget")
    options = parser.parse_args()
    try:
        state = _remember(f"http://{options.host}:{options.port}", options.keep)
    except (OSError, sqlite3.Error) as problem:
        sys.exit(f"The rehearsal provider does not start: {options.keep} cannot be used ({problem}).")
    state.auto_consent = options.auto_consent
    if options.lifetime is not None:
        with state.change():
            state.lifetime = options.lifetime
    try:
        server = make_server("127.0.0.1", options.port, create_app(state), threaded=True, request_handler=Handler)
    except (OSError, SystemExit):
        sys.exit(f"The rehearsal provider does not start: port {options.port} is in use.")
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    print(f"The rehearsal provider answers on {state.issuer}", flush=True)
    server.serve_forever()


def _remember(issuer: str, path: Path | None) -> State:
    """What the last one knew; nothing, and said aloud, where that cannot be read. Raises OSError, sqlite3.Error."""
    try:
        return State(issuer, Store(path))
    except Unreadable as problem:
        assert path is not None, "what is in memory alone can be read"
        print(
            f"What the rehearsal provider remembered cannot be read ({problem}), so it begins anew. The file is now "
            f"{set_aside(path)}. Its connections need a new authorization.",
            flush=True,
        )
    return State(issuer, Store(path))


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()

"""`python -m rehearsal`: serve until interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import FrameType

from werkzeug.serving import WSGIRequestHandler, make_server

from rehearsal.app import create_app
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
    lifetime = float(os.environ.get("CARDKEY_REHEARSAL_LIFETIME", "3600"))
    parser.add_argument("--lifetime", type=float, default=lifetime, help="seconds an access token lives")
    parser.add_argument("--auto-consent", action="store_true", help="sign the first person in and agree at once")
    options = parser.parse_args()
    state = State(f"http://{options.host}:{options.port}", options.lifetime, auto_consent=options.auto_consent)
    try:
        server = make_server("127.0.0.1", options.port, create_app(state), threaded=True, request_handler=Handler)
    except (OSError, SystemExit):
        sys.exit(f"The rehearsal provider does not start: port {options.port} is in use.")
    signal.signal(signal.SIGTERM, _leave)
    signal.signal(signal.SIGINT, _leave)
    print(f"The rehearsal provider answers on {state.issuer}", flush=True)
    server.serve_forever()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    os._exit(0)


if __name__ == "__main__":
    main()

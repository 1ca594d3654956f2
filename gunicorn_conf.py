"""How gunicorn serves the portal: `gunicorn --config gunicorn_conf.py "app:create_app()"`."""

from __future__ import annotations

import re
import sys
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger

import logs
from config import SettingsProblem, load  # gunicorn would take a name `config` for its own setting

try:
    settings = load()
except SettingsProblem as problem:
    sys.exit(f"Cardkey does not start: {problem}")

logs.configure(settings.log_level)

bind = f"127.0.0.1:{settings.port}"
worker_class = "gthread"
threads = 16
"""A preview keeps a thread for as long as the card's API takes."""
limit_request_line = 8190
"""Providers' codes may be long: a callback with the longest we take has to fit (gunicorn's own limit is 4094)."""
timeout = 60
graceful_timeout = 10
control_socket_disable = True
secure_scheme_headers: dict[str, str] = {}
"""Whom to believe about https is CARDKEY_TRUSTED_PROXIES' business alone."""
forwarder_headers = ""
"""No header says which path was asked for: gunicorn would believe one that comes from this machine."""
accesslog = "-"
access_log_format = "%(m)s %(U)s %(s)s %(B)s bytes %(M)s ms"
"""Without the query, which may hold a code or a state, and without the referrer, which may hold the same."""

PROBES = frozenset({"/healthz", "/readyz", "/metrics"})
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOOKS_SECRET = re.compile(r"[A-Za-z0-9_-]{32,}")


class RedactingLogger(Logger):
    """Sends gunicorn's words the way of all others, and stars link tokens, which stand in the path."""

    def setup(self, cfg: Config) -> None:
        """Drop gunicorn's own handlers in favour of the root logger's."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers[:] = []
            logger.propagate = True

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        """Log a request, unless it is a probe that found all well."""
        if environ.get("PATH_INFO") not in PROBES or not str(resp.status).startswith("200"):
            super().access(resp, req, environ, request_time)

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        """What the access log's format may name."""
        found: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return found | {"U": redacted(str(environ.get("PATH_INFO", "")))}


def redacted(path: str) -> str:
    """`path` with every long random part starred; ids of rows are no secret and stay."""
    parts = path.split("/")
    return "/".join("***" if LOOKS_SECRET.fullmatch(part) and not UUID.fullmatch(part) else part for part in parts)


logger_class = RedactingLogger

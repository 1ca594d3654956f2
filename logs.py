"""Logging: one escaped line an event, structured, with everything secret starred whatever its level.

Knows nothing of what is logged; imports nothing of ours.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any

import structlog

SECRET_NAMES = re.compile(
    r"secret|token|password|authorization|cookie|verifier|assertion|api[_-]?key|\bcode\b|\bstate\b", re.IGNORECASE
)
HARMLESS_NAMES = frozenset({"token_id", "token_endpoint", "refresh_token_fingerprint", "state_shown", "status_code"})
SECRET_IN_TEXT = re.compile(
    r"(?i)((?:access_token|refresh_token|client_secret|client_assertion|code_verifier|password|code|state|token)"
    r"[\"']?\s*[=:]\s*[\"']?)([^\s&\"',}]+)"
    r"|((?:bearer|basic)\s+)([A-Za-z0-9._~+/=-]{8,})"
)
TALKATIVE = ("authlib", "aiohttp", "asyncio", "rq", "redis", "sqlalchemy", "urllib3", "werkzeug", "flask_limiter")


def configure(level: str) -> None:
    """Send every logger of the process through the redacting formatter to standard error.

    Libraries that print secrets at DEBUG (Authlib its verifier, RQ its arguments) speak from WARNING on.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                structlog.processors.JSONRenderer(ensure_ascii=True),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def redact(_logger: object, _method: str, event: Any) -> Any:
    """Star values whose name or shape says secret. JSON rendering escapes line breaks and control characters."""
    return {name: _clean(name, value) for name, value in event.items()}


def _clean(name: str, value: Any) -> Any:
    if name.startswith("_"):
        return value
    if name not in HARMLESS_NAMES and SECRET_NAMES.search(name):
        return "***"
    if isinstance(value, str):
        return SECRET_IN_TEXT.sub(lambda match: f"{match[1] or match[3]}***", value)
    if isinstance(value, dict):
        return {key: _clean(str(key), item) for key, item in value.items()}
    if isinstance(value, int | float | bool | None):
        return value
    return SECRET_IN_TEXT.sub(lambda match: f"{match[1] or match[3]}***", str(value))


def get(name: str) -> Any:
    """The logger of one module."""
    return structlog.stdlib.get_logger(name)

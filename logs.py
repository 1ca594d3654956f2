"""Logging: one escaped line an event, structured, with everything secret starred whatever its level.

Knows nothing of what is logged; imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import structlog

STARS = "***"
DEEPEST = 8
SECRET_NAMES = re.compile(
    r"secret|token|password|passwd|authorization|cookie|verifier|assertion|credential|private|api[_-]?key|access[_-]?key"
    r"|encryption[_-]?key|signature|^key$|(^|oauth_|auth_)(code|state)$",
    re.IGNORECASE,
)
HARMLESS_NAMES = frozenset({"token_id", "token_endpoint", "token_type", "refresh_token_fingerprint"})

# Names that may mean other things (`exit code: 3`) count only where they look like part of a form or of JSON.
SECRET_IN_TEXT = re.compile(
    r"""(?ix)
    (?P<form> (?: (?<![a-z0-9_-]) | (?<=%3F) | (?<=%26) ) (?: code|state|key|token ) (?: = | %3D )
        | ["'] (?: code|state|key|token ) ["'] \s* : \s* (?=["']) ) ["']? [^\s&"'<>,;%)}\]]+
    | (?P<name> (?: access|refresh|id|bearer|csrf|session ) [_-]? token | secret | client_assertion | code_?verifier
        | passw(?:or)?d | api[_-]?key )
        (?P<sign> ["']? \s* (?: = | : | %3D ) \s* )
        (?: "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' | ["']? [^\s&"'<>,;)}\]]+ )
    | (?P<header> (?: cookie2? | authorization ) ["']? \s* [:=] \s* ) [^\r\n]+
    | (?P<scheme> \b (?: bearer|basic ) (?: \s | %20 | \+ )+ ) [a-z0-9._~+/=%-]{6,}
    | (?P<login> :// [^\s/@:]* : ) [^\s/@]+ (?=@)
    | (?P<jwt> (?<![a-z0-9_-]) ey [a-z0-9_-]{6,} \. ) [a-z0-9_-]+ \. [a-z0-9_-]*
    """
)
TALKATIVE = (
    "aiohttp",
    "alembic",
    "asyncio",
    "authlib",
    "flask_limiter",
    "redis",
    "rq",
    "sqlalchemy",
    "urllib3",
    "werkzeug",
)


class Handler(logging.StreamHandler):  # type: ignore[type-arg]  # the class is not generic at run time before 3.11
    """Writes to standard error; a record that cannot be written leaves its name only, never its arguments."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the library's name
        """Say so in one line. The default prints the arguments, which may be secret.

        Where nothing can be written (a full disk, a closed pipe) the line is lost: work goes on without its log.
        """
        reason = type(sys.exc_info()[1]).__name__
        with contextlib.suppress(OSError, ValueError):
            self.stream.write(
                f'{{"event": "a log record could not be written", "logger": "{record.name!a}: {reason}"}}\n'
            )


def configure(level: str) -> None:
    """Send every logger, warning and uncaught exception through the redacting formatter to standard error.

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
    root = logging.getLogger()
    root.handlers[:] = [_handler(shared)]
    root.setLevel(level)
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _handler(shared: list[Any]) -> Handler:
    """Writes every record, ours and the libraries', as one redacted line of JSON."""
    handler = Handler(sys.stderr)
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
    return handler


def redact(_logger: object, _method: str, event: Any) -> Any:
    """Star values whose name or shape says secret. JSON rendering escapes line breaks and control characters."""
    return {name: _clean(str(name), value, 0) for name, value in event.items()}


def redact_text(text: str) -> str:
    """`text` with whatever looks like a secret starred."""
    return SECRET_IN_TEXT.sub(_starred, text)


def _clean(name: str, value: Any, depth: int) -> Any:
    if name.startswith("_") and depth == 0:
        return value
    if name not in HARMLESS_NAMES and SECRET_NAMES.search(name):
        return STARS
    if isinstance(value, int | float | None):
        return value
    if depth > DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        named = ((_text(key), item) for key, item in value.items())
        return {redact_text(name): _clean(name, item, depth + 1) for name, item in named}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(*_named(item), depth + 1) for item in value]
    return redact_text(_text(value))


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def _named(item: Any) -> tuple[str, Any]:
    """An item of a list with the name it goes by: headers and form fields often come as pairs."""
    is_pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
    return (item[0], item) if is_pair else ("", item)


def _starred(match: re.Match[str]) -> str:
    kept = match["form"] or match["header"] or match["scheme"] or match["login"] or match["jwt"]
    return f"{kept or match['name'] + match['sign']}{STARS}"


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """What nobody caught, as a log line: the interpreter would print it unstarred."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("cardkey").critical("uncaught", exc_info=(kind, error or kind(), trace))


def get(name: str) -> Any:
    """The logger of one module."""
    return structlog.stdlib.get_logger(name)

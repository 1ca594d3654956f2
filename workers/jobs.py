"""The closed list of what a job may do, and the check that a job in Redis is one of it.

Whoever can write to Redis can write jobs (QW-01): of a job nothing is believed but its name.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping

from services.engine import tokens
from services.resources import Resources
from workers.queue import DRAIN

Stopping = Callable[[], bool]

LARGEST = 1024
"""Bytes of a job's call when unpacked; ours has about forty."""
PLAIN_FIELDS = frozenset(
    "created_at data started_at ended_at last_heartbeat worker_name origin description enqueued_at timeout "
    "result_ttl failure_ttl ttl status".split()
)
"""What RQ notes down about a plain job. Anything else makes it do something: callbacks, webhooks, dependencies…"""


class Forged(Exception):
    """Not a job of ours; the message says what is wrong with it, without quoting it."""


def drain(resources: Resources, stopping: Stopping) -> None:
    """Refresh what is due until nothing is, the time is up, or the process is to end."""
    tokens.drain(resources, resources.settings.drain_time, stopping=stopping)


CALLABLES: Mapping[str, Callable[[Resources, Stopping], None]] = {DRAIN: drain}


def name_of(stored: Mapping[bytes, bytes]) -> str:
    """The callable a job's hash in Redis names. Raises Forged for everything we would not have written."""
    for field, value in stored.items():
        name = field.decode("ascii", "replace")
        if value and name not in PLAIN_FIELDS:
            raise Forged(f"it carries the field {name[:40]}")
    call = _unpacked(stored.get(b"data", b""))
    if not isinstance(call, list) or len(call) != 4 or not isinstance(call[0], str):
        raise Forged("its call does not have the form of one")
    if call[0] not in CALLABLES:
        raise Forged("it names a callable that is not in the list")
    if call[1:] != [None, [], {}]:
        raise Forged("it brings arguments")
    return call[0]


def _unpacked(data: bytes) -> object:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, LARGEST)
        if unpacker.unconsumed_tail:
            raise Forged("its call is too large")
        return json.loads(text.decode())
    except (zlib.error, ValueError, RecursionError):
        raise Forged("its call is not JSON") from None

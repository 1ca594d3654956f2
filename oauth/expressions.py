"""JMESPath as an admin may write it: where in a JSON value something stands. Evaluated without ever raising.

Only what reads is allowed. What builds new values could be told to build huge ones, and the values come from
providers (docs/adr/0028).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.visitor import Options

LONGEST = 300
MOST_PARTS = 40
"""Each may go over the whole reply: forty of them take about a second for the largest that is read."""
READS = frozenset(
    "and_expression comparator current field filter_projection flatten function_expression identity index "
    "index_expression literal not_expression or_expression pipe projection slice subexpression value_projection".split()
)
FUNCTIONS = frozenset("contains ends_with keys length not_null starts_with to_number to_string type values".split())
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPTIONS = Options()


def problem(text: str) -> str:
    """Why an expression cannot be used, in a plain sentence; empty when it can."""
    if len(text) > LONGEST:
        return f"Use at most {LONGEST} characters."
    try:
        parts = list(_parts(jmespath.compile(text).parsed))
    except (JMESPathError, RecursionError):
        return "This is no JMESPath that can be read. Names are joined by dots, as in data.token."
    if len(parts) > MOST_PARTS:
        return "This goes over the reply too often. Point at the place more directly."
    strange = next(filter(None, parts), "")
    return f"It may only point at something in the reply; {strange} does more." if strange else ""


def find(text: str, document: Any) -> Any:
    """What `text` points at in a JSON value; None for nothing, and for an expression that cannot be used."""
    if problem(text):
        return None
    try:
        return jmespath.search(text, document, _OPTIONS)
    except (JMESPathError, ValueError, TypeError, OverflowError, RecursionError):
        return None  # such as a comparison of a word with a number


def member(path: str, name: str | int) -> str:
    """The path of a field or entry of what stands at `path`; the root's is empty."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    quoted = name if PLAIN.fullmatch(name) else json.dumps(name)
    return f"{path}.{quoted}" if path else quoted


def _parts(node: Mapping[str, Any]) -> Iterator[str]:
    """Of each part of a parsed expression: its name if it is not allowed, else nothing."""
    if node["type"] == "function_expression":
        yield "" if node["value"] in FUNCTIONS else f"{node['value']}()"
    else:
        yield "" if node["type"] in READS else str(node["type"]).replace("_", " ")
    for child in node["children"]:
        if isinstance(child, Mapping):
            yield from _parts(child)

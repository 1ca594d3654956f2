"""A JSON reply as a tree to be unfolded, cut where it would be too much to read. Holds no HTML."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MOST_CHARACTERS = 64 * 1024
MOST_NODES = 1000
DEEPEST = 12
LONGEST_VALUE = 2000
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Node:
    """A value of the reply. `kind` is object, array, string, number or word; `name` is None at the root."""

    name: str | None
    path: str
    """How a template addresses the value."""
    kind: str
    text: str
    """A value as JSON, or how much an object or array holds."""
    children: tuple[Node, ...] = ()
    left_out: int = 0
    """Children not shown."""


@dataclass(frozen=True)
class Tree:
    """The root, and what to say about what is missing; empty when nothing is."""

    root: Node
    note: str


def tree(data: object) -> Tree:
    """The tree of a JSON value that is at most `call_replies.DEEPEST` levels deep."""
    budget = _Budget()
    root = budget.node(None, "data", data, DEEPEST)
    missing = _count(data) - budget.nodes
    words = []
    if missing > 0:
        words.append(f"{missing:,} more values are left out here.")
    if budget.cut > 0:
        words.append(f"Long texts are shortened by {budget.cut:,} characters.")
    if words:
        words.append("The template still gets the whole reply.")
    return Tree(root, " ".join(words))


class _Budget:
    """How much may still be shown, and how much was."""

    def __init__(self) -> None:
        self.nodes = 0
        self.cut = 0
        self.characters = MOST_CHARACTERS

    def node(self, name: str | None, path: str, value: object, levels: int) -> Node:
        """One value with what fits of its children."""
        self.nodes += 1
        label = None if name is None else self._cut(name)
        self.characters -= len(label or "")
        if isinstance(value, dict):
            members = ((key, _member(path, key), item) for key, item in value.items())
            return self._branch(label, path, "object", value, list(members), levels)
        if isinstance(value, list):
            members = ((str(place), f"{path}[{place}]", item) for place, item in enumerate(value))
            return self._branch(label, path, "array", value, list(members), levels)
        return self._leaf(label, path, value)

    def _branch(
        self,
        name: str | None,
        path: str,
        kind: str,
        value: dict[str, object] | list[object],
        members: list[tuple[str, str, object]],
        levels: int,
    ) -> Node:
        children: list[Node] = []
        for key, where, item in members if levels else ():
            if self.nodes >= MOST_NODES or self.characters <= 0:
                break
            children.append(self.node(key, where, item, levels - 1))
        one, many = ("value", "values") if kind == "object" else ("entry", "entries")
        text = f"{len(value):,} {one if len(value) == 1 else many}"
        return Node(name, path, kind, text, tuple(children), len(members) - len(children))

    def _leaf(self, name: str | None, path: str, value: object) -> Node:
        is_text = isinstance(value, str)
        text = json.dumps(self._cut(value) if isinstance(value, str) else value, ensure_ascii=False)
        self.characters -= len(text)
        kind = "string" if is_text else "word" if value is None or isinstance(value, bool) else "number"
        return Node(name, path, kind, text)

    def _cut(self, text: str) -> str:
        if len(text) <= LONGEST_VALUE:
            return text
        self.cut += len(text) - LONGEST_VALUE
        return f"{text[:LONGEST_VALUE]}…"


def _member(path: str, name: str) -> str:
    """`orders[0].item`; what stands at the root of the reply is addressed by its name alone."""
    if PLAIN_NAME.fullmatch(name):
        return name if path == "data" else f"{path}.{name}"
    return f"{path}[{json.dumps(name[:100], ensure_ascii=False)}]"


def _count(value: object) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(_count(child) for child in children)

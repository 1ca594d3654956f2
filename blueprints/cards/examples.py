"""Ready-made values for a newcomer's first card: data in `examples.toml`, the address from the settings."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import SecretStr

FILE = Path(__file__).with_name("examples.toml")


@dataclass(frozen=True)
class Example:
    """A card and its connection, to be looked at and saved."""

    words: str
    card: dict[str, Any]
    connection: dict[str, Any]


def offered(base: str) -> dict[str, Example]:
    """The examples by name; none where no rehearsal provider runs (`base` is empty)."""
    if not base:
        return {}
    content = _read()
    names = [name for name in content if name != "template"]
    return {name: _example(content[name], content["template"]["content"], base) for name in names}


def _example(entry: dict[str, Any], template: str, base: str) -> Example:
    connection = {name: value.replace("{base}", base) for name, value in entry["connection"].items()}
    connection["client_secret"] = SecretStr(connection["client_secret"])
    card = {
        "title": entry["title"],
        "hook_url": entry["hook_url"].replace("{base}", base),
        "template_content": template.strip(),
        "authorization": "oauth",
    }
    return Example(entry["words"], card, connection)


@cache
def _read() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))

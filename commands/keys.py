"""`flask keys …`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from flask.cli import AppGroup

from commands.console import Report, reporting
from services.operating import keys
from services.operating.keys import Damage
from services.resources import Resources

group = AppGroup("keys", help="The keys of stored secrets.")

SHOWN = 20
"""Damaged rows named on the screen; `--json` has them all."""


@group.command("new")
@reporting
def new(_resources: Resources) -> Report:
    """Print a fresh key; put it first in CARDKEY_ENCRYPTION_KEYS of every process, restart them, then rotate."""
    key = keys.new_key()
    return Report(key, {"key": key})


@group.command("rotate")
@reporting
def rotate(resources: Resources) -> Report:
    """Move every stored secret to the first key, while everything runs; may be stopped and run again."""
    done = keys.rotate(resources)
    lines = [f"{done.moved} secrets were moved to the key {done.key_id}."]
    if done.left:
        lines.append(f"{done.left} rows were being written all the time. Run flask keys rotate again.")
    lines += _damage(done.damaged)
    data = {"key": done.key_id, "moved": done.moved, "left": done.left, "damaged": _as_data(done.damaged)}
    return Report("\n".join(lines), data, ok=not done.left and not done.damaged)


@group.command("check")
@reporting
def check(resources: Resources) -> Report:
    """Decrypt every stored secret once and count them by key."""
    found = keys.check(resources)
    lines = [f"{count} secrets need the key {key_id}." for key_id, count in sorted(found.by_key.items())]
    lines += [f"No secret needs the key {key_id}; it can be taken out." for key_id in found.spare]
    lines += _damage(found.damaged)
    data = {
        "current": found.current_id,
        "by_key": dict(found.by_key),
        "spare": found.spare,
        "damaged": _as_data(found.damaged),
    }
    return Report("\n".join(lines or ["No secret is stored."]), data, ok=not found.damaged)


def _damage(damaged: Sequence[Damage]) -> list[str]:
    lines = [f"{row.table} {row.row_id}, {row.field}: {row.reason}." for row in damaged[:SHOWN]]
    if len(damaged) > SHOWN:
        lines.append(f"… and {len(damaged) - SHOWN} more; --json names them all.")
    if damaged:
        lines.append(f"{len(damaged)} secrets cannot be decrypted. Put back the missing key, or enter them anew.")
    return lines


def _as_data(damaged: Sequence[Damage]) -> list[dict[str, object]]:
    return [asdict(row) for row in damaged]

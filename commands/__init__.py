"""The operator's commands: parse, call a service, print. Attached to Flask's own command line."""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    """Attach every command."""

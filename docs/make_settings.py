"""Writes docs/settings.md from the docstrings in config.py: `python docs/make_settings.py`, from the checkout."""

from __future__ import annotations

import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from pydantic import SecretStr  # noqa: E402  # after the path it is found on

from config import Settings  # noqa: E402

HEADING = """# Settings

Cardkey reads its settings from environment variables and from nowhere else. `make run` needs none of them;
an installation of your own needs `CARDKEY_PUBLIC_URL`, `CARDKEY_SECRET_KEY`, `CARDKEY_ENCRYPTION_KEYS`,
`CARDKEY_DATABASE_URL` and `CARDKEY_REDIS_URL`. A missing or weak key refuses to start and says why.

Times are seconds, sizes are bytes. This page is made from `config.py`:
`.venv/bin/python docs/make_settings.py` writes it anew, and a test holds it to the code.

| Setting | Default | What it does |
| --- | --- | --- |
"""


def page() -> str:
    """The whole page."""
    return HEADING + "".join(
        f"| `CARDKEY_{name.upper()}` | {_shown(field.default)} | {_words(field.description)} |\n"
        for name, field in Settings.model_fields.items()
    )


def _shown(default: object) -> str:
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{value}`" if str(value) else "none"


def _words(description: str | None) -> str:
    return " ".join((description or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    (CHECKOUT / "docs" / "settings.md").write_text(page(), encoding="utf-8")

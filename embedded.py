"""What `make run` provides where the operator has set nothing: a data directory, keys, Redis, the local address.

Standard library only, since it is needed before anything is installed. Reads what is kept, and makes it
when asked to; starts no process.
"""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

DEFAULT_PORT = 8000
KEY_FILES = {"CARDKEY_SECRET_KEY": "secret_key", "CARDKEY_ENCRYPTION_KEYS": "encryption_keys"}
LONGEST_SOCKET_PATH = 103
"""Bytes a unix socket's path may have on every system we run on (macOS: 104 with its end mark)."""


class Unusable(Exception):
    """Something on this machine stands in the way; the message is one plain sentence with the next step."""


def data_dir(environ: Mapping[str, str]) -> Path:
    """The data directory, absolute."""
    return Path(environ.get("CARDKEY_DATA_DIR") or "var").absolute()


def port(environ: Mapping[str, str]) -> int:
    """The portal's port; the one after it is the rehearsal provider's. Raises Unusable."""
    text = environ.get("CARDKEY_PORT") or str(DEFAULT_PORT)
    if not text.isdecimal() or not 1 <= int(text) <= 65534:
        raise Unusable(f"CARDKEY_PORT must be a number from 1 to 65534, not {text[:20]!r}.")
    return int(text)


def prepare(folder: Path) -> None:
    """Make the data directory, closed to others, and see that it can be written to. Raises Unusable."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        for name in ("keys", "redis"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as problem:
        raise Unusable(
            f"The data directory {folder} cannot be written to ({problem.strerror}). "
            "Change its permissions, or choose another one with CARDKEY_DATA_DIR."
        ) from None


def make_keys(folder: Path) -> None:
    """Make the keys that are not there yet, readable by nobody else; what is there stays as it is. Raises Unusable."""
    keys = {
        "secret_key": secrets.token_urlsafe(48),
        "encryption_keys": f"k1:{base64.b64encode(secrets.token_bytes(32)).decode()}",
    }
    try:
        for name, value in keys.items():
            _write_once(folder / "keys" / name, value)
    except OSError as problem:
        raise Unusable(f"The keys cannot be written to {folder / 'keys'} ({problem.strerror}).") from None


def additions(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables the embedded default adds to those the operator has set: keys, Redis, public address.

    Only what is there counts: without a data directory made by `make run` no key appears.
    Raises Unusable.
    """
    folder = data_dir(environ)
    found = {"CARDKEY_PUBLIC_URL": f"http://127.0.0.1:{port(environ)}"}
    try:
        for variable, name in KEY_FILES.items():
            if (folder / "keys" / name).is_file():
                found[variable] = (folder / "keys" / name).read_text().strip()
        socket = socket_path(folder)
        if socket.is_socket():
            found["CARDKEY_REDIS_URL"] = redis_url(socket)
    except OSError as problem:
        raise Unusable(f"What is kept in {folder} cannot be read ({problem.strerror}).") from None
    return {name: value for name, value in found.items() if not environ.get(name)}


def for_commands(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The same as settings' fields, for Flask's command line only: elsewhere a missing key is an error.

    `flask users add …` typed beside a running `make run` then speaks of that installation.
    """
    if environ.get("FLASK_RUN_FROM_CLI") != "true":
        return {}
    return {name.removeprefix("CARDKEY_").lower(): value for name, value in additions(environ).items()}


def socket_path(folder: Path) -> Path:
    """Where the embedded Redis listens: in the data directory, or in a short place when that lies too deep."""
    path = folder / "redis" / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"cardkey-{os.getuid()}-{mark}" / "redis.sock"


def redis_url(socket: Path) -> str:
    """The address of a Redis server on a unix socket."""
    return f"unix://{quote(str(socket))}"


def _write_once(path: Path, value: str) -> None:
    """Create `path` complete or not at all: moved into place after it was written and synced."""
    if path.exists():
        path.chmod(0o600)
        return
    handle, name = tempfile.mkstemp(dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

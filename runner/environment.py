"""`python3 runner/environment.py run|test`: the virtual environment with what `make run` or `make test` needs.

Runs before anything is installed, on the Python found by the Makefile, as a file and not as a module.
Asks nobody when nothing has changed, so that the second start is offline.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
NEEDS = {"run": ("requirements.txt",), "test": ("requirements.txt", "requirements-dev.txt")}
OLDEST, NEWEST = (3, 11), (3, 14)


class Unusable(Exception):
    """Something on this machine stands in the way; the message is one plain sentence with the next step."""


def main(purpose: str) -> None:
    """Make or mend the environment. Raises Unusable."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise Unusable(f"Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} is needed; this is {_version()}.")
    if not _fits(VENV):
        _make()
    for name in NEEDS[purpose]:
        stamp = VENV / f".installed-{name}"
        wanted = _digest(ROOT / name)
        if not stamp.is_file() or stamp.read_text() != wanted:
            _install(ROOT / name)
            stamp.write_text(wanted)


def _fits(folder: Path) -> bool:
    """Whether the environment is there, works, and is of a version that can be used."""
    try:
        question = [str(folder / "bin" / "python"), "-c", "import sys, pip; print(*sys.version_info[:2])"]
        answer = subprocess.run(question, capture_output=True, text=True, check=False)
    except OSError:
        return False
    numbers = tuple(int(part) for part in answer.stdout.split()) if answer.returncode == 0 else ()
    return OLDEST <= numbers <= NEWEST


def _make() -> None:
    print(f"Making the virtual environment in {VENV} with Python {_version()} …", flush=True)
    try:
        import ensurepip  # noqa: F401, PLC0415  # Debian leaves it out of Python's own package

        venv.EnvBuilder(with_pip=True, clear=True, symlinks=True).create(VENV)
    except ImportError:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise Unusable(f"Python's venv module is missing. Install it, on Debian with: apt install {package}") from None
    except (OSError, subprocess.CalledProcessError) as problem:
        raise Unusable(f"The virtual environment cannot be made in {VENV}: {problem}") from None


def _install(requirements: Path) -> None:
    print(f"Installing what stands in {requirements.name}; this is done once …", flush=True)
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    options = ["--require-hashes", "--only-binary", ":all:", "--requirement", str(requirements)]
    if subprocess.run([*pip, *options], check=False).returncode:
        raise Unusable(
            f"What stands in {requirements.name} could not be installed; the reason stands above. "
            "The first start needs a package index (PyPI or a mirror); start again when it can be reached."
        )


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _version() -> str:
    return ".".join(str(number) for number in sys.version_info[:3])


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except Unusable as problem:
        sys.exit(f"Cardkey does not start: {problem}")

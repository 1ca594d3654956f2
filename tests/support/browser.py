"""A Chromium for the tests: found on this machine, or fetched. `python -m tests.support.browser` prints its path."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--no-pings",
    "--disable-features=OptimizationHints,MediaRouter,Translate",
)
"""Nothing but the pages under test is to be asked for anything."""
MISSING = (
    "The browser tests need Chromium, and none could be found or fetched. Install the package chromium "
    "(on Debian and Ubuntu: apt install chromium), or name a Chrome or Chromium in CHROMIUM_PATH."
)
FETCH_SECONDS = 300
AXE = Path(__file__).with_name("axe.min.js")
AXE_RUN = """async (context) => {
    const runOnly = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const result = await axe.run(context || document, {runOnly});
    const places = (found) => found.nodes.map((node) => node.target.join(" ")).join(", ");
    return result.violations.map((found) => `${found.id}: ${found.help} (${places(found)})`);
}"""


class NoBrowser(Exception):
    """There is no Chromium; the message is one plain sentence naming the package."""


@functools.cache
def find() -> str:
    """Path of a Chromium: CHROMIUM_PATH, the system's, Playwright's own, else one that is fetched now.

    Raises NoBrowser.
    """
    named = os.environ.get("CHROMIUM_PATH", "")
    if named:
        if not os.access(named, os.X_OK):
            raise NoBrowser(f"CHROMIUM_PATH names {named}, which is not a program that can be started.")
        return named
    for look in (_on_the_system, _of_playwright, _fetched_by_playwright, _fetched_by_the_system):
        found = look()
        if found:
            return found
    raise NoBrowser(MISSING)


def launch_options() -> dict:
    """What Playwright needs to start it. Raises NoBrowser."""
    as_root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    return {"executable_path": find(), "args": [*QUIET, *as_root]}


def axe(page, within: str | None = None) -> list[str]:
    """What axe-core finds wrong on the page, or in the element `within` (a CSS selector): a line for each finding."""
    page.evaluate(f"() => {{ if (!window.axe) {{ {AXE.read_text()}\n }} }}")
    return page.evaluate(AXE_RUN, within)


def _on_the_system() -> str | None:
    return next(filter(None, map(shutil.which, (*NAMES, *MAC))), None)


def _of_playwright() -> str | None:
    """Where Playwright would keep its own, asked in a process: its synchronous face may be in use in this one."""
    ask = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    answer = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    path = answer.stdout.strip()
    return path if path and Path(path).exists() else None


def _fetched_by_playwright() -> str | None:
    _fetch([sys.executable, "-m", "playwright", "install", "chromium"])
    return _of_playwright()


def _fetched_by_the_system() -> str | None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("apt-get"):
        return None
    _fetch(["apt-get", "update", "--quiet"])
    _fetch(["apt-get", "install", "--quiet", "--yes", "--no-install-recommends", "chromium"])
    return _on_the_system()


def _fetch(command: list[str]) -> None:
    """Try; whether it worked is seen by looking for what it was to bring."""
    try:
        subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=FETCH_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"{command[0]} took too long and was stopped.", file=sys.stderr)  # noqa: T201  # seen by who waits


if __name__ == "__main__":
    try:
        print(find())  # noqa: T201  # this is what it is asked for
    except NoBrowser as problem:
        sys.exit(str(problem))

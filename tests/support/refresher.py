"""`python -m tests.support.refresher SECONDS`: a process of its own that refreshes what is due, again and again."""

import sys
import time

import config
from services.engine import tokens
from services.resources import Resources


def main() -> None:
    """Settings come from the environment, as for a real worker."""
    resources = Resources.open(config.load())
    until = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until:
        tokens.drain(resources, 1.0)
        time.sleep(resources.settings.tick)
    resources.close()


if __name__ == "__main__":
    main()

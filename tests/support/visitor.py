"""`python -m tests.support.visitor ADDRESS COOKIES`: a portal process that serves one request, and can be killed."""

import sys

import config
from app import build
from services.resources import Resources


def main() -> None:
    """Settings come from the environment, as for a real portal."""
    settings = config.load()
    portal = build(settings, Resources.open(settings))
    reply = portal.test_client(use_cookies=False).get(
        sys.argv[1], base_url=settings.public_url, headers={"Cookie": sys.argv[2]}
    )
    sys.stdout.write(str(reply.status_code))


if __name__ == "__main__":
    main()

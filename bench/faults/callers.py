"""`python -m bench.faults.callers`: a process in which many want the tokens of the same connections at once.

One line of JSON asks: who is wanted, and by how many at once. One line answers: what each of them got.
"""

from __future__ import annotations

import json
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import config
from oauth.vocabulary import OAuthFailure
from services.engine import tokens
from services.errors import NotFound, Refused
from services.resources import Resources

PATIENCE = 60.0


def main() -> None:
    """Answer until the input ends; settings come from the environment, as for the portal."""
    resources = Resources.open(config.load())
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        wanted = [(uuid.UUID(workspace), uuid.UUID(one)) for workspace, one in asked["wanted"]] * asked["callers"]
        barrier = threading.Barrier(len(wanted))
        with ThreadPoolExecutor(len(wanted)) as pool:
            got = list(pool.map(lambda pair, barrier=barrier: _call(resources, barrier, *pair), wanted))
        print(json.dumps(got), flush=True)
    resources.close()


def _call(
    resources: Resources, barrier: threading.Barrier, workspace_id: uuid.UUID, connection_id: uuid.UUID
) -> tuple[str, str]:
    """(connection, the access token or what there was instead)."""
    barrier.wait(PATIENCE)
    try:
        found = tokens.access(resources, workspace_id, connection_id)
    except (OAuthFailure, NotFound, Refused) as problem:
        return str(connection_id), f"{type(problem).__name__}: {problem}"
    return str(connection_id), found.token.get_secret_value()


if __name__ == "__main__":
    main()

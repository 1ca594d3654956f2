"""`python -m tests.support.presser PERSON TIMES EACH`: a web process in which people press Refresh now, all at once.

Presses TIMES for EACH connections chosen anew, in four threads, and prints how many presses marked and joined.
"""

import json
import random
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

from sqlmodel import select

import config
from models import Connection, User
from services.audit import Actor
from services.operating import refreshes
from services.resources import Resources


def main() -> None:
    """Settings come from the environment, as for a real web process."""
    person_id, times, each = uuid.UUID(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resources = Resources.open(config.load())
    with resources.database.session() as session:
        connections = session.exec(select(Connection)).all()
        actor = Actor.person(session.get_one(User, person_id))

    def press(_number: int) -> tuple[int, int]:
        with resources.database.session(writing=True) as session:
            chosen = random.sample(connections, each)
            asked = refreshes.refresh_now(session, resources.settings, chosen, person_id, actor)
            return len(asked.marked), len(asked.joined)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(press, range(times)))
    sys.stdout.write(json.dumps({"marked": sum(one[0] for one in done), "joined": sum(one[1] for one in done)}))
    resources.close()


if __name__ == "__main__":
    main()

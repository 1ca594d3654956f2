"""Doing things at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor

PATIENCE = 20
"""Seconds until threads that wait for each other give up."""


def at_once(count, work):
    """Run `work(number)` in `count` threads that start together; their results or exceptions, in order."""
    barrier = threading.Barrier(count)

    def one(number):
        barrier.wait(PATIENCE)
        try:
            return work(number)
        except Exception as problem:  # noqa: BLE001  # handed to the test, which looks at it
            return problem

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))

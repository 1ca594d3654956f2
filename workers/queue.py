"""The queue: ringing for a worker, and how many rings wait. Redis being away is an answer here, never an error.

A job is a licence to drain what the database says is due. It carries nothing else, so that losing one costs
a tick and reading one tells nothing.
"""

from __future__ import annotations

import functools

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from config import Settings
from services.resources import Resources

NAME = "cardkey"
DRAIN = "workers.jobs.drain"
WAIT_SECONDS = 2.0
"""How long a page or the scheduler waits for Redis."""
WORTH_SECONDS = 60
"""A ring nobody answered in that time is dropped; the next tick rings anew."""


def ring(resources: Resources) -> bool:
    """Ask for a worker, unless a ring is waiting already; False when Redis cannot be reached.

    Not RQ's `unique`: the id of a job that failed stays taken.
    """
    queue = _queue(resources.settings.redis_url)
    if queue is None:
        return False
    try:
        if queue.count == 0:
            queue.enqueue_call(DRAIN, result_ttl=0, ttl=WORTH_SECONDS, failure_ttl=WORTH_SECONDS, description="drain")
    except redis.RedisError:
        return False
    return True


def depth(resources: Resources) -> int | None:
    """Rings waiting; None when Redis cannot be reached."""
    queue = _queue(resources.settings.redis_url)
    if queue is None:
        return None
    try:
        return queue.count
    except redis.RedisError:
        return None


def connect(settings: Settings, *, patience: float = WAIT_SECONDS) -> redis.Redis:
    """A client that waits `patience` seconds for an answer. Raises ValueError for an unusable address.

    One try more, since the first may meet a connection that died in the pool.
    """
    return redis.Redis.from_url(
        settings.redis_url,
        socket_connect_timeout=WAIT_SECONDS,
        socket_timeout=patience,
        retry=Retry(NoBackoff(), 1),
    )


@functools.lru_cache(maxsize=4)
def _queue(redis_url: str) -> Queue | None:
    """The queue, with connections this process keeps; None where no Redis, or nothing like one, is configured."""
    try:
        client = connect(Settings.model_construct(redis_url=redis_url)) if redis_url else None
    except ValueError:
        return None
    return Queue(NAME, connection=client, serializer=JSONSerializer) if client is not None else None

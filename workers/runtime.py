"""The worker process: an RQ worker of the simple kind that takes nothing from Redis but the name of a job.

Event loop, connections and imports outlive the job. What RQ does besides, a stranger in Redis could use:
commands by publish/subscribe, suspension, registries whose clean-up runs callbacks. None of it is switched on.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import redis
from rq import Queue, SimpleWorker, worker_registration
from rq.exceptions import DequeueTimeout, NoSuchJobError
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer

import config
import logs
from services.resources import Resources
from workers import jobs, queue
from workers.asking import Asking
from workers.process import DATABASE_AWAY, Pulse, spare_the_collector, stop_on_signals

log = logs.get(__name__)

POLL_SECONDS = 1
"""How long the worker waits for a ring before it looks whether it is to stop."""
WORKER_SECONDS = 20
"""After how long without a sign RQ's own tools take the worker for dead, give or take a minute."""
FIRST_WAIT, LONGEST_WAIT, WELL_AFTER = 0.25, 2.0, 5.0
"""Seconds before Redis is tried again: at first, at most; and how long it must have been well to start over."""


def main(resources: Resources, stop: threading.Event | None = None) -> None:
    """Work until SIGTERM or SIGINT (or `stop`): finish the requests under way, start none, sign off."""
    if not resources.settings.redis_url:
        raise config.SettingsProblem("CARDKEY_REDIS_URL is not set, and a worker needs the queue in Redis.")
    stop = stop or stop_on_signals()
    spare_the_collector()
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    wait = FIRST_WAIT
    with Pulse(resources, "worker") as pulse, Asking(resources, stop):
        while not stop.is_set():
            started = time.monotonic()
            try:
                Worker(resources, stop.is_set, pulse.moved).serve()
            except redis.RedisError as problem:
                wait = FIRST_WAIT if time.monotonic() - started > WELL_AFTER else wait
                log.warning("redis is away", problem=type(problem).__name__, next_try=wait)
                pulse.moved()
                stop.wait(wait * random.uniform(0.75, 1.25))
                wait = min(LONGEST_WAIT, wait * 2)


class Licence(Job):
    """A job read without believing it: restored from its name alone, with limits that are ours."""

    run: Callable[[], None]

    def restore(self, raw_data: Mapping[bytes, bytes]) -> None:
        """Take the name. Raises jobs.Forged."""
        self._func_name = jobs.name_of(raw_data)
        self._instance, self._args, self._kwargs = None, (), {}
        self.origin, self.description, self.result_ttl = queue.NAME, "drain", 0

    def perform(self) -> None:
        """Do what the worker found under that name."""
        self.run()


class Worker(SimpleWorker):
    """Waits for rings and answers them, one at a time."""

    job_class = Licence

    def __init__(self, resources: Resources, stopping: jobs.Stopping, moved: Callable[[], None] = lambda: None) -> None:
        """Connect. Raises RedisError. `moved` is called whenever the loop comes round."""
        connection = queue.connect(resources.settings, patience=POLL_SECONDS + queue.WAIT_SECONDS)
        super().__init__(
            [Queue(queue.NAME, connection=connection, serializer=JSONSerializer, job_class=Licence)],
            name=f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            connection=connection,
            worker_ttl=WORKER_SECONDS,
            serializer=JSONSerializer,
            log_job_description=False,
            disable_default_exception_handler=True,
        )
        self._resources, self._stopping, self._moved = resources, stopping, moved

    def serve(self) -> None:
        """Work until told to stop. Raises RedisError when Redis goes away, whether idle or at the end of a job."""
        self.register_birth()  # type: ignore[no-untyped-call]  # RQ has no types here
        self._tidy()
        while not self._stopping():
            self._moved()
            self.heartbeat()
            job = self.take()
            if job is not None:
                self.execute_job(job, self.queues[0])
        self.register_death()  # type: ignore[no-untyped-call]  # as above

    def take(self) -> Licence | None:
        """The next job, if one comes in time and is one of ours; anything else is removed.

        Dying between taking and doing loses a ring, and the next tick rings again.
        """
        try:
            _key, stored_id = Queue.lpop([self.queues[0].key], POLL_SECONDS, connection=self.connection)
        except DequeueTimeout:
            return None
        try:
            job = Licence.fetch(stored_id.decode(), connection=self.connection, serializer=JSONSerializer)
        except NoSuchJobError:
            return None
        except (jobs.Forged, ValueError, redis.ResponseError) as problem:
            self._refuse(stored_id, str(problem) if isinstance(problem, jobs.Forged) else "it cannot be read")
            return None
        assert isinstance(job, Licence)
        job.timeout = self._longest
        job.run = partial(jobs.CALLABLES[str(job.func_name)], self._resources, self._stopping)
        return job

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """As RQ does, but what a killed worker leaves behind still ends by itself."""
        super().prepare_job_execution(job)
        self.connection.expire(job.key, self._longest)

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Tell the log, without arguments or values; a database that is away needs no trace."""
        kind, error = exc_info[0], exc_info[1]
        if kind is not None and issubclass(kind, DATABASE_AWAY):
            log.warning("job stopped: the database is away", job=job.func_name, problem=kind.__name__)
        else:
            log.error("job failed", job=job.func_name, exc_info=error)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: Any = None,
        exc_string: str = "",
        execution: Execution | None = None,
    ) -> None:
        """Forget the job; nothing of its failure goes to Redis (QW-02). What was due is rung for again."""
        with self.connection.pipeline() as pipeline:
            self.cleanup_execution(job, pipeline=pipeline, execution=execution)
            pipeline.delete(job.key)
            pipeline.execute()

    @property
    def _longest(self) -> int:
        """Seconds after which a drain is taken to hang: its time, then the last request and its storing."""
        settings = self._resources.settings
        return int(settings.drain_time + settings.token_deadline + settings.lease) + 30

    def _tidy(self) -> None:
        """Remove what killed workers left in RQ's lists. Their jobs were rings: nothing is to be made good."""
        worker_registration.clean_worker_registry(self.queues[0])
        self.connection.zremrangebyscore(self.queues[0].started_job_registry.key, 0, time.time())

    def _refuse(self, stored_id: bytes, reason: str) -> None:
        """An alert, and the job is gone. Somebody else chose its id, so it is shown cut and escaped."""
        log.error("alert: a forged job was refused", job=ascii(stored_id[:40]), reason=reason)
        self.connection.delete(Job.redis_job_namespace_prefix.encode() + stored_id)

"""What a worker takes from Redis, and what it refuses."""

import json
import os
import pickle
import subprocess
import zlib

import pytest
import structlog
from rq import Queue
from rq.serializers import JSONSerializer

from models import Outcome, Refresh
from tests.workers.parts import dump
from workers import jobs, queue, runtime

MARK = "CARDKEY_TEST_MARK"


class Bomb:
    """Unpickled, it would leave a mark in the environment."""

    def __reduce__(self):
        return os.putenv, (MARK, "1")


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    monkeypatch.setattr(runtime, "POLL_SECONDS", 0.05)


@pytest.fixture
def work_off(resources):
    """Let a worker work until the queue is empty."""

    def work():
        empty = [False]
        worker = runtime.Worker(resources, lambda: empty[0])
        take = worker.take

        def take_and_look():
            job = take()
            empty[0] = job is None and worker.queues[0].count == 0
            return job

        worker.take = take_and_look
        worker.serve()

    return work


@pytest.fixture
def logged(monkeypatch):
    """What the worker has logged."""
    capture = structlog.testing.LogCapture()
    monkeypatch.setattr(runtime, "log", structlog.wrap_logger(structlog.PrintLogger(), processors=[capture]))
    return capture.entries


@pytest.fixture
def alerts(logged):
    """Reasons of the alerts so far."""
    return lambda: [entry["reason"] for entry in logged if entry["event"].startswith("alert")]


def stored_job(redis) -> bytes:
    """Key of the one job waiting."""
    (job_id,) = redis.lrange(f"rq:queue:{queue.NAME}", 0, -1)
    return b"rq:job:" + job_id


def ordered(redis, *fields) -> list[bytes]:
    return redis.hmget(stored_job(redis), *fields)


def test_a_ring_makes_a_worker_refresh_what_is_due(resources, world, provider, redis, work_off):
    connection = world.connection()
    before = world.consent(connection)
    world.make_due(connection)
    assert queue.ring(resources)
    work_off()
    assert world.token(connection).generation == before.generation + 1
    assert provider.hits() == 1
    assert [row.outcome for row in world.all(Refresh)] == [Outcome.STORED]


def test_rings_do_not_pile_up(resources, redis):
    assert all(queue.ring(resources) for _ in range(20))
    assert queue.depth(resources) == 1


def test_a_ring_says_nothing_but_its_name_and_does_not_stay(resources, redis):
    queue.ring(resources)
    data, description, result_ttl = ordered(redis, "data", "description", "result_ttl")
    assert json.loads(zlib.decompress(data)) == ["workers.jobs.drain", None, [], {}]
    assert (description, result_ttl) == (b"drain", b"0")
    assert 0 < redis.ttl(stored_job(redis)) <= queue.WORTH_SECONDS


def test_nothing_of_a_finished_job_stays_in_redis(resources, redis, work_off):
    queue.ring(resources)
    work_off()
    assert not list(redis.scan_iter("rq:job:*"))
    assert not list(redis.scan_iter("rq:results:*"))
    assert not list(redis.scan_iter("rq:execution*"))
    assert redis.zcard(f"rq:wip:{queue.NAME}") == 0


def test_a_job_that_names_another_callable_is_refused(resources, redis, work_off, alerts, tmp_path):
    mark = tmp_path / "mark"
    queue.ring(resources)
    call = json.dumps(["os.system", None, [f"touch {mark}"], {}]).encode()
    redis.hset(stored_job(redis), "data", zlib.compress(call))
    work_off()
    assert not mark.exists()
    assert alerts() == ["it names a callable that is not in the list"]
    assert not list(redis.scan_iter("rq:job:*"))


def test_a_pickle_is_never_read(resources, redis, work_off, alerts):
    for data in (zlib.compress(pickle.dumps(Bomb())), pickle.dumps(Bomb())):
        queue.ring(resources)
        redis.hset(stored_job(redis), "data", data)
        work_off()
    seen = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert MARK not in seen
    assert alerts() == ["its call is not JSON"] * 2


@pytest.mark.parametrize("callback", ["success_callback_name", "failure_callback_name", "stopped_callback_name"])
def test_a_job_with_a_callback_is_refused(resources, redis, work_off, alerts, callback, world, provider):
    connection = world.connection()
    world.consent(connection)
    world.make_due(connection)
    queue.ring(resources)
    redis.hset(stored_job(redis), callback, "os.abort")
    work_off()
    assert alerts() == [f"it carries the field {callback}"]
    assert provider.hits() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("webhooks", json.dumps([{"url": "http://127.0.0.1:1/", "job_status": "finished"}])),
        ("dependency_ids", json.dumps(["other"])),
        ("dependency_id", "other"),
        ("repeats_left", "5"),
        ("retries_left", "5"),
        ("meta", '{"a": 1}'),
        ("rate_limit_key", "k"),
        ("result", pickle.dumps(Bomb())),
    ],
)
@pytest.mark.sqlite_only
def test_a_job_that_would_do_more_than_drain_is_refused(resources, redis, work_off, alerts, field, value):
    queue.ring(resources)
    redis.hset(stored_job(redis), field, value)
    work_off()
    assert alerts() == [f"it carries the field {field}"]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (["workers.jobs.drain", None, ["x"], {}], "it brings arguments"),
        (["workers.jobs.drain", None, [], {"seconds": 9}], "it brings arguments"),
        (["drain", "os", [], {}], "it names a callable that is not in the list"),
        ({"drain": 1}, "its call does not have the form of one"),
        ([["workers.jobs.drain"], None, [], {}], "its call does not have the form of one"),
        (["x" * 5_000_000], "its call is too large"),
    ],
)
def test_a_call_is_believed_only_word_for_word(call, reason):
    with pytest.raises(jobs.Forged, match=reason):
        jobs.name_of({b"data": zlib.compress(json.dumps(call).encode())})


@pytest.mark.sqlite_only
def test_rubbish_in_the_queue_does_not_stop_the_worker(resources, world, provider, redis, work_off):
    connection = world.connection()
    world.consent(connection)
    world.make_due(connection)
    key = f"rq:queue:{queue.NAME}"
    for rubbish in (b"\xff\xfe", b"", b"no such job", b"a:b:c", b"x" * 10_000, b"a string"):
        redis.rpush(key, rubbish)
    redis.set("rq:job:a string", "not a hash")
    redis.hset("rq:job:hollow", "status", "queued")
    redis.rpush(key, "hollow")
    foreign = Queue(queue.NAME, connection=redis, serializer=JSONSerializer)
    foreign.enqueue_call(queue.DRAIN)
    work_off()
    assert provider.hits() == 1


@pytest.mark.sqlite_only
def test_strangers_cannot_suspend_or_shut_down_a_worker(resources, world, provider, redis, work_off):
    connection = world.connection()
    world.consent(connection)
    world.make_due(connection)
    redis.set("rq:suspended", 1)
    redis.zadd(f"rq:wip:{queue.NAME}", {"abandoned": 1})
    redis.hset("rq:job:abandoned", mapping={"data": b"x", "failure_callback_name": "os.abort"})
    queue.ring(resources)
    work_off()
    assert provider.hits() == 1


@pytest.mark.sqlite_only
def test_a_drain_that_breaks_leaves_no_trace_in_redis_and_the_worker_goes_on(
    resources, redis, work_off, monkeypatch, logged
):

    def broken(*_args):
        raise RuntimeError("canary-in-a-message")

    monkeypatch.setitem(runtime.jobs.CALLABLES, queue.DRAIN, broken)
    queue.ring(resources)
    work_off()
    assert b"canary-in-a-message" not in dump(redis)
    assert not list(redis.scan_iter("rq:job:*"))
    assert [entry["event"] for entry in logged] == ["job failed"]


@pytest.mark.sqlite_only
def test_ringing_without_redis_says_no_and_raises_nothing(settings_for, resources):
    for url in ("", "unix:///nowhere/at/all", "redis://127.0.0.1:1/0", "nonsense"):
        object.__setattr__(resources, "settings", settings_for(redis_url=url))
        assert queue.ring(resources) is False
        assert queue.depth(resources) is None


def test_the_same_job_ten_times_refreshes_once(resources, world, provider, redis, work_off):
    connection = world.connection()
    world.consent(connection)
    world.make_due(connection)
    for _ in range(10):
        Queue(queue.NAME, connection=redis, serializer=JSONSerializer).enqueue_call(queue.DRAIN)
    work_off()
    assert provider.hits() == 1
    assert queue.depth(resources) == 0

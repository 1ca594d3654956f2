"""Nothing secret is ever told to Redis (QW-02): listened to while tokens are refreshed, fail, break and are pressed."""

import base64
import zlib

import pytest

from oauth.vocabulary import GrantType
from tests.workers.parts import dump, journal, monitor, until
from workers import queue

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def settings(settings_for, database_url, valkey):
    return settings_for(redis_url=valkey.url, log_level="DEBUG", retry_first=0.3)


def forms(secret: str) -> list[str]:
    """A secret as it is, and as encodings would hide it. Base64 at each of three offsets, less its uncertain ends."""
    raw = secret.encode()
    shifted = [base64.b64encode(b"x" * shift + raw).decode()[4:-4] for shift in range(3)]
    return [secret, raw.hex(), *shifted]


def test_no_secret_reaches_redis_or_a_log_while_refreshes_succeed_and_fail(
    world, provider, start, valkey, resources, app, keys
):
    import redis as redis_client

    provider.control(lifetime=2)
    good, echoed, bad = world.connection(), world.connection(), world.connection(secret="canary-client-secret")
    machine = world.connection(grant_type=GrantType.CLIENT_CREDENTIALS)
    oscar = world.client(world.oscar)
    with monitor(valkey.url) as told:
        worker, scheduler = start("worker"), start("scheduler")
        for connection in (good, echoed, bad):
            world.consent(connection, lifetime=2)
        world.authorize(machine, lifetime=2, refresh_token=None, access_token="canary-access-token")
        until(lambda: journal(world)["stored"] >= 4)
        provider.control(behaviours={"token": "echo:"})
        until(lambda: journal(world)["failed"] >= 2)
        provider.control(behaviours={})
        oscar.post_form("/operations/refresh", {"connection": [str(machine.id), str(good.id)]})
        oscar.get("/operations")
        queue.ring(resources)
        until(lambda: journal(world)["stored"] >= 5)
        worker.end()
        scheduler.end()
        with redis_client.Redis.from_url(valkey.url) as client:
            stored = dump(client).decode("latin-1")
    with provider.state.lock:
        issued = list(provider.state.issued)
    clients = ["practice-secret-code", "practice-secret-machine"]
    secrets = [*issued, *clients, "canary-client-secret", "canary-access-token", *keys.values()]
    places = {"redis": "\n".join(told), "dump": stored, "worker": worker.log, "scheduler": scheduler.log}
    assert "workers.jobs.drain" in zlib.decompress(redis_job(told)).decode()
    found = [
        (place, secret[:6])
        for secret in secrets
        for form in forms(secret)
        for place, text in places.items()
        if form in text
    ]
    assert len(issued) > 8
    assert found == []


def redis_job(told: list[str]) -> bytes:
    """The call of the first job that was enqueued: shows that what was listened to is the real thing."""
    command = next(one for one in told if one.startswith("HSET rq:job:") and " data " in one)
    return command.partition(" data ")[2].encode("latin-1").decode("unicode_escape").encode("latin-1")

"""A preview is bounded whatever an API or a template does, and nobody else waits for it: EG-06, RN-04."""

import gzip
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from werkzeug.wrappers import Response

from services.calling import preview
from services.calling.call_failures import Problem
from tests.outbound.test_client import MEBIBYTE, resident
from tests.rendering.hostile import BOMBS

pytestmark = pytest.mark.sqlite_only

MOST_MEMORY = 50 * MEBIBYTE
BODIES = {
    "gzip bomb": lambda: Response(gzip.compress(bytes(128 * MEBIBYTE)), headers={"Content-Encoding": "gzip"}),
    "endless": lambda: Response(b"[" + b"1," * 500_000 for _ in range(1_000)),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_reply_without_end_is_cut_off_without_taking_memory(world, resources, stub, stub_address, name):
    """EG-06."""
    reply = BODIES[name]()
    stub.expect_request("/data").respond_with_handler(lambda _request: reply)
    card = world.card(hook_url=f"http://{stub_address}/data")
    before, peak, over = resident(), [0], threading.Event()

    def watch():
        while not over.wait(0.005):
            peak[0] = max(peak[0], resident())

    with ThreadPoolExecutor(1) as pool:
        watching, started = pool.submit(watch), time.monotonic()
        result = preview.run(resources, card.id, world.alice, {})
        took = time.monotonic() - started
        over.set()
        watching.result()
    assert result.failure.failure_class is Problem.TOO_LARGE
    assert took < 16
    assert peak[0] - before < MOST_MEMORY
    assert result.frame_id is None


def test_pages_are_quick_while_a_template_uses_up_what_it_may(app, world, stub, stub_address):
    """RN-04: the bomb goes off in a preview asked for on a page, and everybody else's pages come as ever."""
    stub.expect_request("/data").respond_with_json({"long": "x" * 100_000})
    card = world.card(hook_url=f"http://{stub_address}/data", template_content=BOMBS["joining a range"])
    alice, oscar = world.client(world.alice), world.client(world.oscar)
    oscar.get("/cards")
    times = []
    with ThreadPoolExecutor(1) as pool:
        bomb = pool.submit(alice.post_form, f"/cards/{card.id}/preview")
        while not bomb.done():
            started = time.monotonic()
            assert oscar.get("/cards").status_code == 200
            times.append(time.monotonic() - started)
            time.sleep(0.02)
        answer = bomb.result()
    assert answer.status_code == 200
    assert "was stopped" in answer.text
    assert sorted(times)[len(times) * 95 // 100] < 1

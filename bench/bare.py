"""`python -m bench.bare`: the same HTTP library in a loop that does nothing but the request.

Reads one JSON line a run (`url`, `count`, `concurrency`) and answers with seconds and seconds of CPU.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp

BODY = b"grant_type=refresh_token&refresh_token=bare-bm90IGEgc2VjcmV0&scope="
HEADERS = {
    "Content-Type": "application/x-www-form-urlencoded",
    "Accept": "application/json",
    "Authorization": "Basic YmVuY2g6YmVuY2g=",
}


async def run(session: aiohttp.ClientSession, url: str, count: int, concurrency: int) -> None:
    """So many requests, so many at a time."""
    left = iter(range(count))

    async def go_on() -> None:
        for _ in left:
            async with session.post(url, data=BODY, headers=HEADERS) as response:
                await response.read()

    await asyncio.gather(*(go_on() for _ in range(concurrency)))


async def call(session: aiohttp.ClientSession, url: str, count: int) -> list[float]:
    """So many GETs one after the other; the seconds each took."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        async with session.get(url, headers={"Accept": "application/json"}) as response:
            json.loads(await response.read())
        times.append(time.perf_counter() - began)
    return times


async def main() -> None:
    """Serve runs until standard input ends; connections are kept between them."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60), cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            asked: dict[str, Any] = json.loads(line)
            began, cpu = time.perf_counter(), time.process_time()
            times: list[float] = []
            if asked.pop("calls", False):
                times = await call(session, **asked)
            else:
                await run(session, **asked)
            answer = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu, "times": times}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main())

"""The renderer's own process: forks a limited child for each template. Imports nothing of ours, holds no secret.

Started by `rendering.liquid` with a socket on standard input, over which it receives one socket a
job. A child limits itself and is ended by the kernel, so that nothing has to watch it.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import socket
import sys
from typing import Any

from liquid import Environment
from liquid.exceptions import LiquidError
from liquid.extra.filters import JSON
from liquid.token import TOKEN_EOF, Token

MOST_LOOPS = 20_000
MOST_NAMESPACE = 2_000_000
LENGTH_BYTES = 8


class Shown(dict[str, Any]):
    """A JSON object that reads as JSON when a template prints it whole, and not as Python."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)


class Template(Environment):
    """Liquid without files and with the library's own limits, beneath the kernel's."""

    context_depth_limit = 30
    loop_iteration_limit = MOST_LOOPS
    local_namespace_limit = MOST_NAMESPACE

    def error(self, exc: type[LiquidError] | LiquidError, msg: str | None = None, token: Token | None = None) -> None:
        """As the library does; what broke off at an expression's end is placed where the expression stands."""
        if isinstance(exc, LiquidError) and token is not None and (exc.token is None or exc.token.start_index < 0):
            exc.token = token
        super().error(exc, msg, token)


def main() -> None:
    """Serve jobs until the other end closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=0)
    render(environment(), {"template": "{{ a }}{% for i in b %}{{ i | date: '%d' }}{% endfor %}", "data": {}})
    gc.freeze()
    while True:
        _message, fds, _flags, _address = socket.recv_fds(control, 1, 1)
        if not fds:
            return
        if os.fork() == 0:
            control.close()
            serve(socket.socket(fileno=fds[0]))
        for descriptor in fds:
            os.close(descriptor)


def serve(job: socket.socket) -> None:
    """Render one job and leave, whatever happens."""
    status = 1
    try:
        request = receive(job)
        limit(request["limits"])
        answer = json.dumps(render(environment(), request)).encode()
        job.sendall(len(answer).to_bytes(LENGTH_BYTES, "big") + answer)
        status = 0
    except MemoryError:
        pass  # the parent sees the socket close without an answer and says so
    finally:
        os._exit(status)


def receive(job: socket.socket) -> dict[str, Any]:
    """Read one length-prefixed JSON request."""
    with job.makefile("rb") as stream:
        size = int.from_bytes(stream.read(LENGTH_BYTES), "big")
        request = json.loads(stream.read(size), object_hook=Shown)
    assert isinstance(request, dict)
    return request


def limit(limits: dict[str, float]) -> None:
    """Memory, processor time, files and the wall clock: each ends the process from outside its own code.

    No descriptor can be opened any more, so that nothing in a template could read a file or reach a network.
    For root the kernel does not count processes; a template has no way to start one in any case.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limits["wall"])
    cpu = max(1, int(limits["cpu"]))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
    memory = int(limits["memory"])
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def environment() -> Environment:
    """A Liquid environment: values escaped, no way around it, nothing to load."""
    made = Template(autoescape=True)
    del made.filters["safe"]
    for tag in ("include", "render", "extends"):
        made.tags.pop(tag, None)
    made.add_filter("json", JSON())
    return made


def render(liquid: Environment, request: dict[str, Any]) -> dict[str, Any]:
    """`{"html": …}` or `{"problem": …, "place": [line, column]}`; with `check` the template is only parsed."""
    try:
        template = liquid.from_string(request["template"])
        if request.get("check"):
            return {"html": ""}
        data = request["data"]
        scope = {**data, "data": data} if isinstance(data, dict) else {"data": data}
        return {"html": template.render(**scope)}
    except LiquidError as error:
        return {"problem": words_of(error), "place": place_of(error, request["template"])}
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, OSError) as error:
        return {"problem": f"The template cannot be applied to this reply ({type(error).__name__}).", "place": None}


def words_of(error: LiquidError) -> str:
    """What the library says, with its own terms in words that people use."""
    said = str(error.message if hasattr(error, "message") else error)
    ending = "the end of the template" if _at_the_end(error) else "nothing more"
    for theirs, ours in (("a primitive expression", "a value"), ("expected word", "expected a name")):
        said = said.replace(theirs, ours)
    return said.replace(TOKEN_EOF, ending)[:300]


def place_of(error: LiquidError, template: str) -> tuple[int, int] | None:
    """Line and column of the template at which an error arose, both from 1, if the library knows."""
    source, start = getattr(error.token, "source", None), getattr(error.token, "start_index", None)
    if _at_the_end(error):
        source, start = template, len(template)
    if isinstance(source, str) and isinstance(start, int) and start >= 0:
        return source.count("\n", 0, start) + 1, start - source.rfind("\n", 0, start)
    return None


def _at_the_end(error: LiquidError) -> bool:
    """Whether the template ended where something was still to come."""
    return error.token is not None and error.token.kind == TOKEN_EOF and error.token.start_index < 0


if __name__ == "__main__":
    main()

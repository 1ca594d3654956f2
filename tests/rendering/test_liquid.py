"""Templates are rendered in a child that cannot outgrow its limits, and see the reply and nothing else."""

import contextlib
import itertools
import json
import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rendering.child import environment
from rendering.liquid import Renderer, RenderFailure, RenderLimits
from tests.rendering.hostile import BOMBS, FILTERS, INJECTIONS, TEXTS

PYTHON_TEXT = re.compile(r"<class|<built-in|object at 0x|<function|<bound|<module|__builtins__|Traceback|mappingproxy")
MEMORY = 50 * 1024
SLACK = 1.5
"""Seconds for a machine that has other work to do."""


@pytest.fixture(scope="module")
def renderer():
    made = Renderer()
    made.render("warm", {})
    yield made
    made.close()


def resident_kib() -> int:
    """Memory of this process that is in use now."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_within_three_seconds_and_its_memory_is_not_ours(renderer, name):
    before, started = resident_kib(), time.monotonic()
    try:
        shown = renderer.render(BOMBS[name], {"long": "x" * 100_000})
    except RenderFailure as failure:
        shown = str(failure)
    assert len(shown) <= renderer.limits.output
    assert PYTHON_TEXT.search(shown) is None
    assert time.monotonic() - started < renderer.limits.wall + SLACK
    assert resident_kib() - before < MEMORY
    assert renderer.render("{{ a }}", {"a": 1}) == "1", "the next card is rendered as ever"


@pytest.mark.parametrize("name", ["replacing by itself", "splitting and joining"])
def test_the_worst_bombs_are_stopped_and_say_why(renderer, name):
    with pytest.raises(RenderFailure, match=r"was stopped|longer than"):
        renderer.render(BOMBS[name], {"long": "x" * 100_000})


def test_a_template_that_waits_is_stopped_by_the_clock(tmp_path):
    """Nothing in Liquid waits, so a child that is held up stands for it."""
    renderer = Renderer(RenderLimits(wall=0.5, cpu=5))
    started = time.monotonic()
    with pytest.raises(RenderFailure, match=r"0\.5 seconds"):
        renderer.render("{{ (1..90000000) | join: '' | size }}", {})
    assert time.monotonic() - started < 2
    renderer.close()


def test_other_cards_are_rendered_while_a_bomb_goes_off(renderer):
    with ThreadPoolExecutor(1) as pool:
        bomb = pool.submit(renderer.render, BOMBS["joining a range"], {})
        times = []
        while not bomb.done():
            started = time.monotonic()
            assert renderer.render("{{ a }}", {"a": "x"}) == "x"
            times.append(time.monotonic() - started)
            time.sleep(0.05)
        assert isinstance(bomb.exception(), RenderFailure)
    assert sorted(times)[len(times) // 2] < 0.5


def test_a_bomb_leaves_no_process_behind(renderer):
    with pytest.raises(RenderFailure):
        renderer.render(BOMBS["joining a range"], {})
    deadline = time.monotonic() + 5
    while children_of(renderer._process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert children_of(renderer._process.pid) == []


def test_a_killed_renderer_is_started_again(renderer):
    os.kill(renderer._process.pid, signal.SIGKILL)
    renderer._process.wait()
    assert renderer.render("{{ a }}", {"a": 1}) == "1"


def test_threads_share_a_renderer_and_each_gets_its_own_card(renderer):
    with ThreadPoolExecutor(8) as pool:
        rendered = list(pool.map(lambda place: renderer.render("{{ a }}", {"a": place}), range(40)))
    assert rendered == [str(place) for place in range(40)]


def test_closing_ends_the_process():
    renderer = Renderer()
    renderer.render("x", {})
    process = renderer._process
    renderer.close()
    assert process.poll() is not None


@pytest.mark.parametrize("template", INJECTIONS)
def test_a_template_reaches_no_python(renderer, template):
    try:
        shown = renderer.render(template, {"name": "ada", "list": [{"a": 1}, 2]})
    except RenderFailure as failure:
        shown = str(failure)
    assert PYTHON_TEXT.search(shown) is None
    assert "49" not in shown
    assert "root:" not in shown


def test_a_template_sees_the_reply_and_nothing_else(renderer):
    shown = renderer.render("{{ data | json }}", {"name": "ada"})
    assert shown == "{&#34;name&#34;: &#34;ada&#34;}"


def test_the_renderer_knows_no_setting_and_opens_no_file(renderer):
    """Its environment is its own, and a child has no descriptor left to open anything with."""
    environment = Path(f"/proc/{renderer._process.pid}/environ").read_bytes()
    assert b"CARDKEY" not in environment
    assert sorted(part.split(b"=")[0] for part in environment.strip(b"\0").split(b"\0")) == [
        b"LANG",
        b"PATH",
        b"PYTHONDONTWRITEBYTECODE",
    ]
    with ThreadPoolExecutor(1) as pool:
        bomb = pool.submit(renderer.render, BOMBS["joining a range"], {})
        seen = []
        while not bomb.done():
            for child in children_of(renderer._process.pid):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    seen.append(Path(f"/proc/{child}/limits").read_text())
            time.sleep(0.05)
    seen = [text for text in seen if text]
    limits = dict(re.findall(r"^(Max [a-z ]+?) {2,}(\d+)", seen[-1], re.MULTILINE))
    assert limits["Max open files"] == "0"
    assert limits["Max file size"] == "0"
    assert limits["Max core file size"] == "0"
    assert limits["Max address space"] == str(renderer.limits.memory)
    assert limits["Max cpu time"] == "2"


def shown_by(renderer, how: str, values: list[str]) -> str:
    """Values in a text and in an attribute, directly and by way of a capture; those that a filter refuses left out."""
    template = (
        f"{{% for value in values %}}{{{{ value {how} }}}}{{% assign v = value {how} %}}"
        "{% capture c %}{{ v }}{% endcapture %}{{ c }}{% endfor %}"
    )
    try:
        return renderer.render(template, {"values": values})
    except RenderFailure:
        return "".join(shown_by(renderer, how, [value]) for value in values) if len(values) > 1 else ""


@pytest.mark.parametrize("how", FILTERS)
def test_no_filter_makes_markup_of_a_value(renderer, how):
    shown = shown_by(renderer, how, [text.replace("{run}", "alert(1)") for text in TEXTS])
    assert "script" in shown
    shown = re.sub(r"<br />|<b>", "", shown)  # the template's own, or the filter's
    assert "<" not in shown
    assert '"' not in shown
    assert "'" not in shown


def test_keys_of_the_reply_are_escaped_as_values_are(renderer):
    data = dict.fromkeys(TEXTS, 1)
    shown = renderer.render("{% for pair in data %}{{ pair[0] }}{{ pair }}{% endfor %}{{ data }}", data)
    assert "<" not in shown


@pytest.mark.parametrize("data", [None, 1, "text", True, [], [1, [2]], {}, {"data": 1}, {"a": None}])
def test_any_json_can_be_rendered(renderer, data):
    assert renderer.render("x{{ data.size }}{{ a.b.c }}", data).startswith("x")


def test_an_object_reads_as_json_and_not_as_python(renderer):
    assert renderer.render("{{ a }}", {"a": {"b": [None, True]}}) == "{&#34;b&#34;: [null, true]}"


@pytest.mark.parametrize(
    ("template", "place", "words"),
    [
        ("one\ntwo {{ a | nosuch }}", (2, 12), "unknown filter 'nosuch'"),
        ("one\n  {{ }}", (2, 5), "expected a value, found nothing more"),
        ("{% if x %}\n {{ y | }}{% endif %}", (2, 5), "expected a name, found nothing more"),
        ("one\n{% if x %}\ntwo", (3, 4), "expected tag endif, found the end of the template"),
        ("{% endif %}", (1, 4), "unexpected tag 'endif'"),
    ],
)
def test_mistakes_are_named_with_their_line_and_column(renderer, template, place, words):
    with pytest.raises(RenderFailure) as caught:
        renderer.render(template, {})
    assert (caught.value.line, caught.value.column) == place
    assert str(caught.value) == f"Line {place[0]}, column {place[1]}: {words}"


@pytest.mark.parametrize(
    "template", ["{% if %}", "{% for x in %}{% endfor %}", "{{ a | divided_by: 0 }}", "{% endif %}", "{{"]
)
def test_a_template_that_cannot_work_is_refused_in_words(renderer, template):
    with pytest.raises(RenderFailure) as caught:
        renderer.render(template, {"a": 1})
    assert PYTHON_TEXT.search(str(caught.value)) is None


def test_checking_a_template_finds_its_mistakes_without_data(renderer):
    assert renderer.check("{{ customer.name }}") is None
    problem = renderer.check("{% if %}")
    assert problem is not None and problem.line == 1


def test_every_filter_works_without_opening_anything(renderer):
    """A filter that loads something late would fail in the child, which can open no file."""
    values = ["2026-11-03T10:00:00+01:00", 3, [{"a": 2}, {"a": 1}]]
    problems = []
    for name in environment().filters:
        for value, arguments in itertools.product(values, ("", ": 'a'")):
            try:
                renderer.render(f"{{{{ v | {name}{arguments} }}}}", {"v": value})
            except RenderFailure as failure:
                problems.append(f"{name}: {failure}")
    assert problems
    assert not [words for words in problems if "was stopped" in words or "OSError" in words]


def test_a_large_reply_is_handed_over_whole(renderer):
    data = {"rows": [{"n": number, "text": "x" * 50} for number in range(10_000)]}
    assert len(json.dumps(data)) > 700_000
    assert renderer.render("{{ rows.size }}", data) == "10000"


def test_a_card_that_would_be_too_long_is_refused(renderer):
    with pytest.raises(RenderFailure, match="longer than"):
        renderer.render("{{ a }}{{ a }}", {"a": "x" * 300_000})

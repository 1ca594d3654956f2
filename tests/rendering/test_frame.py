"""A card cannot leave its box: shown in a real browser, its frame calls nobody, opens nothing and changes nothing."""

import itertools
import re

import pytest

from rendering.frame import document
from rendering.liquid import Renderer
from rendering.table import table
from tests.rendering.hostile import MARKUPS, TEXTS

SETTLED = 150
"""Milliseconds in which a request that is going to be made has begun."""
RUN = "(window.ran=1,new Image().src='{out}/ran',alert(1))"


class Watch:
    """What a page does beyond showing itself."""

    def __init__(self, page):
        self.page, self.seen = page, []
        page.on("dialog", lambda dialog: (self.seen.append("dialog"), dialog.dismiss()))
        page.on("download", lambda _download: self.seen.append("download"))
        page.context.on("page", lambda other: self.seen.append(f"window {other.url}"))

    def use_everything(self):
        """Click all over the frame and press the keys that act on what has focus."""
        box = self.page.locator("iframe").bounding_box()
        for down, right in itertools.product(range(16, 220, 20), (12, 40, 90, 200)):
            self.page.mouse.click(box["x"] + right, box["y"] + down)
        for key in ("Tab", "Enter", "Tab", "Enter", "Space", "Tab", "Enter"):
            self.page.keyboard.press(key)


def frame_page(page, portal, card):
    """Show a card and try everything in it."""
    portal.card = card
    watch = Watch(page)
    page.goto(portal.url)
    page.wait_for_timeout(SETTLED)
    watch.use_everything()
    page.wait_for_timeout(SETTLED)
    return watch


def outer(page) -> str:
    return page.evaluate("document.documentElement.outerHTML")


@pytest.mark.parametrize("name", MARKUPS)
def test_a_hostile_card_reaches_nobody_and_leaves_the_page_as_it_was(page, portal, attacker, name):
    page.goto(portal.url)
    before = outer(page)
    watch = frame_page(page, portal, MARKUPS[name].replace("{out}", attacker.url))
    assert attacker.heard == []
    assert watch.seen == []
    assert page.url == f"{portal.url}/"
    assert outer(page) == before
    assert [frame.url for frame in page.frames if frame.url.startswith(attacker.url)] == []


@pytest.mark.parametrize("name", ["image", "script that calls out", "link to the top", "form", "refresh", "font"])
def test_without_the_policies_the_same_card_gets_out(page, portal, attacker, name):
    """So that the test above is known to be able to fail."""
    portal.guarded = False
    frame_page(page, portal, MARKUPS[name].replace("{out}", attacker.url))
    assert attacker.heard != []


@pytest.mark.parametrize("name", ["link to the top", "link to the parent", "link to a new window", "script link"])
def test_links_in_a_card_are_dead_and_the_card_stays(page, portal, attacker, name):
    frame_page(page, portal, "<p>A card</p>" + MARKUPS[name].replace("{out}", attacker.url))
    assert attacker.heard == []
    assert page.frames[1].url == f"{portal.url}/frame"


def test_a_link_that_names_the_frame_itself_is_stopped_by_the_page_around_it(page, portal, attacker):
    """By script: the browser's driver waits forever for a click that ends in a blocked page."""
    portal.card = f'<a href="{attacker.url}/link-self" target="_self">Your orders</a>'
    page.goto(portal.url)
    page.frames[1].evaluate("document.links[0].click()")
    page.wait_for_timeout(3 * SETTLED)
    assert attacker.heard == []
    assert page.url == f"{portal.url}/"
    assert page.frames[1].url != f"{portal.url}/frame", "the link was followed, as far as it got"


def test_a_link_without_a_target_leaves_the_card_where_it_is(page, portal, attacker):
    portal.card = f'<p>A card</p><p><a href="{attacker.url}/orders">Orders</a></p>'
    page.goto(portal.url)
    page.frame_locator("iframe").get_by_role("link", name="Orders").click()
    page.wait_for_timeout(SETTLED)
    assert page.frames[1].url == f"{portal.url}/frame"
    assert attacker.heard == []
    assert len(page.context.pages) == 1


@pytest.fixture(scope="module")
def renderer():
    made = Renderer()
    yield made
    made.close()


POSITIONS = (
    "<p>{{ value }}</p>",
    '<p title="{{ value }}">x</p>',
    "<p title='{{ value }}'>x</p>",
    "<p title={{ value }}>x</p>",
    '<a href="{{ value }}">x</a>',
    '<img src="{{ value }}" alt="">',
    '<iframe src="{{ value }}"></iframe>',
    "<p {{ value }}>x</p>",
    '<p style="color:{{ value }}">x</p>',
    "<style>p{color:{{ value }}}</style>",
    "<script>var a = '{{ value }}';</script>",
    "<script>var a = {{ value }};</script>",
    "<button onclick=\"f('{{ value }}')\">x</button>",
    "<!-- {{ value }} -->",
    "<textarea>{{ value }}</textarea>",
    "<svg><text>{{ value }}</text></svg>",
)
"""Where a template may put a value, the foolish places included."""


def payloads(attacker):
    return [text.replace("{run}", RUN.replace("{out}", attacker.url)) for text in TEXTS]


@pytest.mark.parametrize("position", POSITIONS)
def test_values_and_keys_run_nothing_wherever_a_template_puts_them(page, portal, attacker, renderer, position):
    template = "{% for value in values %}" + position + "{% endfor %}"
    template += "{% for pair in named %}{% assign value = pair[0] %}" + position + "{% endfor %}"
    values = payloads(attacker)
    card = renderer.render(template, {"values": values, "named": dict.fromkeys(values, 1)})
    watch = frame_page(page, portal, card)
    assert (attacker.heard, watch.seen, page.url) == ([], [], f"{portal.url}/")


def test_template_texts_run_nothing(page, portal, attacker, renderer):
    card = ""
    for text in payloads(attacker):
        if "{{" not in text and "{%" not in text:
            card += renderer.render(text, {})
    watch = frame_page(page, portal, card)
    assert (attacker.heard, watch.seen, page.url) == ([], [], f"{portal.url}/")


@pytest.mark.parametrize("position", POSITIONS[:3])
def test_values_in_their_right_places_run_nothing_even_without_the_frame(page, attacker, renderer, position):
    """Escaping holds by itself; the frame is the second wall."""
    template = "{% for value in values %}" + position + "{% endfor %}"
    card = renderer.render(template, {"values": payloads(attacker)})
    watch = Watch(page)
    page.set_content(card)
    page.wait_for_timeout(SETTLED)
    assert (attacker.heard, watch.seen, page.evaluate("window.ran")) == ([], [], None)
    assert page.evaluate("document.querySelectorAll('script, svg, iframe, object, img').length") == 0


def test_the_table_of_a_card_without_a_template_runs_nothing_even_without_the_frame(page, attacker):
    values = payloads(attacker)
    data = {"list": values, "rows": [dict.fromkeys(values[:8], values[0])], **dict.fromkeys(values, values)}
    watch = Watch(page)
    page.set_content(table(data))
    page.wait_for_timeout(SETTLED)
    assert (attacker.heard, watch.seen, page.evaluate("window.ran")) == ([], [], None)


def test_the_texts_do_run_where_nothing_stands_in_their_way(page, attacker):
    """So that the tests above are known to be able to fail."""
    watch = Watch(page)
    page.set_content("".join(text for text in payloads(attacker) if re.match("<(script|img|svg)", text)))
    page.wait_for_timeout(SETTLED)
    assert "dialog" in watch.seen
    assert attacker.heard != []


def test_a_card_is_a_whole_page_with_a_language_and_a_title():
    page = document("<p>x</p>")
    assert page.startswith('<!doctype html><html lang="en">')
    assert "<title>Card</title>" in page
    assert page.endswith("<p>x</p></body></html>")

"""A card without a template shows its reply as tables that a newcomer can read."""

import pytest

from rendering.table import LONGEST, MOST_CELLS, MOST_ROWS, table
from tests.rendering.hostile import TEXTS


def test_objects_are_tables_of_names_and_values():
    shown = table({"ordered_on": "2026-11-03", "paid": True, "note": None, "tags": []})
    assert '<tr><th scope="row">Ordered on</th><td>2026-11-03</td></tr>' in shown
    assert '<th scope="row">Paid</th><td>yes</td>' in shown
    assert '<th scope="row">Note</th><td>-</td>' in shown
    assert '<th scope="row">Tags</th><td>none</td>' in shown


def test_what_holds_more_stands_under_a_heading_of_its_own():
    shown = table({"customer": {"name": "Ada"}, "since": 2019, "orders": [{"n": 1}]})
    assert shown.index("Since") < shown.index("<h2>Customer</h2>") < shown.index("<h2>Orders</h2>")
    assert shown.endswith("<tbody><tr><td>1</td></tr></tbody></table>")


def test_a_list_of_objects_is_a_table_with_a_row_each():
    shown = table([{"a": 1, "b": 2}, {"a": 3, "c": 4}])
    assert '<thead><tr><th scope="col">A</th><th scope="col">B</th><th scope="col">C</th></tr></thead>' in shown
    assert "<tr><td>1</td><td>2</td><td>-</td></tr><tr><td>3</td><td>-</td><td>4</td></tr>" in shown


def test_other_lists_are_lists():
    assert table([1, "two", [3]]) == "<ul><li>1</li><li>two</li><li><ul><li>3</li></ul></li></ul>"


@pytest.mark.parametrize("data", [1, "text", True, False, 0, [], {}, "", 1.5])
def test_any_value_is_shown(data):
    assert table(data)


def test_a_reply_without_content_says_so():
    assert "without any content" in table(None)


def test_long_replies_are_cut_with_a_word_about_it():
    assert f"… and {1000 - MOST_ROWS} more." in table([{"n": number} for number in range(1000)])
    wide = table({f"k{number}": {f"i{inner}": inner for inner in range(50)} for number in range(50)})
    assert wide.count("<td>") < 2 * MOST_CELLS
    assert "more." in wide
    assert len(table("x" * 10_000)) == LONGEST + 1


def test_deep_replies_end_in_a_count():
    data: object = {"end": 1}
    for _ in range(50):
        data = {"deeper": data}
    assert "1 value" in table(data)


def test_names_and_values_are_escaped():
    shown = table({text: [text, {text: text}] for text in TEXTS})
    for tag in ("<script", "<img", "<svg", "<iframe", "<a ", "<input"):
        assert tag not in shown

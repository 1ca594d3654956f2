"""A reply is shown as a tree that stays readable however large it is, and says what is missing."""

import json

from services.preview_tree import DEEPEST, LONGEST_VALUE, MOST_CHARACTERS, MOST_NODES, tree


def nodes(node):
    yield node
    for child in node.children:
        yield from nodes(child)


def test_values_are_shown_as_json_with_the_way_a_template_addresses_them():
    shown = tree({"orders": [{"item": "Lamp", "price": 19.5, "paid": True, "note": None}], "odd key": 1})
    found = {node.path: (node.kind, node.text) for node in nodes(shown.root)}
    assert found["data"] == ("object", "2 values")
    assert found["orders"] == ("array", "1 entry")
    assert found["orders[0].item"] == ("string", '"Lamp"')
    assert found["orders[0].price"] == ("number", "19.5")
    assert found["orders[0].paid"] == ("word", "true")
    assert found["orders[0].note"] == ("word", "null")
    assert found['data["odd key"]'] == ("number", "1")
    assert shown.note == ""


def test_a_large_reply_is_cut_and_says_how_much_is_left_out():
    shown = tree(list(range(5000)))
    assert len(list(nodes(shown.root))) == MOST_NODES
    assert shown.root.left_out == 5001 - MOST_NODES
    assert shown.note.startswith(f"{5001 - MOST_NODES:,} more values are left out here.")


def test_long_texts_are_shortened_and_counted():
    shown = tree({"a": "x" * (LONGEST_VALUE + 1234)})
    assert shown.root.children[0].text == json.dumps("x" * LONGEST_VALUE + "…", ensure_ascii=False)
    assert "shortened by 1,234 characters" in shown.note


def test_no_reply_makes_the_page_larger_than_its_budget():
    shown = tree({"k" * 5000 + str(number): "\u0001" * 100_000 for number in range(900)})
    length = sum(len(node.text) + len(node.name or "") for node in nodes(shown.root))
    assert length < MOST_CHARACTERS + 7 * LONGEST_VALUE
    assert "left out" in shown.note


def test_deep_replies_end_where_nobody_reads_on():
    data: object = 1
    for _ in range(90):
        data = [data]
    shown = tree(data)
    deepest = list(nodes(shown.root))[-1]
    assert len(list(nodes(shown.root))) == DEEPEST + 1
    assert (deepest.text, deepest.left_out) == ("1 entry", 1)
    assert f"{90 - DEEPEST} more values" in shown.note

"""The table of promises names tests that exist, and every short name that tests use stands in it."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "security-tests.md"
ROWS = re.findall(r"^\| ([A-Z]{2}-\d\d) \| ([^|]+) \| ([^|]+) \|$", TABLE.read_text(), re.MULTILINE)
FLOOR = {
    "AC": [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 15],
    "PU": [1, 2, 3, 4, 5],
    "TK": [1, 2, 3, 4, 5, 7, 14, 15],
    "SS": [1, 2, 3, 4, 5, 8],
    "EG": [1, 2, 3, 4, 5, 6, 7, 8, 9],
    "RN": [1, 2, 3, 4, 5, 6],
    "MT": [1, 2, 3, 4, 5, 7],
    "WB": [1, 2, 3, 4, 5, 6, 7],
    "QW": [1, 2, 4],
    "LG": [1, 2, 3, 5],
}


@cache
def names_in(path):
    """Names of the tests of a file."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_promise_of_the_floor_has_one_row():
    expected = [f"{group}-{number:02}" for group, numbers in FLOOR.items() for number in numbers]
    names = [name for name, _promise, _tests in ROWS]
    assert names[: len(expected)] == expected
    assert len(names) == len(set(names))


@pytest.mark.parametrize("folder", ["tests", "blueprints", "services", "oauth", "outbound", "rendering", "workers"])
def test_no_short_name_is_used_that_the_table_does_not_explain(folder):
    known = {name for name, _promise, _tests in ROWS}
    used = {
        (name, path.name)
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(rf"\b(?:{'|'.join(FLOOR)})-\d\d\b", path.read_text())
    }
    assert {pair for pair in used if pair[0] not in known} == set()


def test_every_test_named_in_the_table_exists():
    for row, _promise, named in ROWS:
        found = re.findall(r"`(tests/[^`]+)`", named)
        assert found, row
        for test in found:
            path, _, name = test.partition("::")
            assert names_in(path), (row, path)
            assert not name or name in names_in(path), (row, test)


def test_every_backquoted_test_stands_in_a_row():
    """So that a row the pattern does not read is noticed."""
    in_rows = sum(named.count("`tests/") for _row, _promise, named in ROWS)
    assert TABLE.read_text().count("`tests/") == in_rows + 1

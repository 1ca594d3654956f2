"""A readable card for a reply whose card has no template yet: the JSON as tables. Everything in it is escaped."""

from __future__ import annotations

from html import escape

DEEPEST = 5
MOST_ROWS = 30
MOST_COLUMNS = 8
MOST_CELLS = 600
LONGEST = 300


class _Table:
    """Writes one reply; stops when it has written enough."""

    def __init__(self) -> None:
        self.room = MOST_CELLS

    def value(self, value: object, levels: int) -> str:
        """HTML of any JSON value."""
        if isinstance(value, dict) and value:
            return self.facts(value, levels) if levels else _count(len(value), "value")
        if isinstance(value, list) and value:
            return self.items(value, levels) if levels else _count(len(value), "entry", "entries")
        self.room -= 1
        return _leaf(value)

    def sections(self, value: dict[str, object]) -> str:
        """The reply itself: its plain values as a table, then whatever holds more under a heading of its own."""
        large = {name: item for name, item in value.items() if isinstance(item, dict | list) and item}
        plain = {name: item for name, item in value.items() if name not in large}
        parts = []
        for name, item in list(large.items())[:MOST_ROWS]:
            if self.room <= 0:
                break
            parts.append(f"<h2>{_label(name)}</h2>{self.value(item, DEEPEST - 1)}")
        above = self.facts(plain, 1) if plain else ""
        return f"{above}{''.join(parts)}{_more(len(large) - len(parts))}"

    def facts(self, value: dict[str, object], levels: int) -> str:
        """An object as a table of names and values."""
        rows = []
        for name, item in list(value.items())[:MOST_ROWS]:
            if self.room <= 0:
                break
            rows.append(f'<tr><th scope="row">{_label(name)}</th><td>{self.value(item, levels - 1)}</td></tr>')
        return f"<table>{''.join(rows)}</table>{_more(len(value) - len(rows))}"

    def items(self, value: list[object], levels: int) -> str:
        """A list: of objects as a table with a row each, of anything else as a list."""
        if all(isinstance(item, dict) and item for item in value):
            return self.rows([item for item in value if isinstance(item, dict)], levels)
        points = []
        for item in value[:MOST_ROWS]:
            if self.room <= 0:
                break
            points.append(f"<li>{self.value(item, levels - 1)}</li>")
        return f"<ul>{''.join(points)}</ul>{_more(len(value) - len(points))}"

    def rows(self, value: list[dict[str, object]], levels: int) -> str:
        """Objects of one kind: their names are the columns."""
        names = list(dict.fromkeys(name for item in value[:MOST_ROWS] for name in item))[:MOST_COLUMNS]
        head = "".join(f'<th scope="col">{_label(name)}</th>' for name in names)
        body = []
        for item in value[:MOST_ROWS]:
            if self.room <= 0:
                break
            cells = "".join(f"<td>{self.value(item.get(name, ''), levels - 1)}</td>" for name in names)
            body.append(f"<tr>{cells}</tr>")
        filled = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
        return f"<table>{filled}</table>{_more(len(value) - len(body))}"


def table(data: object) -> str:
    """HTML of a JSON value: objects as tables, lists as rows, long ones cut with a word about it."""
    if data is None:
        return "<p>The API answered, without any content.</p>"
    return _Table().sections(data) if isinstance(data, dict) and data else _Table().value(data, DEEPEST)


def _leaf(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return "none"
    text = str(value)
    return escape(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")


def _label(name: str) -> str:
    """A name as people write it: `ordered_on` → Ordered on."""
    words = " ".join(name.replace("_", " ").split())[:LONGEST]
    return escape(words[:1].upper() + words[1:])


def _more(left_out: int) -> str:
    return f"<p>… and {left_out} more.</p>" if left_out > 0 else ""


def _count(number: int, one: str, many: str = "") -> str:
    return f"1 {one}" if number == 1 else f"{number} {many or one + 's'}"

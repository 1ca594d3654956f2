"""The audit page tells in plain words who did what."""

import re
from pathlib import Path

import pytest

from blueprints.audit import words
from models import AuditEntry

pytestmark = pytest.mark.sqlite_only

ROOT = Path(__file__).resolve().parents[2]
RECORDED = re.compile(r'"((?:card|connection|member|sign_in|user|workspace)\.[a-z_]+)"')


def add(world, **columns):
    world._add(AuditEntry(**{"workspace_id": world.acme.id, "actor": "alice@acme.example", **columns}))


def test_every_action_that_is_recorded_has_words():
    recorded = set()
    for file in (ROOT / "services").rglob("*.py"):
        text = file.read_text()
        if "audit.record" in text:
            recorded |= set(RECORDED.findall(text))
    assert len(recorded) > 15
    assert recorded <= set(words.SENTENCES)


def test_entries_are_sentences_with_names(app, world):
    add(world, action="connection.state_changed", subject_name="Shop", detail={"from": "Connected", "to": "Paused"})
    add(world, action="member.role_changed", detail={"email": "ann@acme.example", "before": "agent", "after": "admin"})
    add(world, action="connection.configured", subject_name="Shop", detail={"changed": ["token_endpoint", "scope"]})
    page = world.client(world.alice).get("/audit").text
    assert "Shop went from Connected to Paused" in page
    assert "Changed the role of ann@acme.example from agent to admin" in page
    assert "Saved the connection Shop: token endpoint, scope" in page
    assert "alice@acme.example" in page
    assert re.search(r'<time datetime="[^"]+\+00:00" title="\d+ \w+ \d{4}, \d\d:\d\d:\d\d UTC"', page)


def test_an_action_nobody_described_is_told_by_its_code(app, world):
    add(world, action="card.turned_around", subject_name="Orders")
    assert "Turned around (card) Orders" in world.client(world.alice).get("/audit").text


def test_an_entry_that_lacks_a_detail_is_shown_all_the_same(app, world):
    add(world, action="member.role_changed")
    assert world.client(world.alice).get("/audit").status_code == 200


def test_words_in_braces_stay_words(app, world):
    add(world, action="card.created", subject_name="{name.__class__} {0}")
    assert "{name.__class__} {0}" in world.client(world.alice).get("/audit").text


def test_other_workspaces_entries_stay_there(app, world):
    add(world, action="card.created", subject_name="Ours")
    add(world, action="card.created", subject_name="Theirs", workspace_id=world.globex.id)
    page = world.client(world.alice).get("/audit").text
    assert "Ours" in page
    assert "Theirs" not in page


def test_older_entries_are_a_page_away(app, world):
    world._add(
        *[
            AuditEntry(workspace_id=world.acme.id, actor="x", action="card.created", subject_name=f"Card {number}.")
            for number in range(120)
        ]
    )
    alice = world.client(world.alice)
    pages = [alice.get("/audit", query_string={"page": page}).text for page in (1, 2, 3)]
    assert [len(re.findall(r"Card \d+\.", page)) for page in pages] == [50, 50, 20]
    assert len(set(re.findall(r"Card \d+\.", "".join(pages)))) == 120
    assert 'rel="prev"' not in pages[0]
    assert 'rel="next"' not in pages[2]


@pytest.mark.parametrize("page", ["0", "-3", "x", "9" * 40, "99999999999999999999"])
def test_odd_page_numbers_are_no_trouble(app, world, page):
    assert world.client(world.alice).get("/audit", query_string={"page": page}).status_code == 200


def test_an_empty_trail_says_what_will_stand_here(app, world):
    assert "Nothing has happened yet" in world.client(world.alice).get("/audit").text

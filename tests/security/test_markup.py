"""WB-07: htmx runs no code, and what people type is text wherever it is shown."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from models import Membership, Role, Workspace
from tests.support.routes import FROM_ELSEWHERE, address

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
NAME = "x\"'><img src=q onerror=a() hx-get=/planted hx-trigger=load>"


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture
def planted(world):
    """Names that would be code if they were ever taken for it."""
    workspace = world.reread(world.acme)
    with world.resources.database.session(writing=True) as session:
        row = session.get_one(Workspace, workspace.id)
        row.name = f"Acme {NAME}"
        session.add(row)
        session.commit()
    world._add(Membership(workspace_id=world.globex.id, user_id=world.alice.id, role=Role.OPERATOR))
    connection = world.connection(name=f"Shop {NAME}", scope=NAME, failure_said=NAME, failure_reason=NAME)
    card = world.card(connection=connection, title=f"Orders {NAME}", template_content=NAME)
    return {"connection_id": connection.id, "card_id": card.id, "user_id": world.ann.id}


@pytest.mark.sqlite_only
def test_names_with_htmx_attributes_are_inert(app, world, planted):
    alice = world.client(world.alice)
    pages = 0
    for rule in app.url_map.iter_rules():
        if "GET" not in rule.methods or rule.endpoint in FROM_ELSEWHERE | {"static", "preview.frame"}:
            continue
        answer = alice.get(address(rule, **planted))
        if answer.mimetype != "text/html":
            continue
        pages += "&#34;&#39;&gt;&lt;img" in answer.text
        for tag, attributes in Elements(answer.text).found:
            assert attributes.get("src") != "q", rule.endpoint
            for name, value in attributes.items():
                assert not name.startswith("on"), (rule.endpoint, tag, name)
                assert not (name.startswith(("hx-", "data-hx")) and "planted" in (value or "")), (
                    rule.endpoint,
                    tag,
                    name,
                )
    assert pages >= 3


@pytest.mark.sqlite_only
def test_htmx_may_run_no_code_and_call_no_other_site(client):
    attributes = [found for tag, found in Elements(client.get("/login").text).found if tag == "meta"]
    config = json.loads(next(found["content"] for found in attributes if found.get("name") == "htmx-config"))
    assert config["selfRequestsOnly"] is True
    assert config["allowEval"] is False
    assert config["allowScriptTags"] is False
    assert config["includeIndicatorStyles"] is False
    assert config["historyCacheSize"] == 0


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT / "templates")))
def test_templates_hold_no_inline_code_and_switch_no_escaping_off(template):
    text = re.sub(r"\{#.*?#\}", "", template.read_text(), flags=re.DOTALL)
    assert not re.search(r"\son[a-z]+\s*=", text), "inline event handler"
    assert not re.search(r"\sstyle\s*=", text), "inline style"
    assert not re.search(r"<style|javascript:|hx-on|hx-vals\s*=\s*['\"]js:|hx-vars", text), "inline code"
    assert not re.search(r"<script(?![^>]*\ssrc=)", text), "inline script"
    assert "autoescape false" not in text
    if template.name != "icons.html":
        assert not re.search(r"\|\s*safe\b", text), "escaping switched off"


def test_nothing_is_loaded_from_elsewhere():
    for file in [*TEMPLATES, *(ROOT / "static").glob("*.css"), *(ROOT / "static").glob("*.js")]:
        assert not re.search(
            r"""(src|href)=["'](https?:)?//|url\(["']?(https?:)?//|@import ["'](https?:)?//""", file.read_text()
        ), file

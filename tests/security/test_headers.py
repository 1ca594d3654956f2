"""WB-04, RN-02: the headers are on every response, whatever it is, and the policy of every page is a tight one."""

import pytest

from tests.support.routes import address

pytestmark = pytest.mark.sqlite_only

EVERYWHERE = {
    "X-Content-Type-Options": {"nosniff"},
    "Referrer-Policy": {"same-origin", "no-referrer"},
    "Cross-Origin-Opener-Policy": {"same-origin-allow-popups", "same-origin"},
}


def check(answer, https=False):
    for name, values in EVERYWHERE.items():
        assert answer.headers.get(name) in values, (answer.request.path, answer.status_code, name)
    check_policy(answer)
    assert ("Strict-Transport-Security" in answer.headers) is https


OURS = {"'none'", "'self'", "data:"}
NOTHING = ("object-src", "base-uri", "default-src")


def check_policy(answer):
    """RN-02: nothing by default, nothing inline, nothing from elsewhere."""
    parts = [part.split() for part in answer.headers["Content-Security-Policy"].split(";") if part.strip()]
    policy = {name: set(values) for name, *values in parts}
    assert len(policy) == len(parts), "no directive twice: the second would count for nothing"
    for name in NOTHING:
        assert policy[name] == {"'none'"}, (answer.request.path, name)
    for name in ("frame-ancestors", "form-action"):
        assert policy[name] <= {"'none'", "'self'"}, (answer.request.path, name)
    for name, values in policy.items():
        assert values <= OURS or name == "sandbox", (answer.request.path, name, values)
    assert policy.get("script-src", {"'none'"}) <= {"'none'", "'self'"}


def walk(app, client):
    for rule in app.url_map.iter_rules():
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE"):
            yield rule, client.open(address(rule), method=method, buffered=True)


def test_headers_are_on_every_route_signed_out(app, client):
    for _rule, answer in walk(app, client):
        check(answer)


def test_headers_are_on_every_route_signed_in_and_nothing_is_cached(app, world):
    for rule, answer in walk(app, world.client(world.alice)):
        check(answer)
        if rule.endpoint != "static":
            assert answer.headers["Cache-Control"] == "no-store", rule.endpoint


def test_headers_are_on_refusals_and_failures(app, client, world):
    @app.get("/breaks")
    def breaks():
        raise RuntimeError("as if by mistake")

    answers = {
        303: client.get("/cards"),
        307: client.get("/login", base_url="http://localhost:8000"),
        400: client.get("/login", base_url="http://elsewhere.example"),
        403: world.client(world.ann).get("/members"),
        404: client.get("/no-such-page"),
        405: client.put("/login"),
        413: client.post("/login", data={"email": "x" * 300_000}),
        500: client.get("/breaks"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        check(answer)
    assert "as if by mistake" not in answers[500].text
    assert "Traceback" not in answers[500].text


def test_headers_are_on_static_files_and_missing_ones(client):
    for path in ("app.css", "app.js", "vendor/htmx.min.js", "none.css", "../app.py"):
        check(client.get(f"/static/{path}", buffered=True))


def test_https_adds_strict_transport_security(settings_for):
    from app import build
    from services.resources import Resources
    from tests.support.browserless import Client

    settings = settings_for(public_url="https://cards.example.com", database_url="sqlite://")
    resources = Resources.open(settings)
    portal = build(settings, resources)
    portal.test_client_class = Client
    for path in ("/static/app.css", "/no-such-page", "/healthz"):
        check(portal.test_client().get(path, buffered=True), https=True)
    resources.close()

"""What reaches the log: one line an event, nothing secret in it. LG-01, LG-02."""

import io
import json
import logging
import sys
import threading
import time
import warnings

import pytest

import logs

CANARY = "c4n4ry-Zk3v9QpL0xR7"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJjNG40cnkifQ.c2lnbmF0dXJl"


@pytest.fixture
def lines(monkeypatch):
    """Everything logged in this test, at DEBUG, as text; what logging changed is put back."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in logs.TALKATIVE}
    monkeypatch.setattr(sys, "stderr", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.configure("DEBUG")
        yield lambda: stream.getvalue().splitlines()
        logging.captureWarnings(False)
    root.handlers[:], root.level, sys.excepthook, threading.excepthook, logging.raiseExceptions = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def log():
    return logs.get("test")


def without_pytests_own_handlers():
    """They raise what ours forgives, and keep text that cannot be sent between processes."""
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if isinstance(handler, logs.Handler)]


HOSTILE = [
    "a\r\nb",
    "a\nCRITICAL forged",
    "\x1b[31mred\x1b[0m",
    "a\u2028b\u2029c",
    "\x00\x07\x7f",
    "\u202eright to left",
    "\x85next line",
    "\x0b\x0c\x1c\x1d\x1e",
    '"},{"event":"forged"',
    "\ud800 alone",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_an_event_is_one_escaped_line(lines, log, text):
    without_pytests_own_handlers()
    log.info(text, name_of_it=text, nested={text: [text]})
    logging.getLogger("foreign").warning("said %s", text)
    written = lines()
    assert len(written) == 2
    for line in written:
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line)["level"] in ("info", "warning")


def test_an_event_says_when_where_and_what(lines, log):
    log.warning("refresh failed", connection_id="c1", http_status=502, waiting=1.5, retried=True, nothing=None)
    event = json.loads(lines()[0])
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "event": "refresh failed",
        "level": "warning",
        "logger": "test",
        "connection_id": "c1",
        "http_status": 502,
        "waiting": 1.5,
        "retried": True,
        "nothing": None,
    }


NAMES = (
    "access_token refresh_token id_token token client_secret secret secret_key password passwd Authorization "
    "Proxy-Authorization Cookie Set-Cookie code state auth_code oauth_state code_verifier client_assertion api_key "
    "apikey x-api-key private_key encryption_keys credentials csrf_token signature key"
).split()


@pytest.mark.parametrize("name", NAMES)
def test_a_value_with_a_secret_name_is_starred_however_deep(lines, log, name):
    log.info("x", **{name: CANARY})
    log.info(
        "x", request={"headers": {name: CANARY}, "list": [{name: CANARY}], "bytes": {name.encode(): CANARY.encode()}}
    )
    log.info("x", pairs=[(name, CANARY)], sets={(name, CANARY)}, tuple=({name: [CANARY]},))
    log.info("x", **{name: {"inside": [CANARY]}})
    assert len(lines()) == 4
    assert CANARY not in "".join(lines())


TEXTS = {
    "a form": f"access_token={CANARY}&x=1",
    "a callback": f"GET /auth/provider/callback?code={CANARY}&state={CANARY} HTTP/1.1",
    "an encoded callback": f"next=%2Fcb%3Fcode%3D{CANARY}%26state%3D{CANARY}",
    "JSON": json.dumps({"refresh_token": CANARY, "code": CANARY, "state": CANARY, "client_secret": CANARY}),
    "a dictionary": str({"refresh_token": CANARY, "password": CANARY, "token": CANARY}),
    "Bearer": f"Authorization: Bearer {CANARY}",
    "Basic": f"sent Basic {CANARY}==",
    "a scheme of its own": f"Authorization: Zoho-oauthtoken {CANARY}",
    "a cookie": f"Cookie: a=b; cardkey={CANARY}; c=d",
    "a set cookie": f"Set-Cookie: cardkey={CANARY}; HttpOnly",
    "a database address": f"postgresql+psycopg://cardkey:{CANARY}@db/cardkey",
    "a Redis address": f"redis://:{CANARY}@redis:6379/0",
    "a verifier": f"Using code_verifier: '{CANARY} {CANARY}'",
    "a JWT": f"sent {JWT} to them",
    "an open quote": f'client_secret="{CANARY}',
    "with blanks": f"password = '{CANARY} {CANARY}'",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_secret_inside_a_text_is_starred(lines, log, text):
    log.debug(text)
    log.info("x", said=text, listed=[text], named={text: text}, raw=text.encode())
    log.info("x", thing=type("Thing", (), {"__str__": lambda _: text})())
    logging.getLogger("foreign").debug("%s", text)
    logging.getLogger("foreign").info("%(a)s", {"a": text})
    written = "".join(lines())
    assert len(lines()) == 5
    assert not any(part in written for part in (CANARY, *JWT.split(".")[1:]))
    assert logs.STARS in written


@pytest.mark.parametrize(
    "text",
    ["exit code: 3", "state: Connected", "status code 404", "error_code=invalid_grant", "no key=value of ours monkey=5",
     "https://api.example.com:8443/orders?page=2", "the token was refreshed", "basic facts"],
)  # fmt: skip
def test_ordinary_words_stay(text):
    assert logs.redact_text(text).replace("key=***", "key=value") == text


def test_an_exception_is_one_line_without_what_its_message_held(lines, log):
    try:
        try:
            raise ValueError(f"refresh_token={CANARY}\nsecond line")
        except ValueError:
            raise RuntimeError({"client_secret": CANARY}) from None
    except RuntimeError:
        log.exception("failed")
        logging.getLogger("foreign").exception("failed with %s", f"Bearer {CANARY}")
    assert len(lines()) == 2
    assert CANARY not in "".join(lines())
    assert all("RuntimeError" in json.loads(line)["exception"] for line in lines())


def test_what_nobody_caught_is_logged_and_starred(lines):
    def fail():
        raise ValueError(f"password={CANARY}")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    assert [json.loads(line)["event"] for line in lines()] == ["uncaught", "uncaught"]
    assert "ValueError" in lines()[0]
    assert CANARY not in "".join(lines())


def test_a_warning_is_a_log_line_too(lines):
    warnings.warn(f"deprecated: token={CANARY}", DeprecationWarning, stacklevel=1)
    assert len(lines()) == 1
    assert "deprecated" in json.loads(lines()[0])["event"]
    assert CANARY not in lines()[0]


def test_a_record_that_cannot_be_written_leaves_no_argument(lines):
    without_pytests_own_handlers()
    logging.getLogger("foreign").info("%d", CANARY)
    assert len(lines()) == 1
    assert json.loads(lines()[0])["event"] == "a log record could not be written"
    assert CANARY not in lines()[0]


@pytest.mark.parametrize("reason", [OSError(28, "No space left on device"), ValueError("I/O operation on closed file")])
def test_work_goes_on_while_the_log_cannot_be_written(lines, monkeypatch, reason):
    def full(_text):
        raise reason

    without_pytests_own_handlers()
    with monkeypatch.context() as patch:
        patch.setattr(logging.getLogger().handlers[0], "stream", stream := io.StringIO())
        patch.setattr(stream, "write", full, raising=False)
        logging.getLogger("foreign").warning("lost")
    logging.getLogger("foreign").warning("written again")
    assert [json.loads(line)["event"] for line in lines()] == ["written again"]


def test_a_circle_and_a_deep_nest_are_cut(lines, log):
    circle = {}
    circle["inside"] = circle
    deep = []
    for _ in range(5000):
        deep = [deep]
    log.info("x", circle=circle, deep=deep)
    assert json.loads(lines()[0])["event"] == "x"


@pytest.mark.parametrize("name", logs.TALKATIVE)
def test_talkative_libraries_speak_from_warning_on(lines, name):
    logging.getLogger(name).debug(CANARY)
    logging.getLogger(f"{name}.inner").info(CANARY)
    assert lines() == []
    logging.getLogger(name).warning("heard")
    assert len(lines()) == 1


def test_a_secret_of_authlib_is_not_logged_at_debug(lines):
    from authlib.integrations.base_client.sync_app import OAuth2Base

    class Client:
        code_challenge_method, scope = "S256", None

        def create_authorization_url(self, url, **kwargs):
            return url, "state"

    OAuth2Base._create_oauth2_authorization_url(Client(), "https://a.example", code_verifier=CANARY)
    assert CANARY not in "".join(lines())


@pytest.mark.parametrize(
    "text",
    ["a" * 200_000, "a-" * 100_000, "ey" * 100_000, "://" * 60_000, "secret" * 30_000, "'" * 200_000, "code=" * 40_000],
)
def test_redacting_a_long_text_costs_no_time(text):
    begun = time.process_time()
    logs.redact_text(text)
    assert time.process_time() - begun < 2

"""F13, F14, F17 to F26, F32: what a token endpoint may say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

from bench.faults.cases import Case, Expect, play, prepare, reply
from bench.faults.ledger import Mode
from bench.faults.provider import RECEIVED
from bench.faults.rows import Outcome, row
from bench.faults.stage import Stage
from oauth.vocabulary import FailureClass

NOBODY: dict[str, Any] = {"mix": {}}
GOOD = '"access_token": "{access}", "token_type": "Bearer"'
ROTATED = f'{GOOD}, "refresh_token": "{{refresh}}"'
HTML = "<!doctype html><html><body>Service unavailable</body></html>"
HOUR = 3600.0


def _object(fields: str) -> str:
    """A JSON object; the braces of placeholders stay."""
    return "{" + fields + "}"


def _error(code: str, status: int = 400) -> dict[str, Any]:
    return reply(json.dumps({"error": code}), status)


@row(
    "F13",
    "429 with Retry-After in seconds, as a date, negative, huge, junk",
    "waits as told, an hour at most; junk: by its own backoff",
    options={**NOBODY, "settings": {"retry_longest": "3600"}},
    rounds=1,
    quick=1,
)
def throttled(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The times of the following requests, or the planned time where that is too far away."""
    for _ in range(rounds):
        prepare(stage, _waits())  # before anything is said of a moment
        yield from play(stage, _waits())


def _waits() -> list[Case]:
    """As of now."""

    def asked(wait: str) -> list[dict[str, Any]]:
        return [reply("{}", 429, headers={"Retry-After": wait})]

    date = formatdate(time.time() + 5, usegmt=True)
    slow: dict[str, Any] = {"kind": FailureClass.THROTTLED, "due": (HOUR - 60, HOUR * 1.1 + 60)}
    return [
        Case("3 seconds", asked("3"), Expect.RETRIED, wait=(3.0, 8.0)),
        Case("a date", asked(date), Expect.RETRIED, wait=(2.0, 9.0)),
        Case("negative", asked("-5"), Expect.RETRIED, wait=(0.2, 4.0)),
        Case("1000000000", asked("1000000000"), Expect.RETRIED, **slow),
        Case("junk", asked("soon"), Expect.RETRIED, wait=(0.2, 4.0)),
        Case("none", [reply("{}", 429)], Expect.RETRIED, wait=(0.2, 4.0)),
    ]


@row(
    "F14",
    "500, 502, 503, 504 and HTML pages; a long outage",
    "transient, tokens kept, nobody is asked to authorize",
    options=NOBODY,
    rounds=1,
    quick=1,
)
def server_errors(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """Each once; then a dozen failures in a row."""
    cases = [Case(str(status), [reply(HTML, status)], Expect.RETRIED) for status in (500, 502, 503, 504)]
    cases += [
        Case("503 with an error", [_error("invalid_grant", 503)], Expect.RETRIED),
        Case("a page with 200", [reply(HTML, 200, headers={"Content-Type": "text/html"})], Expect.RETRIED),
        Case("five in a row", [reply(HTML, 503)] * 5, Expect.RETRIED, apart=True),
    ]
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F17",
    "empty, truncated, invalid JSON, BOM, list, string, null, 100k-deep nesting, Latin-1",
    "tokens kept; BOM and Latin-1 are read",
    options=NOBODY,
    rounds=1,
    quick=1,
)
def malformed(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The provider has not acted, so that what is kept has to work on."""
    bodies: dict[str, str | bytes] = {
        "empty": "",
        "truncated": '{"access_token": "{access}", "refr',
        "not JSON": "{access_token: yes}",
        "list": "[1, 2]",
        "string": '"a token"',
        "null": "null",
        "number": "42",
        "deep": "[" * 100_000,
        "deep object": '{"a":' * 100_000,
        "binary": bytes(range(256)),
    }
    cases = [Case(name, [reply(body)], Expect.KEPT) for name, body in bodies.items()]
    bom = b"\xef\xbb\xbf" + _object(ROTATED).encode()
    latin = _object(f'{ROTATED}, "note": "déjà"').encode("latin-1")
    cases += [Case("BOM", [reply(bom, acts=True)], Expect.STORED)]
    cases += [Case("Latin-1", [reply(latin, acts=True)], Expect.STORED)]
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F18", "200 with an error, as JSON and form-encoded", "sorted as the error says", options=NOBODY, rounds=1, quick=1
)
def errors_with_200(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The status lies."""
    form: dict[str, Any] = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    for _ in range(rounds):
        yield from play(
            stage,
            [
                Case("invalid_grant", [_error("invalid_grant", 200)], Expect.DEAD),
                Case("invalid_grant, form", [reply("error=invalid_grant", 200, **form)], Expect.DEAD),
                Case("invalid_client", [_error("invalid_client", 200)], Expect.STOPPED, kind=FailureClass.CLIENT_BAD),
                Case("temporarily_unavailable", [_error("temporarily_unavailable", 200)], Expect.RETRIED),
            ],
        )


@row("F19", "200 with a form-encoded token", "accepted", options=NOBODY, rounds=1, quick=1)
def form_encoded(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """With and without its Content-Type."""
    body = "access_token={access}&token_type=bearer&expires_in=3600&refresh_token={refresh}"
    form: dict[str, Any] = {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}
    cases = [Case("form", [reply(body, acts=True, **form)], Expect.STORED)]
    cases += [Case("called JSON", [reply(body, acts=True)], Expect.STORED)]
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F20",
    "expires_in missing, a string, negative, 0, huge, null, a list; absurd expires_at",
    "the new refresh token is always stored, the lifetime bounded",
    options=NOBODY,
    rounds=1,
    quick=1,
)
def lifetimes(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """No value may lead to a loop, or to a token that never ends."""
    values = ('"3600"', "3600.0", '"3600.0"', "-1", "0", "1e30", "null", "[]", "1e999", '"abc"', "true", "NaN")
    cases = [
        Case(value, [reply(_object(f'{ROTATED}, "expires_in": {value}'), acts=True)], Expect.STORED, longest=4e8)
        for value in values
    ]
    cases += [
        Case("missing", [reply(_object(ROTATED), acts=True)], Expect.STORED, longest=4e8),
        Case("expires_at", [reply(_object(f'{ROTATED}, "expires_at": 9e18'), acts=True)], Expect.STORED, longest=4e8),
    ]
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F21",
    "token_type in any case, missing, unknown",
    "Bearer however it is written; unknown ones refused by name",
    options=NOBODY,
    rounds=1,
    quick=1,
)
def token_types(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """An unknown type is no token that could be sent; what was there stays."""

    def typed(kind: str) -> str:
        return _object(f'"access_token": "{{access}}", "refresh_token": "{{refresh}}"{kind}')

    good = {"bearer": ', "token_type": "bearer"', "bEARER": ', "token_type": "bEARER"', "missing": ""}
    bad = {"mac": ', "token_type": "mac"', "DPoP": ', "token_type": "DPoP"', "null": ', "token_type": null'}
    cases = [Case(name, [reply(typed(kind), acts=True)], Expect.STORED) for name, kind in good.items()]
    cases += [Case(name, [reply(typed(kind))], Expect.KEPT) for name, kind in bad.items()]
    for _ in range(rounds):
        yield from play(stage, cases)


@row("F22", "scope changed, dropped, wider", "stored and shown", options=NOBODY, rounds=1, quick=1)
def scopes(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """What the provider says counts."""
    cases = [
        Case(name, [reply(_object(f'{ROTATED}, "scope": "{scope}"'), acts=True)], Expect.STORED, scope=scope)
        for name, scope in {"narrower": "orders.read", "wider": "orders.read orders.write", "another": "crm"}.items()
    ]
    for _ in range(rounds):
        yield from play(stage, cases)


@row("F23", "no new refresh token, null, empty, not a string", "the old one is kept", options=NOBODY, rounds=1, quick=1)
def no_refresh_token(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """The provider has not replaced it."""
    extra = {
        "missing": "",
        "null": ', "refresh_token": null',
        "empty": ', "refresh_token": ""',
        "false": ', "refresh_token": false',
    }
    cases = [Case(name, [reply(_object(GOOD + more))], Expect.STORED) for name, more in extra.items()]
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F24",
    "The refresh token is replaced every time, a thousand times",
    "the newest is always stored",
    options={"mix": {Mode.STRICT: 25}},
    rounds=20,
    quick=4,
)
def rotation(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """One refresh after another; a strict provider forgives nothing."""
    for _ in range(rounds):
        stage.provider.ask("forget_uses")
        before = stage.look()
        stage.make_due()
        unfinished = stage.wait_done(before, stage.patience)
        lost = stage.lost(stage.look())
        notes = [*([f"lost: {len(lost)}"] if lost else []), *([f"late: {len(unfinished)}"] if unfinished else [])]
        stage.renew(lost.keys() | unfinished)
        yield Outcome("", not notes, len(stage.items), len(lost), (), "; ".join(notes))


@row(
    "F25",
    "invalid_grant: true, after a race that we lost, while the provider is down",
    "one request, looked at again, then silence",
    options=NOBODY,
    rounds=1,
    quick=1,
)
def invalid_grant(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """In the race a newer consent is stored while the request with the old token waits at the provider."""
    for _ in range(rounds):
        yield from play(
            stage,
            [
                Case("true", [_error("invalid_grant")], Expect.DEAD),
                Case("with a 401", [_error("invalid_grant", 401)], Expect.DEAD),
                Case("with a 503", [_error("invalid_grant", 503)], Expect.RETRIED),
            ],
        )
        yield from _race(stage)


def _race(stage: Stage) -> Iterator[Outcome]:
    items = [item for item in stage.items if item.case == "race"]
    items = items or stage.add(Mode.STRICT, 20, case="race", token_endpoint=f"{stage.base}/token")
    numbers = [item.number for item in items]
    stage.provider.ask("script", numbers=numbers, replies=[_error("invalid_grant")])
    stage.provider.hold(RECEIVED)
    stage.make_due(items)
    stage.provider.wait_held(len(items), 2.0)
    stage.renew(numbers)
    stage.provider.release()
    time.sleep(1.5)
    after = stage.look(items)
    lost = stage.lost(after)
    for item in items:
        word = after[item.number].state.shown
        notes = [
            *([f"shown as {word}"] if word != "Connected" else []),
            *([lost[item.number]] if item.number in lost else []),
        ]
        yield Outcome("after a race", not notes, 1, int(item.number in lost), (), "; ".join(notes))


@row(
    "F26",
    "invalid_client, unauthorized_client, invalid_scope, unsupported_grant_type, an unknown code",
    "misconfigured after one request, tokens kept",
    options=NOBODY,
    rounds=1,
    quick=1,
)
def client_errors(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """Nothing that trying again could mend."""
    kinds = {
        "invalid_client": FailureClass.CLIENT_BAD,
        "unauthorized_client": FailureClass.CLIENT_BAD,
        "invalid_scope": FailureClass.REQUEST_BAD,
        "unsupported_grant_type": FailureClass.REQUEST_BAD,
        "a_code_nobody_knows": FailureClass.REQUEST_BAD,
    }
    cases = [Case(code, [_error(code)], Expect.STOPPED, kind=kind) for code, kind in kinds.items()]
    for _ in range(rounds):
        yield from play(stage, cases)


@row(
    "F32",
    "302 and 307 from the token endpoint",
    "not followed: the other address gets nothing",
    options=NOBODY,
    rounds=1,
    quick=1,
)
def redirects(stage: Stage, rounds: int, _full: bool) -> Iterator[Outcome]:
    """To another address of the provider, where every request counts as strayed."""
    for _ in range(rounds):
        where = {"Location": f"http://127.0.0.1:{stage.provider.port}/elsewhere"}
        cases = [Case(str(status), [reply("", status, headers=where)], Expect.KEPT) for status in (302, 307)]
        strays = stage.provider.stand()["strays"]
        outcomes = list(play(stage, cases))
        strayed = stage.provider.stand()["strays"] - strays
        for outcome in outcomes:
            if strayed:
                outcome.kept, outcome.note = False, f"{outcome.note} {strayed} requests went elsewhere".strip()
            yield outcome

"""How every command speaks: words or one JSON object, and status 0 only when what was asked for happened."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

import click
from flask import current_app
from flask.cli import with_appcontext
from sqlalchemy.exc import DBAPIError

from config import SettingsProblem
from models import schema
from runner.output import safe
from services.errors import Refused
from services.resources import Resources

P = ParamSpec("P")


@dataclass(frozen=True)
class Report:
    """What came of a command."""

    words: str
    data: Mapping[str, Any] = field(default_factory=dict)
    """The same for scripts; `ok` is added."""
    ok: bool = True


def reporting(function: Callable[Concatenate[Resources, P], Report]) -> Callable[..., None]:
    """A command's body: gets the resources, returns its report; takes `--json`; a refusal becomes one sentence."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of words.")
    @with_appcontext
    @wraps(function)
    def run(as_json: bool, *args: P.args, **options: P.kwargs) -> None:
        resources = cast(Resources, current_app.extensions["cardkey"])
        try:
            report = function(resources, *args, **options)
        except (Refused, SettingsProblem) as problem:
            report = Report(str(problem), ok=False)
        except DBAPIError as problem:
            report = Report(_database_problem(resources, problem), ok=False)
        finally:
            resources.close()
        _print(report, as_json)
        sys.exit(0 if report.ok else 1)

    return run


def _print(report: Report, as_json: bool) -> None:
    """Words of a failure always go to standard error, so that a script's log has them."""
    if as_json:
        failure = {} if report.ok else {"error": report.words}
        click.echo(json.dumps({"ok": report.ok, **failure, **report.data}, default=str))
    if not report.ok or not as_json:
        click.echo("\n".join(safe(line) for line in report.words.split("\n")), err=not report.ok)


def _database_problem(resources: Resources, problem: DBAPIError) -> str:
    """A database that is away and one that was never migrated look alike to a query."""
    try:
        if schema.pending(resources.database.engine):
            return "The database is not up to date. Run: flask db upgrade"
    except DBAPIError:
        pass
    return f"The database cannot be used ({type(problem).__name__}). Check CARDKEY_DATABASE_URL, or run: flask doctor"

"""Every finding of the doctor: what is well, what is not, and the next step."""

from datetime import timedelta

import pytest
from sqlalchemy import update

from models import ClientSecret, Heartbeat
from models.types import utc_now
from services.operating import doctor, heartbeats
from services.operating.doctor import Verdict
from services.resources import Resources


def verdicts(resources):
    """Findings by what was looked at, each with a next step unless it is well."""
    found = doctor.examine(resources)
    assert all(bool(finding.next_step) == (finding.verdict is not Verdict.OK) for finding in found)
    return {finding.what: finding.verdict for finding in found}


def beat(resources, *kinds):
    """Processes that are alive."""
    for kind in kinds:
        with resources.database.session(writing=True) as session:
            heartbeats.beat(session, f"{kind}:here:1", kind)


def test_a_sound_installation_has_nothing_but_good_findings(resources, redis_url, world):
    world.connection()
    beat(resources, "scheduler", "worker")
    assert set(verdicts(resources).values()) == {Verdict.OK}


def test_missing_processes_and_redis_are_found(resources):
    found = verdicts(resources)
    assert found["scheduler"] is found["worker"] is Verdict.BAD
    assert found["redis"] is Verdict.WARN
    with resources.database.session(writing=True) as session:
        long_ago = utc_now() - 2 * heartbeats.SILENT_AFTER
        session.add(Heartbeat(process="scheduler:there:1", kind="scheduler", seen_at=long_ago))
        session.commit()
    assert verdicts(resources)["scheduler"] is Verdict.BAD


def test_a_clock_that_runs_ahead_is_found(resources):
    with resources.database.session(writing=True) as session:
        ahead = utc_now() + heartbeats.SILENT_AFTER
        session.add(Heartbeat(process="worker:there:1", kind="worker", seen_at=ahead))
        session.commit()
    assert verdicts(resources)["clocks"] is Verdict.BAD


def test_our_own_clock_gone_wrong_is_found(resources, time_machine):
    time_machine.move_to(utc_now() + timedelta(hours=1))
    found = [finding for finding in doctor.examine(resources) if finding.what == "clocks"]
    assert found[0].verdict is Verdict.BAD
    assert found[0].words.endswith(("3600 s apart.", "3599 s apart.", "3601 s apart."))


def test_a_database_that_was_never_migrated_is_found_and_the_rest_left_alone(settings_for, empty_database_url):
    opened = Resources.open(settings_for(database_url=empty_database_url))
    found = verdicts(opened)
    opened.close()
    assert found["migrations"] is Verdict.BAD
    assert "keys" not in found


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://nobody@127.0.0.1:1/none", "sqlite:////proc/nowhere/cardkey.sqlite3"]
)
def test_a_database_that_is_away_is_found(settings_for, url):
    opened = Resources.open(settings_for(database_url=url))
    found = verdicts(opened)
    opened.close()
    assert found["database"] is Verdict.BAD


@pytest.mark.sqlite_only
def test_a_database_that_cannot_be_written_to_is_found(resources, settings_for, settings):
    reading = settings.sqlalchemy_url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
    with resources.database.session(writing=True) as session:
        session.commit()
    opened = Resources.open(settings_for(database_url=reading))
    found = verdicts(opened)
    opened.close()
    assert found["writing"] is Verdict.BAD


def test_a_secret_that_cannot_be_decrypted_is_found(resources, world):
    world.connection()
    with resources.database.session(writing=True) as session:
        session.execute(update(ClientSecret).values(value_sealed=b"\x01\x02k1" + b"x" * 40))
        session.commit()
    assert verdicts(resources)["keys"] is Verdict.BAD


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    ("settings", "what", "verdict"),
    [
        ({"public_url": "http://cards.example.com"}, "public address", Verdict.BAD),
        ({"public_url": "https://cards.example.com/cardkey"}, "public address", Verdict.BAD),
        ({"public_url": "https://cards.example.com"}, "proxies", Verdict.WARN),
        ({"public_url": "https://cards.example.com", "trusted_proxies": 1}, "proxies", None),
        ({"trusted_proxies": 1}, "proxies", Verdict.WARN),
    ],
)
def test_the_public_address_and_the_proxies_fit_together(settings_for, database_url, settings, what, verdict):
    opened = Resources.open(settings_for(**settings))
    found = verdicts(opened)
    opened.close()
    assert found.get(what) is verdict

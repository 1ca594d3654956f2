"""What machines may ask without signing in, and that it names no tenant."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from models import ConnectionState
from services.operating import heartbeats
from services.resources import Resources


def beat(resources, kind="scheduler"):
    """A process that is alive."""
    with resources.database.session(writing=True) as session:
        heartbeats.beat(session, f"{kind}:secret-host:1", kind)


def figures(client):
    """Every sample by name and label."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_readiness_has_one_entry_for_each_thing_that_is_needed(client, resources, redis_url):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert {name: entry["ok"] for name, entry in answer.json.items()} == {
        "database": True,
        "redis": True,
        "migrations": True,
        "scheduler": False,
    }
    beat(resources)
    answer = client.get("/readyz")
    assert (answer.status_code, {entry["ok"] for entry in answer.json.values()}) == (200, {True})


def test_without_redis_it_is_alive_and_not_ready(client, resources):
    beat(resources)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["redis"]["ok"]) == (503, False)
    assert client.get("/healthz").text == "ok\n"
    assert figures(client)["cardkey_redis_up",] == 0


@pytest.mark.sqlite_only
@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://nobody@127.0.0.1:1/none", "sqlite:////proc/nowhere/cardkey.sqlite3"]
)
def test_without_a_database_it_is_alive_and_not_ready(settings_for, url):
    import app

    settings = settings_for(database_url=url)
    opened = Resources.open(settings)
    client = app.build(settings, opened).test_client()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["database"]["ok"]) == (503, False)
    assert client.get("/healthz").status_code == 200
    assert figures(client)["cardkey_database_up",] == 0
    opened.close()


def test_a_database_without_its_migrations_is_not_ready(settings_for, empty_database_url):
    import app

    settings = settings_for(database_url=empty_database_url)
    opened = Resources.open(settings)
    client = app.build(settings, opened).test_client()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["database"]["ok"], answer.json["migrations"]["ok"]) == (503, True, False)
    assert figures(client)["cardkey_database_up",] == 1
    opened.close()


def test_figures_count_connections_what_is_due_and_who_is_alive(client, world, resources, redis_url, redis):
    late, fresh = world.connection(name="canary-name"), world.connection(world.globex)
    world.authorize(late)
    world.authorize(fresh)
    world.connection(state=ConnectionState.PAUSED)
    world.make_due(late)
    beat(resources)
    found = figures(client)
    assert found["cardkey_connections", "Connected"] == 2
    assert found["cardkey_connections", "Paused"] == 1
    assert found["cardkey_connections", "Misconfigured"] == 0
    assert found["cardkey_tokens_due",] == 1
    assert 0 <= found["cardkey_tokens_oldest_lateness_seconds",] < 60
    assert 0 <= found["cardkey_heartbeat_age_seconds", "scheduler"] < 60
    assert (found["cardkey_redis_up",], found["cardkey_queue_depth",]) == (1, 0)


def test_nothing_open_to_anybody_names_a_tenant_a_person_a_host_or_a_secret(client, world, resources, settings):
    connection = world.connection(name="canary-name", secret="canary-secret")
    world.authorize(connection, access_token="canary-access", refresh_token="canary-refresh")
    beat(resources)
    shown = "".join(client.get(path).text for path in ("/healthz", "/readyz", "/metrics"))
    for word in ("canary", "Acme", "Globex", "alice", "secret-host", str(world.acme.id), settings.sqlalchemy_url):
        assert word not in shown


def test_probes_are_served_under_any_host_and_change_nothing(client, resources):
    beat(resources)
    with resources.database.session() as session:
        before = session.execute(text("SELECT count(*), max(seen_at) FROM heartbeats")).one()
    for path in ("/healthz", "/readyz", "/metrics"):
        assert client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code in (200, 503)
    with resources.database.session() as session:
        assert session.execute(text("SELECT count(*), max(seen_at) FROM heartbeats")).one() == before

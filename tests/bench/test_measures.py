"""Each measurement in small: with the real processes, and with an engine that is caught when it loses something."""

import subprocess
import sys
import time
from contextlib import closing

import pytest

from bench import usage
from bench.arena import Bare, Broken, Naive, Verdict, arena
from bench.crowd import CLIENT_SECRET, identifier
from bench.endpoint import refresh_token
from bench.installation import Installation
from bench.pages import Visitor, _call, _card
from bench.peek import SETTINGS, WANTED, Field
from models import Connection, Token
from models.types import utc_now
from services.engine import client_secrets


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def place(request):
    with arena(request.param) as made:
        yield made


def test_a_crowd_is_stored_as_authorized_connections_are(place):
    crowd = place.settle(3)
    number, database = crowd.first + 1, place.installation.resources.database
    with database.session() as session:
        token = session.get_one(Token, identifier("t", number))
        connection = session.get_one(Connection, token.connection_id)
        assert token.unseal("refresh_token", database.keyring).get_secret_value() == refresh_token(number, 0)
        assert client_secrets.read(session, connection).get_secret_value() == CLIENT_SECRET
        assert token.is_valid(utc_now())
        assert token.next_refresh_at is None
        assert not connection.has_strange_grant
        assert not connection.authorization_out_of_date


def test_a_crowd_is_refreshed_by_the_real_worker_and_nothing_is_lost(place):
    before = place.judge().refreshed
    run = place.refresh(place.settle(40), 30)
    verdict = place.judge()
    verdict.demand()
    assert (run.count, verdict.refreshed - before) == (30, 30)
    assert run.rate > 1


def test_a_token_that_is_not_what_the_endpoint_gave_counts_as_lost(place):
    crowd = place.settle(2)
    database = place.installation.resources.database
    for difference, lost in ((1, 1), (-1, 0)):
        with database.session(writing=True) as session:
            session.get_one(Token, identifier("t", crowd.first)).generation += difference
            session.commit()
        assert place.judge().lost == lost


def test_a_token_that_is_left_leased_is_counted(place):
    crowd = place.settle(2)
    database = place.installation.resources.database
    for owner, leased in (("somebody", 1), (None, 0)):
        with database.session(writing=True) as session:
            session.get_one(Token, identifier("t", crowd.first)).lease_owner = owner
            session.commit()
        assert place.judge().leased == leased


@pytest.mark.parametrize("wrong", ["lost", "doubled", "leased", "open"])
def test_one_broken_promise_fails_the_run(wrong):
    right = {"refreshed": 5, "lost": 0, "doubled": 0, "leased": 0, "open": 0, "in_flight": 4}
    Verdict(**right).demand()
    with pytest.raises(Broken):
        Verdict(**right | {wrong: 1}).demand()


def test_more_in_flight_than_the_bare_loop_has_fails_the_run():
    verdict = Verdict(refreshed=5, lost=0, doubled=0, leased=0, open=0, in_flight=4)
    verdict.demand(in_flight=4)
    with pytest.raises(Broken):
        verdict.demand(in_flight=3)


def test_the_contenders_do_as_much_as_they_say(place):
    before = place.endpoint.stand()
    with closing(Bare()) as bare, closing(Naive(place, "simple", 3)) as naive:
        assert bare.run(f"http://{place.endpoint.host}/token", 50).rate > 1
        for _ in range(2):
            assert naive.run().rate > 0
        assert len(bare.calls(f"http://{place.endpoint.host}/api/x", 4)) == 4
    after = place.endpoint.stand()
    assert [after[name] - before[name] for name in ("bare", "requests", "refused", "calls")] == [50, 6, 0, 4]


def test_a_preview_calls_the_api_once_with_the_stored_token(place):
    crowd, before = place.settle(1), place.endpoint.stand()["calls"]
    assert _call(place, _card(place, crowd, f"http://{place.endpoint.host}/api/x")) < 10
    assert place.endpoint.stand()["calls"] == before + 1


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_look_leases_what_is_due_and_leaves_all_as_it_was(kind):
    with Installation(kind, SETTINGS) as installation:
        field = Field(installation, 2 * WANTED)
        assert min(field.look() for _ in range(3)) > 0


def test_a_visitor_signs_in_and_reads_a_page(place):
    crowd = place.settle(1)
    place.installation.add_portal(1)
    with closing(Visitor(place.installation, crowd.workspace_id)) as visitor:
        assert visitor.times(f"/connections/{identifier('c', crowd.first)}/status", 0.2)


def test_the_cpu_of_children_that_have_ended_counts():
    work = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7))']); input()"
    parent = subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE)
    try:
        while len(usage.family(parent.pid)) < 2:
            time.sleep(0.01)
        while len(usage.family(parent.pid)) > 1:
            time.sleep(0.01)
        assert usage.cpu([parent.pid]) >= 0.1
        assert usage.memory(parent.pid) > 1e6
    finally:
        parent.communicate(b"\n")
    assert usage.memory(parent.pid) == 0

"""A few rows of the fault matrix with real processes, and proof that the harness would notice a loss.

All of it is `make faults`, an hour long.
"""

import time

import pytest
import time_machine

from bench.faults import kills, outages
from bench.faults.kills import Kill
from bench.faults.ledger import GRACE_SECONDS, Grant, Mode
from bench.faults.provider import ACTED
from bench.faults.stage import Stage
from models import ConnectionState

pytestmark = pytest.mark.timeout(150)
GRANTS = {Mode.GRACE: 60, Mode.STRICT: 40}


@pytest.fixture(scope="module")
def stage():
    with Stage("sqlite", GRANTS) as found:
        yield found


@pytest.fixture(scope="module")
def kill(stage):
    """Both workers are killed with a hundred refreshes under way that the provider has acted on."""
    done = kills.kill_round(stage, ACTED, drop=False)
    yield done
    stage.renew(done.lost.keys() | done.unfinished)


@pytest.mark.sqlite_only
def test_a_kill_in_the_midst_of_refreshes_costs_nothing_where_the_provider_forgives(stage, kill):
    assert len(kill.at_risk) > 50
    outcome = kills.judge(stage, kill, Mode.GRACE)
    assert (outcome.note, outcome.lost) == ("", 0)


@pytest.mark.sqlite_only
def test_a_strict_provider_costs_only_what_it_had_replaced_and_each_loss_is_told(stage, kill):
    outcome = kills.judge(stage, kill, Mode.STRICT)
    assert outcome.note == ""
    assert kill.lost.keys() <= kill.window


@pytest.mark.sqlite_only
def test_the_harness_notices_what_it_is_there_to_notice(stage, kill):
    outside = Kill(kill.at, kill.at_risk, set(), dict.fromkeys(stage.numbers, "not the live token"), kill.after)
    outside.hits = outside.most_uses = dict.fromkeys(stage.numbers, 3)
    for mode in GRANTS:
        outcome = kills.judge(stage, outside, mode)
        assert not outcome.kept
        assert "lost though nothing had been replaced" in outcome.note
        assert "sent more than twice" in outcome.note
    assert "though the provider forgives" in kills.judge(stage, outside, Mode.GRACE).note
    assert any(seen.state is ConnectionState.ACTIVE for seen in kill.after.values())
    assert "shown as Connected though lost" in kills.judge(stage, outside, Mode.GRACE).note


@pytest.mark.sqlite_only
def test_a_flushed_redis_costs_nothing(stage, kill):
    stage.renew(kill.lost)
    outcomes = [*outages.redis_empty(stage, 4, False)][2:]
    assert [(outcome.part, outcome.note) for outcome in outcomes] == [("idle", ""), ("mid-job", "")]


def test_the_providers_record_tells_a_living_grant_from_a_lost_one():
    strict, reject, grace, static = (Grant(0, mode) for mode in (Mode.STRICT, Mode.REJECT, Mode.GRACE, Mode.STATIC))
    first = {grant.mode: grant.token for grant in (strict, reject, grace, static)}
    for grant in (strict, reject, grace, static):
        assert grant.use(grant.token)
    assert not static.verdict(first[Mode.STATIC])
    assert grace.verdict(first[Mode.GRACE]) and grace.use(first[Mode.GRACE]) and not grace.verdict(grace.token)
    assert not reject.use(first[Mode.REJECT]) and not reject.verdict(reject.token)
    assert not strict.use(first[Mode.STRICT]) and strict.verdict(strict.token) == "grant ended: reuse"
    with time_machine.travel(time.time() + GRACE_SECONDS + 1):
        assert not grace.use(first[Mode.GRACE])

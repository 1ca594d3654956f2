"""A reply nobody could read: kept, waited for, used once its mapping is mended, erased. P6, TK-04, TK-05, SS-07."""

import json
from datetime import timedelta

import pytest
from werkzeug.wrappers import Response

from models import AuditEntry, Connection, ConnectionState, Outcome, Refresh, Trigger
from models.types import utc_now
from oauth.vocabulary import ClientAuthMethod, FailureClass, GrantType, OAuthFailure, Rotation
from services.audit import Actor
from services.authorizing import grants
from services.engine import habits, kept_replies, tokens
from services.errors import Refused
from services.operating import housekeeping, refreshes
from services.setup import connections, replays, reply_shapes
from tests.support.together import at_once

ODD = {"data": {"token": "new-access-token", "renew_token": "new-refresh-token", "ttl": 600}}
MAPPING = {"access_token": "data.token", "refresh_token": "data.renew_token", "expires_in": "data.ttl"}


@pytest.fixture
def connection(world, stub):
    made = world.connection(
        token_endpoint=stub.url_for("/token"), token_endpoint_auth_method=ClientAuthMethod.BASIC, revocation_endpoint=""
    )
    world.authorize(made, access_token="old-access", refresh_token="old-refresh")
    return made


@pytest.fixture
def actor(world):
    return Actor.person(world.alice)


@pytest.fixture
def refresh(resources, connection, stub):
    """Refresh once, answered with this; returns the failure, if there was one."""

    def refresh(body, status=200, kind="application/json", connection=connection):
        text = body if isinstance(body, str | bytes) else json.dumps(body)
        reply = Response(text, status=status, content_type=kind)
        stub.expect_oneshot_request("/token").respond_with_handler(lambda _request: reply)
        try:
            tokens.refresh(resources, connection.id, Trigger.MANUAL)
        except OAuthFailure as failure:
            return failure
        return None

    return refresh


@pytest.fixture
def breaking(stub):
    """Have the stub send so much of a reply, announce more, and break off."""

    def breaking(body):
        reply = Response(
            iter([body.encode()]), headers={"Content-Length": str(len(body) + 99)}, content_type="application/json"
        )
        stub.expect_oneshot_request("/token").respond_with_handler(lambda _request: reply)

    return breaking


@pytest.fixture
def mend(resources, world, connection):
    """Set columns of the connection, as an edit does."""

    def mend(connection=connection, **columns):
        with resources.database.session(writing=True) as session:
            row = session.get_one(Connection, connection.id)
            row.sqlmodel_update(columns)
            row.version += 1
            grants.after_change(session, row, tokens.current_token(session, row), asks_anew=True)
            session.commit()

    return mend


@pytest.fixture
def use(resources, actor, connection):
    """Use the newest kept reply; returns what was said."""

    def use(connection=connection, refresh_id=None):
        with resources.database.session() as session:
            kept = kept_replies.of(session, connection, tokens.current_token(session, connection))
        return replays.use(resources, actor, connection.id, refresh_id or kept[0].id)

    return use


def kept(world, connection):
    return [row for row in world.all(Refresh, connection_id=connection.id) if row.raw_reply_sealed is not None]


def test_a_reply_that_may_hold_the_only_valid_token_is_waited_for_and_used(
    world, resources, session, connection, refresh, mend, use, stub
):
    """P6: nothing is sent until somebody has said where the token is, and then nothing is lost."""
    assert refresh(ODD).may_hold_token
    stored = world.reread(connection)
    assert stored.state is ConnectionState.MISCONFIGURED
    assert stored.awaits_replay
    assert world.token(connection).next_refresh_at is None
    asked = refreshes.refresh_now(session, resources.settings, [stored], None, Actor.person(world.alice))
    assert "only valid refresh token" in asked.skipped[connection.id]
    with pytest.raises(OAuthFailure):
        tokens.access(resources, world.acme.id, connection.id, refused=world.token(connection).generation)
    assert tokens.drain(resources, 1) == 0
    with pytest.raises(Refused, match="still cannot be used"):
        use()

    mend(reply_mapping=MAPPING)
    assert world.reread(connection).awaits_replay  # saving alone sends nothing
    assert world.token(connection).next_refresh_at is None
    assert use() == replays.USED
    assert world.access_token(connection) == "new-access-token"
    assert world.refresh_token(connection) == "new-refresh-token"
    assert world.reread(connection).state is ConnectionState.ACTIVE
    assert world.reread(connection).failure_class is None
    [row] = world.all(Refresh, connection_id=connection.id)
    assert (row.outcome, row.raw_reply_sealed, row.failure_class) == (Outcome.STORED, None, None)
    assert row.rotated
    token = world.token(connection)
    assert token.rotation is Rotation.ALWAYS
    assert token.lifetime == 600
    assert token.next_refresh_at > utc_now()
    assert [request.path for request, _reply in stub.log] == ["/token"]
    refresh({"access_token": "third"})
    assert stub.log[-1][0].form["refresh_token"] == "new-refresh-token"
    [entry] = world.all(AuditEntry, action="connection.reply_used")
    assert entry.actor == "alice@acme.example"


def test_it_counts_from_the_moment_it_came(world, connection, refresh, mend, use, time_machine):
    """P8."""
    refresh(ODD)
    came = kept(world, connection)[0].closed_at
    mend(reply_mapping=MAPPING)
    time_machine.move_to(utc_now() + timedelta(seconds=400), tick=True)
    assert use() == replays.USED
    token = world.token(connection)
    assert token.received_at == came
    assert abs((token.expires_at - came).total_seconds() - 600) < 1


def test_one_that_has_run_out_meanwhile_is_refreshed_with_what_it_brought(
    world, connection, refresh, mend, use, time_machine
):
    refresh(ODD)
    mend(reply_mapping=MAPPING)
    time_machine.move_to(utc_now() + timedelta(seconds=700), tick=True)
    assert use() == replays.USED_AND_DUE
    assert world.refresh_token(connection) == "new-refresh-token"
    assert world.reread(connection).state is ConnectionState.ACTIVE, "nothing has failed"
    assert world.token(connection).next_refresh_at <= utc_now()


def test_one_that_has_run_out_and_brings_no_refresh_token_is_refused(
    world, connection, refresh, mend, use, time_machine
):
    refresh({"t": "a-token-of-some-length", "ttl": 60})
    world.set_token(connection, refresh_token_sealed=None)
    mend(reply_mapping={"access_token": "t", "expires_in": "ttl"})
    time_machine.move_to(utc_now() + timedelta(seconds=61), tick=True)
    with pytest.raises(Refused, match="run out"):
        use()


def test_a_newer_token_wins_over_a_kept_reply(world, connection, refresh, mend, use, resources):
    world.set_token(connection, rotation=Rotation.NEVER)
    refresh({"data": {"token": "new-access-token", "ttl": 600}})
    assert world.reread(connection).state is ConnectionState.DEGRADED  # such a provider is asked again
    assert world.token(connection).next_refresh_at is not None
    [old] = kept(world, connection)
    with resources.database.session(writing=True) as session:  # as when it came by another way
        token = tokens.current_token(session, connection)
        token.generation += 1
        session.commit()
    mend(reply_mapping=MAPPING)
    with pytest.raises(Refused, match="newer token"):
        use(refresh_id=old.id)
    assert refresh({"access_token": "third"}) is None
    with resources.database.session(writing=True) as session:
        housekeeping.kept_replies(session, resources.settings)
    assert kept(world, connection) == []
    with pytest.raises(Refused, match="no longer kept"):
        use(refresh_id=old.id)
    assert world.access_token(connection) == "third"


def test_a_refresh_under_way_is_waited_for(world, connection, refresh, mend, use):
    refresh(ODD)
    mend(reply_mapping=MAPPING)
    world.set_token(connection, lease_owner="somebody", lease_until=utc_now() + timedelta(seconds=30))
    with pytest.raises(Refused, match="being refreshed"):
        use()
    assert world.access_token(connection) == "old-access"


def test_another_client_gets_nothing_of_it(world, connection, refresh, mend, use):
    refresh(ODD)
    mend(reply_mapping=MAPPING, client_id="somebody else")
    with pytest.raises(Refused, match="another client"):
        use()


@pytest.mark.parametrize(
    ("body", "kind"),
    [("<html>Sign in to the Wi-Fi</html>", "text/html"), ("", "application/json"), ('{"data": {"tok', "text/plain")],
)
def test_what_cannot_hold_a_token_is_tried_again_by_itself(world, connection, refresh, body, kind):
    assert not refresh(body, kind=kind).may_hold_token
    assert world.reread(connection).state is ConnectionState.DEGRADED
    assert world.token(connection).next_refresh_at > utc_now()
    assert bool(kept(world, connection)) is body.startswith("{")  # there is nothing to point at in the others


GOOD = {"access_token": "new-access", "token_type": "Bearer", "expires_in": 600}
OVERLOOKED = {
    "by another name": (json.dumps({**GOOD, "renewal_token": "new-refresh"}), {"refresh_token": "renewal_token"}),
    "of which one": (
        json.dumps({**GOOD, "refresh_token": ["other-refresh", "new-refresh"]}),
        {"refresh_token": "refresh_token[1]"},
    ),
    "beside ours": (
        json.dumps({**GOOD, "refresh_token": "old-refresh", "next": {"refresh_token": "new-refresh"}}),
        {"refresh_token": "next.refresh_token"},
    ),
    "of two objects": (
        json.dumps({**GOOD, "refresh_token": "a"}) + json.dumps({**GOOD, "refresh_token": "new-refresh"}),
        {"access_token": "[1].access_token", "refresh_token": "[1].refresh_token"},
    ),
    "half a character": (json.dumps(GOOD)[:-1] + ', "refresh_token": "new-\\ud800"}', None),
    "XML": ("<o><access_token>new-a1</access_token><refresh_token>new-r1</refresh_token></o>", None),
    "YAML": ("access_token: new-a1\nrefresh_token: new-r1\n", None),
}


@pytest.mark.parametrize(("body", "mapping"), OVERLOOKED.values(), ids=OVERLOOKED)
@pytest.mark.parametrize("rotation", [Rotation.UNSEEN, Rotation.NEVER])
def test_a_new_refresh_token_that_is_not_understood_is_waited_for(
    world, resources, connection, refresh, mend, use, stub, body, mapping, rotation
):
    """Nothing is sent again, whatever was known of the provider, and nobody is told that it has replaced nothing."""
    world.set_token(connection, rotation=rotation)
    failure = refresh(body)
    assert failure.may_hold_token
    assert failure.brings_refresh_token
    assert world.reread(connection).awaits_replay
    token = world.token(connection)
    assert token.next_refresh_at is None
    assert tokens.drain(resources, 1) == 0
    assert "not replaced" not in habits.words(token.rotation, token.reuse)
    assert len(stub.log) == 1
    assert len(kept(world, connection)) == 1
    if mapping is None:
        with pytest.raises(Refused):
            use()
        return
    mend(reply_mapping=mapping)
    assert use() == replays.USED
    assert world.refresh_token(connection) == "new-refresh"
    assert world.access_token(connection) == "new-access"


def test_a_refresh_token_that_an_admin_calls_none_is_none(world, connection, refresh, mend, use):
    refresh({**GOOD, "authed_user": {"access_token": "theirs", "refresh_token": "theirs-too"}})
    mend(reply_mapping={"refresh_token": "''"})
    assert use() == replays.USED
    assert world.refresh_token(connection) == "old-refresh"


def test_a_reply_over_the_limit_is_used_as_far_as_it_was_read(world, resources, connection, refresh):
    pad = "p" * resources.token_limits.max_bytes
    assert refresh({**GOOD, "refresh_token": "new-refresh", "pad": pad}) is None
    assert world.refresh_token(connection) == "new-refresh"
    failure = refresh({"refresh_token": "third-refresh", "pad": pad, "access_token": "third"})
    assert "KiB" in str(failure)
    assert world.reread(connection).awaits_replay
    assert len(kept(world, connection)) == 1
    assert tokens.drain(resources, 1) == 0


def test_what_arrived_of_a_reply_that_broke_off_counts_if_it_brings_a_refresh_token(
    world, resources, connection, breaking
):
    whole = json.dumps({**GOOD, "refresh_token": "new-refresh"})
    breaking(whole)
    tokens.refresh(resources, connection.id, Trigger.MANUAL)
    assert world.refresh_token(connection) == "new-refresh"
    assert world.reread(connection).state is ConnectionState.ACTIVE
    breaking(whole[:40])
    with pytest.raises(OAuthFailure) as caught:
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    assert caught.value.failure_class is FailureClass.UNKNOWN
    assert world.token(connection).next_refresh_at is not None  # in doubt: one more try


def test_without_a_refresh_token_nothing_can_be_lost_by_trying_again(world, stub, refresh):
    machine = world.connection(
        grant_type=GrantType.CLIENT_CREDENTIALS,
        token_endpoint=stub.url_for("/token"),
        token_endpoint_auth_method=ClientAuthMethod.BASIC,
    )
    world.authorize(machine, refresh_token=None)
    refresh(ODD, connection=machine)
    assert world.reread(machine).state is ConnectionState.DEGRADED


def test_it_waits_although_somebody_saved_while_it_was_on_its_way(world, resources, connection, mend, stub):
    def answer(_request):
        mend(name="Another name")
        return Response(json.dumps(ODD), content_type="application/json")

    stub.expect_request("/token").respond_with_handler(answer)
    with pytest.raises(OAuthFailure):
        tokens.refresh(resources, connection.id, Trigger.MANUAL)
    assert world.reread(connection).awaits_replay
    assert world.token(connection).next_refresh_at is None
    assert tokens.drain(resources, 1) == 0


def test_giving_up_erases_it_and_tries_the_old_refresh_token_once_more(
    world, resources, connection, refresh, actor, stub
):
    refresh(ODD)
    assert replays.give_up(resources, actor, connection.id) == replays.TRYING
    assert kept(world, connection) == []
    stored = world.reread(connection)
    assert stored.state is ConnectionState.DEGRADED
    assert "tries the old refresh token once more" in stored.next_step
    stub.expect_oneshot_request("/token").respond_with_json({"error": "invalid_grant"}, status=400)
    assert tokens.drain(resources, 1) == 1
    assert stub.log[-1][0].form["refresh_token"] == "old-refresh"
    assert world.reread(connection).state is ConnectionState.REAUTH_REQUIRED
    assert [entry.actor for entry in world.all(AuditEntry, action="connection.reply_given_up")] == [actor.name]
    assert replays.give_up(resources, actor, connection.id) == replays.GIVEN_UP


@pytest.mark.parametrize("how", ["disconnect", "delete", "host"])
def test_a_kept_reply_goes_with_its_grant(world, resources, connection, refresh, actor, session, how):
    """SS-07."""
    refresh(ODD)
    if how == "host":
        with resources.database.session(writing=True) as writing:
            row = writing.get_one(Connection, connection.id)
            grants.forget(writing, row, tokens.current_token(writing, row))
            writing.commit()
    else:
        getattr(connections, how)(resources, actor, connection.id)
    assert kept(world, connection) == []


def test_housekeeping_erases_it_when_failures_are_old_and_the_old_token_can_still_be_tried(
    world, resources, connection, refresh, actor, mend, time_machine
):
    refresh(ODD)
    days = resources.settings.journal_failures_days
    time_machine.move_to(utc_now() + timedelta(days=days, hours=-1), tick=True)
    with resources.database.session(writing=True) as session:
        assert housekeeping.kept_replies(session, resources.settings) == 0
    time_machine.move_to(utc_now() + timedelta(hours=2), tick=True)
    with resources.database.session(writing=True) as session:
        assert housekeeping.kept_replies(session, resources.settings) == 1
    assert kept(world, connection) == []
    assert world.reread(connection).awaits_replay
    mend(scope="another")
    assert world.token(connection).next_refresh_at is not None


def test_what_a_page_shows_of_it_holds_no_value_that_could_be_a_secret(world, session, connection, refresh):
    """SS-03."""
    refresh(
        {
            "ok": True,
            "data": {
                "token": "new-access-token",
                "pin": 1234,
                "issued": "2026-11-24T10:00:00Z",
                "expires_at": 1764000000,
            },
            "8f14e45fceea167a5a36dedd4bea2543": "secret-as-value",
            "list": [{"refreshToken": "another-secret", "short": "ab"}],
            "nothing": None,
        }
    )
    token = world.token(connection)
    [shown] = replays.shown(session, world.reread(connection), token)

    def texts(node):
        yield from (node.name, node.text, node.path)
        for child in node.children:
            yield from texts(child)

    found = [text for text in texts(shown.tree) if text]
    everything = " ".join(found)
    for secret in ("new-access", "1234", "8f14e4", "secret-as-value", "another-secret", '"ab"'):
        assert secret not in everything, secret
    for plain in ("true", "null", "2026-11-24T10:00:00Z", "1764000000", "data.token", "••• text of 16 characters"):
        assert plain in found, plain
    assert shown.suggestions == ["access_token=data.token", "refresh_token=list[0].refreshToken"]
    assert shown.problem
    [line] = [text for text in reply_shapes.suggestions(ODD) if text.startswith("expires_in")]
    assert line == "expires_in=data.ttl"
    assert "new-access" not in repr(shown)


def test_two_presses_store_it_once(world, resources, connection, refresh, mend, use):
    refresh(ODD)
    mend(reply_mapping=MAPPING)
    [row] = kept(world, connection)
    use(refresh_id=row.id)
    before = world.token(connection).generation
    with pytest.raises(Refused, match="no longer kept"):
        use(refresh_id=row.id)
    assert world.token(connection).generation == before


def test_of_eight_presses_at_once_one_stores_it_and_a_refresh_beside_them_spends_nothing(
    world, resources, connection, refresh, mend, actor, stub
):
    refresh(ODD)
    mend(reply_mapping=MAPPING)
    [row] = kept(world, connection)

    def press(number):
        if number == 8:
            return tokens.drain(resources, 0.5)
        try:
            return replays.use(resources, actor, connection.id, row.id)
        except Refused as problem:
            return str(problem)

    said = at_once(9, press)
    assert said.count(replays.USED) == 1
    assert said.count(replays.GONE) == 7
    assert said[-1] == 0
    assert world.token(connection).generation == row.generation + 1
    assert world.refresh_token(connection) == "new-refresh-token"
    assert len(stub.log) == 1


def test_a_foreign_reply_is_none_of_this_connection(world, connection, refresh, use):
    refresh(ODD)
    [row] = kept(world, connection)
    other = world.connection(world.globex)
    with pytest.raises(Refused, match="no longer kept"):
        use(connection=other, refresh_id=row.id)

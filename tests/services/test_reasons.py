"""Whatever happens to a connection: one that is shown as failing says why, and what to do about it."""

import itertools

import pytest
from pydantic import SecretStr
from sqlalchemy import delete

from models import Connection, ConnectionState, ProviderHost, Token, Trigger
from models.types import Undecryptable, utc_now
from oauth.vocabulary import FailureClass, GrantType, OAuthFailure
from services.audit import Actor
from services.authorizing import exchanges
from services.engine import advice, leases, settle, states, tokens
from services.operating import pauses, refreshes
from services.setup import connections, replays
from services.setup.configuration import Configuration
from tests.support.world import token_reply

SHOWN = ("Refresh failing", "Needs authorization", "Misconfigured")
LONGEST = 2
"""Of the ways that are walked."""
NUMBERS = itertools.count()


def failure(kind, **more):
    return OAuthFailure("refresh", kind, "It failed.", **more)


class Happenings:
    """Everything that people and processes do to a connection, by the verbs that do it."""

    def __init__(self, world, resources, connection):
        self.world, self.resources, self.connection = world, resources, connection
        self.actor = Actor.person(world.alice)
        unusable = failure(FailureClass.REPLY_UNUSABLE, raw=SecretStr("odd"), may_hold_token=True)
        answers = {
            "answered": token_reply("at-2", "rt-2"),
            "down": failure(FailureClass.PROVIDER_DOWN),
            "throttled": failure(FailureClass.THROTTLED),
            "lost": failure(FailureClass.UNKNOWN),
            "refused": failure(FailureClass.CLIENT_BAD, code="invalid_client"),
            "ended": failure(FailureClass.GRANT_DEAD, code="invalid_grant"),
            "unreadable": unusable,
        }
        self.acts = {
            **{name: lambda answer=answer: self.ask(answer) for name, answer in answers.items()},
            "renamed": lambda: self.save(name=f"Shop, again {next(NUMBERS)}"),
            "saved": lambda: self.save(scope=f"orders.{next(NUMBERS)}"),
            "another secret": lambda: self.save(client_secret=SecretStr(f"secret {next(NUMBERS)}")),
            "another client": lambda: self.save(client_id="another"),
            "its own client": lambda: self.save(client_id=connection.client_id),
            "another host": lambda: self.save(
                token_endpoint="https://other.example/t", client_secret=SecretStr("for the new host")
            ),
            "run out": self.run_out,
            "paused": lambda: self.with_rows(lambda session, row, _: pauses.pause(session, self.actor, [row.id])),
            "resumed": lambda: self.with_rows(
                lambda session, row, _: pauses.resume(session, resources.settings, self.actor, [row.id])
            ),
            "pressed": lambda: self.with_rows(
                lambda session, row, _: refreshes.refresh_now(session, resources.settings, [row], None, self.actor)
            ),
            "given up": lambda: replays.give_up(resources, self.actor, connection.id),
            "damaged": lambda: self.with_rows(
                lambda session, row, token: states.fail_closed(session, row, token, Undecryptable("is damaged"))
            ),
            "deadly": lambda: self.with_rows(
                lambda session, row, token: states.quarantine(session, resources.settings, row, token)
            ),
            "spoiled": lambda: self.with_rows(
                lambda session, row, token: exchanges._spoil(session, row, token, failure(FailureClass.CLIENT_BAD))
            ),
            "disconnected": lambda: connections.disconnect(resources, self.actor, connection.id),
        }

    def with_rows(self, act):
        with self.resources.database.session(writing=True) as session:
            row = session.get_one(Connection, self.connection.id)
            act(session, row, tokens.current_token(session, row))
            session.commit()

    def ask(self, answer):
        """A refresh with this answer, where one is sent."""
        self.world.set_token(self.connection, lease_owner=None, lease_until=None)
        with self.resources.database.session(writing=True) as session:
            settings = self.resources.settings
            claim = leases.claim_one(session, settings, self.connection.id, Trigger.MANUAL, None, None)
        if isinstance(claim, leases.Claim):
            settle.persist(self.resources, [(claim, answer)])

    def save(self, **changes):
        with self.resources.database.session(writing=True) as session:
            row = session.get_one(Connection, self.connection.id)
            fields = {name: getattr(row, name) for name in Configuration.__dataclass_fields__ if hasattr(row, name)}
            connections.save(
                session,
                self.resources.http.policy,
                self.actor,
                row.workspace_id,
                Configuration(**{**fields, "client_secret": None, **changes}),
                settings=self.resources.settings,
                existing=row,
                version=row.version,
            )

    def run_out(self):
        """Time passes: the access token ends."""
        if self.world.token(self.connection).access_token_sealed is not None:
            self.world.set_token(self.connection, expires_at=utc_now())

    def stands(self):
        return self.world.reread(self.connection), self.world.token(self.connection)

    def put_back(self, connection, token):
        """Connection and token as they were, and nothing held against their provider's host."""
        with self.resources.database.session(writing=True) as session:
            for model, row in ((Connection, connection), (Token, token)):
                session.get_one(model, row.id).sqlmodel_update(row.model_dump())
            session.execute(delete(ProviderHost))
            session.commit()


def outline(connection, token):
    """What decides how it goes on."""
    return (
        connection.state,
        connection.paused_from,
        connection.failure_class,
        connection.failure_code,
        connection.has_strange_grant,
        token.is_valid(utc_now()),
        states.renewable(connection, token),
        token.access_token_sealed is None,
    )


@pytest.mark.parametrize("grant_type", list(GrantType))
def test_what_is_shown_as_failing_says_why_and_what_to_do(world, resources, grant_type):
    """Every state that some way of at most two happenings leads to, and every happening in each of them."""
    made = world.connection(grant_type=grant_type, revocation_endpoint="", introspection_endpoint="")
    world.authorize(made, refresh_token="rt" if grant_type is GrantType.AUTHORIZATION_CODE else None)
    it = Happenings(world, resources, made)
    seen, now = {outline(*it.stands()): ()}, [(it.stands(), ())]
    for _ in range(LONGEST):
        then = []
        for (rows, way), name in itertools.product(now, it.acts):
            it.put_back(*rows)
            it.acts[name]()
            connection, token = it.stands()
            told = (*way, name)
            if connection.state.shown in SHOWN or (connection.paused_from or connection.state).shown in SHOWN:
                assert connection.failure_class is not None, told
                assert connection.failure_reason, told
                assert connection.failed_at is not None, told
                assert advice.next_step(connection, token), told
            if connection.state is ConnectionState.ACTIVE:
                assert connection.failure_class in (None, FailureClass.THROTTLED), told
            if outline(connection, token) not in seen:
                seen[outline(connection, token)] = told
                then.append(((connection, token), told))
        now = then
    shown = {key[0].shown for key in seen}
    assert shown >= {*SHOWN, "Connected", "Not authorized", "Paused"}

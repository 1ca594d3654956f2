"""One installation and one provider with grants in all modes, and the verbs that rows are written in."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr
from sqlalchemy import Row, delete, select, update
from sqlmodel import col

import outbound
from bench.faults.edges import Edges
from bench.faults.ledger import CLIENT_SECRET, COPIES, HOSTS, Mode
from bench.faults.remote import Remote
from bench.installation import Installation, Process, accepts, wait_for
from models import (
    ClientSecret,
    Connection,
    ConnectionState,
    Heartbeat,
    Outcome,
    ProviderHost,
    Refresh,
    Slot,
    Token,
    Workspace,
)
from models.types import Place, utc_now
from oauth.vocabulary import ClientAuthMethod, GrantType, LifetimeRung, RefreshKind

LEASE, DEADLINE = 8.0, 4.0
SHRUNK = {
    "tick": "0.2",
    "token_deadline": str(DEADLINE),
    "connect_deadline": "2",
    "lease": str(LEASE),
    "retry_first": "0.5",
    "retry_longest": "2",
    "manual_cooldown": "0",
    "caller_wait": "6",
    "drain_time": "10",
    "breaker_first": "1",
    "breaker_longest": "4",
    "host_concurrency": "1000",
    "strict_concurrency": "1000",
}
"""The ladder of times at a fifth, so that a lease's end takes seconds; lease and deadline keep their ratio.

What keeps few in flight at strict providers is switched off: here many have to be at risk.
"""
RECOVERY_SHARE = 60.0 / 40.0
"""T5 in leases: 60 s where a lease lasts 40 s."""
START_ALLOWANCE = 3.0
"""A Python process takes as long to start with short leases as with long ones."""
LIFETIME = 3600.0
SMALL_DISK = "16m"
ENDED = (ConnectionState.REAUTH_REQUIRED, ConnectionState.MISCONFIGURED)
EVERYBODY = dict.fromkeys(Mode, 40)


@dataclass(frozen=True)
class Item:
    """A grant of the provider and the connection that has it."""

    number: int
    mode: Mode
    workspace_id: uuid.UUID
    connection_id: uuid.UUID
    token_id: uuid.UUID
    case: str = ""
    """What it is for, where connections differ."""


@dataclass(frozen=True)
class Seen:
    """How one connection is stored."""

    generation: int
    refresh_token: str
    access_token: str
    state: ConnectionState
    reason: str
    next_refresh_at: datetime | None
    leased: bool
    expires_at: datetime | None
    failed: bool
    """Whether a failure is on record."""

    @property
    def is_interrupted(self) -> bool:
        """Whether it says that an interrupted refresh cost the grant."""
        return self.state is ConnectionState.REAUTH_REQUIRED and "interrupted" in self.reason


class Stage:
    """What a row plays on."""

    def __init__(
        self,
        kind: str,
        mix: Mapping[Mode, int] | None = None,
        *,
        workers: int = 2,
        portal: bool = False,
        settings: Mapping[str, str] | None = None,
        small_disk: bool = False,
        edges: bool = False,
    ) -> None:
        """Everything running, every connection authorized and nothing due."""
        self.kind = kind
        self.installation = Installation(kind, SHRUNK, disk=SMALL_DISK if small_disk else "")
        self.provider = Remote(self.installation.folder)
        address = f"localhost:{self.provider.port}"
        self.base = f"http://{address}"
        self.host = address
        hosts = [address, *(f"127.0.0.{number}:{self.provider.port}" for number in range(1, HOSTS + 1))]
        self.edges = Edges(self.installation.folder, self.provider, COPIES) if edges else None
        if self.edges is not None:
            hosts += self.edges.allowed
            self.installation.variables["SSL_CERT_FILE"] = str(self.edges.trusted)
        self.installation.change(outbound_allow=",".join(hosts), **dict(settings or {}))
        self.workspace = self._workspace()
        self.items: list[Item] = []
        self.workers: list[Process] = []
        self.portal: Process | None = None
        try:
            for mode, count in (EVERYBODY if mix is None else mix).items():
                self.add(mode, count)
            self.scheduler = self.installation.add_scheduler()
            self.workers += [self.installation.add_worker() for _ in range(workers)]
            self.portal = self.installation.add_portal() if portal else None
            self.wait_until_up()
        except BaseException:
            self.close()
            raise

    @property
    def lease(self) -> float:
        """Seconds."""
        return self.installation.resources.settings.lease

    @property
    def patience(self) -> float:
        """The longest a recovery may take here."""
        return self.lease * RECOVERY_SHARE + START_ALLOWANCE

    @property
    def numbers(self) -> list[int]:
        """Of all grants."""
        return [item.number for item in self.items]

    def wait_until_up(self) -> None:
        """Wait until scheduler and workers have shown that they live."""
        everybody = [self.scheduler, *self.workers]

        def alive() -> bool:
            ended = [process.name for process in everybody if not process.is_running()]
            if ended:
                raise RuntimeError(f"{ended[0]} ended:\n{self.installation.said()[-3000:]}")
            with self.installation.resources.database.session() as session:
                names = session.execute(select(col(Heartbeat.process))).scalars()
                return {process.pid for process in everybody} <= {int(name.rpartition(":")[2]) for name in names}

        wait_for(alive, "the processes do not start", 60.0)

    def wait_until_served(self) -> None:
        """Wait until the portal answers."""
        wait_for(lambda: accepts(self.installation.port), "the portal does not answer", 60.0)

    def add(self, mode: Mode, count: int, *, case: str = "", **columns: Any) -> list[Item]:
        """More consents with their connections."""
        grants = self.provider.add(mode, count)
        added = self._connect(mode, [grant["number"] for grant in grants], case, columns)
        tokens = {grant["number"]: (grant["token"], grant["access"]) for grant in grants}
        self.items += added
        self.authorize(added, tokens)
        return added

    def authorize(self, items: Sequence[Item], tokens: Mapping[int, tuple[str, str]]) -> None:
        """Store tokens as a callback would have: a new generation, connected, not due for long."""
        database, now = self.installation.resources.database, utc_now()
        with database.session(writing=True) as session:
            for item in items:
                connection = session.get_one(Connection, item.connection_id)
                token = session.get_one(Token, item.token_id)
                refresh, access = tokens[item.number]
                token.seal("refresh_token", SecretStr(refresh), database.keyring)
                token.seal("access_token", SecretStr(access), database.keyring)
                token.generation, token.failures, token.interruptions, token.held = token.generation + 1, 0, 0, False
                token.received_at, token.expires_at = now, now + timedelta(seconds=LIFETIME)
                token.lifetime_rung, token.token_type = LifetimeRung.REPLY, "Bearer"
                token.next_refresh_at, token.lease_owner, token.lease_until = token.expires_at, None, None
                connection.state, connection.authorized_at = ConnectionState.ACTIVE, now
                connection.authorized_client = connection.client
                connection.authorized_fingerprint = connection.fingerprint()
                connection.clear_failure()
            session.commit()

    def renew(self, numbers: Iterable[int]) -> None:
        """Consent anew for grants that were lost."""
        wanted = list(numbers)
        if not wanted:
            return
        grants = self.provider.ask("renew", numbers=wanted)
        items = [item for item in self.items if item.number in set(wanted)]
        self.authorize(items, {grant["number"]: (grant["token"], grant["access"]) for grant in grants})

    def make_due(self, items: Sequence[Item] | None = None, **columns: Any) -> None:
        """Let tokens be due now."""
        self.set_tokens(items, next_refresh_at=utc_now(), **columns)

    def set_tokens(self, items: Sequence[Item] | None = None, **columns: Any) -> None:
        """Change columns of token rows."""
        ids = sorted(item.token_id for item in (self.items if items is None else items))
        with self.installation.resources.database.session(writing=True) as session:
            # Locked before and in one order, since workers may be at the same rows.
            session.execute(
                select(col(Token.id)).where(col(Token.id).in_(ids)).order_by(col(Token.id)).with_for_update()
            )
            session.execute(update(Token).where(col(Token.id).in_(ids)).values(**columns))
            session.commit()

    def look(self, items: Sequence[Item] | None = None) -> dict[int, Seen]:
        """How connections are stored now, by number of their grant."""
        by_id = {item.connection_id: item for item in (self.items if items is None else items)}
        query = (
            select(Token, col(Connection.state), col(Connection.failure_reason), col(Connection.failure_class))
            .join(Connection, col(Connection.id) == col(Token.connection_id))
            .where(col(Token.slot) == Slot.CURRENT)
        )
        with self.installation.resources.database.session() as session:
            rows = session.execute(query).all()
        now = utc_now()
        return {
            by_id[token.connection_id].number: Seen(
                token.generation,
                self._plain(token, "refresh_token"),
                self._plain(token, "access_token"),
                state,
                reason,
                token.next_refresh_at,
                token.is_leased(now),
                token.expires_at,
                failure is not None,
            )
            for token, state, reason, failure in rows
            if token.connection_id in by_id
        }

    def wait_done(self, before: Mapping[int, Seen], seconds: float, pause: float = 0.2) -> set[int]:
        """Wait until each of `before` has a newer token or was given up; returns those that have not."""
        until = time.monotonic() + seconds
        by_id = {item.connection_id: item.number for item in self.items if item.number in before}
        while True:
            waiting = {
                by_id[row.connection_id]
                for row in self._glance()
                if row.connection_id in by_id
                and (
                    (row.lease_until is not None and row.lease_until > utc_now())
                    or (row.generation == before[by_id[row.connection_id]].generation and row.state not in ENDED)
                )
            }
            if not waiting or time.monotonic() > until:
                return waiting
            time.sleep(pause)

    def _glance(self) -> Sequence[Row[Any]]:
        """What tells of every connection whether something is under way; looked at often, so it has to be cheap."""
        columns: list[Any] = [Token.connection_id, Token.generation, Token.lease_until, Token.next_refresh_at]
        query = (
            select(*columns, col(Connection.state))
            .join(Connection, col(Connection.id) == col(Token.connection_id))
            .where(col(Token.slot) == Slot.CURRENT)
        )
        with self.installation.resources.database.session() as session:
            return session.execute(query).all()

    def wait_until_still(self, seconds: float) -> None:
        """Wait until nothing is leased or due, or so long: a press of Refresh now may come after everything else."""
        until, moving = time.monotonic() + seconds, True
        while moving and time.monotonic() < until:
            time.sleep(0.1)
            now = utc_now()
            moving = any(
                (row.lease_until is not None and row.lease_until > now)
                or (row.state not in ENDED and row.next_refresh_at is not None and row.next_refresh_at <= now)
                for row in self._glance()
            )

    def forget_hosts(self) -> None:
        """Nothing is known of any provider's host, as when they have all been well for long."""
        with self.installation.resources.database.session(writing=True) as session:
            session.execute(delete(ProviderHost))
            session.commit()

    def closed_since(self, moment: float) -> dict[int, float]:
        """When each grant's last refresh since `moment` was stored or given up, in seconds of the clock."""
        by_id = {item.connection_id: item.number for item in self.items}
        query = select(col(Refresh.connection_id), col(Refresh.closed_at)).where(
            col(Refresh.closed_at) > datetime.fromtimestamp(moment, UTC),
            col(Refresh.outcome).in_((Outcome.STORED, Outcome.FAILED)),
        )
        with self.installation.resources.database.session() as session:
            rows = session.execute(query).all()
        found: dict[int, float] = {}
        for connection_id, closed_at in rows:
            number = by_id.get(connection_id)
            if number is not None:
                found[number] = max(found.get(number, 0.0), closed_at.timestamp())
        return found

    def lost(self, seen: Mapping[int, Seen]) -> dict[int, str]:
        """Grants whose next refresh would fail with what is stored, and why."""
        return self.provider.judge({number: entry.refresh_token for number, entry in seen.items()})

    def busiest(self) -> Process:
        """The worker that holds most leases; they are signed with the number of their process."""
        with self.installation.resources.database.session() as session:
            owners = session.execute(select(col(Token.lease_owner)).where(col(Token.lease_owner).is_not(None))).all()
        held = Counter(part for (owner,) in owners for part in str(owner).split(":"))
        return max(self.workers, key=lambda worker: held[str(worker.pid)])

    def restart_workers(self) -> None:
        """Start the workers that do not run, as a supervisor would."""
        for worker in self.workers:
            if not worker.is_running():
                worker.start()

    def close(self) -> None:
        """End everything."""
        self.installation.close()
        self.provider.close()
        if self.edges is not None:
            self.edges.close()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _plain(self, token: Token, field: str) -> str:
        sealed = getattr(token, f"{field}_sealed")
        if sealed is None:
            return ""
        place = Place(token.workspace_id, "tokens", token.id, field)
        return self.installation.resources.database.keyring.decrypt(sealed, place).get_secret_value()

    def _workspace(self) -> Workspace:
        row = Workspace(name="Faults")
        with self.installation.resources.database.session(writing=True) as session:
            session.add(row)
            session.commit()
        return row

    def _connect(self, mode: Mode, numbers: Sequence[int], case: str, columns: Mapping[str, Any]) -> list[Item]:
        database = self.installation.resources.database
        items = []
        with database.session(writing=True) as session:
            for number in numbers:
                connection = self._connection(mode, number, columns)
                key: dict[str, Any] = {"workspace_id": self.workspace.id, "connection_id": connection.id}
                host = outbound.origin(connection.token_endpoint)
                secret, token = ClientSecret(**key), Token(**key, provider_host=host)
                secret.seal("value", SecretStr(CLIENT_SECRET), database.keyring)
                session.add(connection)
                session.flush()
                session.add_all((secret, token))
                items.append(Item(number, mode, self.workspace.id, connection.id, token.id, case))
            session.commit()
        return items

    def _connection(self, mode: Mode, number: int, columns: Mapping[str, Any]) -> Connection:
        defaults: dict[str, Any] = {
            "workspace_id": self.workspace.id,
            "name": f"{mode.value} {number}",
            "grant_type": GrantType.AUTHORIZATION_CODE,
            "refresh_kind": RefreshKind.REFRESH_TOKEN,
            "client_id": mode.value,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "token_endpoint_auth_method": ClientAuthMethod.BASIC,
            "api_hosts": [self.host],
            "state": ConnectionState.CONFIGURED,
        }
        return Connection(**{**defaults, **columns})

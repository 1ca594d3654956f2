"""What a connection and a refresh cost in PostgreSQL: bytes of tables and indexes, and of its write-ahead log."""

from __future__ import annotations

from collections.abc import Iterator

from bench.arena import Arena, arena
from bench.figures import Figure, Part, Wanted

CROWD, QUICK_CROWD = 100_000, 20_000
REFRESHED = 8_000
KEPT = ("connections", "client_secrets", "tokens")
LOG = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


def parts() -> Iterator[Part]:
    """All measurements of this module."""
    yield Part(("bytes-per-connection", "bytes-per-refresh", "log-per-refresh", "log-per-first-refresh"), _measure)


def _measure(wanted: Wanted) -> Iterator[Figure]:
    count = QUICK_CROWD if wanted.quick else CROWD
    with arena("postgresql") as place:
        crowd = place.settle(count)
        sizes = {table: _size(place, table) for table in KEPT}
        empty = _size(place, "refreshes")[0]
        logs: list[float] = []
        for _ in range(2):
            due = place.aim(crowd, REFRESHED)
            if not logs:
                place.execute_aside("CHECKPOINT")
            before = _ask(place, LOG)
            place.fire(REFRESHED, due)
            logs.append((_ask(place, LOG) - before) / REFRESHED)
        journal = (_size(place, "refreshes")[0] - empty) / (2 * REFRESHED)
        place.judge().demand()
    setup = f"postgresql, {count:,} connections, access tokens of 800 characters"
    notes = {
        table: {"all": round(whole / count), "indexes": round(indexes / count)}
        for table, (whole, indexes) in sizes.items()
    }
    yield Figure("bytes-per-connection", sum(whole for whole, _ in sizes.values()) / count, "bytes", setup, notes=notes)
    yield Figure("bytes-per-refresh", journal, "bytes", f"{setup}; a row of the journal with its indexes")
    yield Figure("log-per-refresh", logs[1], "bytes", f"{setup}; write-ahead log once pages were touched")
    yield Figure("log-per-first-refresh", logs[0], "bytes", f"{setup}; write-ahead log just after a checkpoint")


def _size(place: Arena, table: str) -> tuple[int, int]:
    """Bytes of a table with its indexes, and of the indexes."""
    sizes = (f"SELECT {function}('{table}')" for function in ("pg_total_relation_size", "pg_indexes_size"))
    whole, indexes = (_ask(place, statement) for statement in sizes)
    return whole, indexes


def _ask(place: Arena, statement: str) -> int:
    with place.installation.resources.database.engine.connect() as connection:
        return int(connection.exec_driver_sql(statement).scalar_one())

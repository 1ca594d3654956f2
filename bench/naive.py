"""`python -m bench.naive fork|simple`: how one would refresh tokens with RQ at first, a job for each token.

Authlib's OAuth2Session, one SQLModel row, one commit, RQ's JSON serializer. Nothing of Cardkey's is used, and nothing
is slower than it need be: everything is imported before the first job, the database engine outlives a job where the
process does, and tokens are not even encrypted.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import ClassVar

import redis
import sqlalchemy as sa
from authlib.integrations.requests_client import OAuth2Session
from rq import Queue, SimpleWorker, Worker
from rq.serializers import JSONSerializer
from sqlmodel import Field, Session, SQLModel, create_engine

WORKERS = {"fork": Worker, "simple": SimpleWorker}
DATABASE, REDIS, TOKEN_ENDPOINT = "BENCH_DATABASE", "BENCH_REDIS", "BENCH_TOKEN_ENDPOINT"
SQLITE_BUSY_SECONDS = 30


class NaiveToken(SQLModel, table=True):
    """A token and nothing else."""

    __tablename__ = "naive_tokens"
    metadata: ClassVar[sa.MetaData] = sa.MetaData()

    number: int = Field(primary_key=True)
    access_token: str = ""
    refresh_token: str = ""
    refreshed: int = 0


@functools.cache
def engine(_process: int) -> sa.Engine:
    """Durable like ours: SQLite with WAL and full synchronisation."""
    url = os.environ[DATABASE]
    if not url.startswith("sqlite"):
        return create_engine(url)
    made = create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS})

    @sa.event.listens_for(made, "connect")
    def prepare(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return made


def refresh(number: int) -> None:
    """One job: one token."""
    with Session(engine(os.getpid())) as session:
        row = session.get_one(NaiveToken, number)
        with OAuth2Session("bench", "secret", token_endpoint_auth_method="client_secret_basic") as client:
            token = client.refresh_token(os.environ[TOKEN_ENDPOINT], refresh_token=row.refresh_token)
        row.access_token, row.refresh_token = token["access_token"], token["refresh_token"]
        row.refreshed += 1
        session.add(row)
        session.commit()


def main() -> None:
    """Work off one kind's queue."""
    kind = sys.argv[1]
    connection = redis.Redis.from_url(os.environ[REDIS])
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    queue = Queue(f"naive-{kind}", connection=connection, serializer=JSONSerializer)
    WORKERS[kind]([queue], connection=connection, serializer=JSONSerializer).work(logging_level="WARNING")


if __name__ == "__main__":
    main()

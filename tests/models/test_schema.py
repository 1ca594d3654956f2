"""Migrations: they make what the models say, and lose no row of a database in use."""

import os
import re
import uuid
from datetime import UTC, date, datetime

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory

from models import Record, schema
from models.database import make_engine

FIRST = "0001"
CHOSEN = {"grant_type": "authorization_code", "authorization": "header", "slot": "current", "version": 1}
"""Values of columns that a constraint looks at."""
CASTS = re.compile(r"::(character varying|text)(\[\])?|[()]")
"""What PostgreSQL adds to a check as it keeps it."""


@pytest.fixture
def engine(empty_database_url):
    engine = make_engine(empty_database_url)
    yield engine
    engine.dispose()


def migrate(engine, revision="head", more_versions=None):
    config = schema._config()
    if more_versions is not None:
        config.set_main_option("path_separator", "os")
        folders = (str(schema.FOLDER / "versions"), str(more_versions))
        config.set_main_option("version_locations", os.pathsep.join(folders))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def head():
    return ScriptDirectory.from_config(schema._config()).get_current_head()


def structure(engine):
    """Everything that shapes a table, in comparable form."""
    inspector = sa.inspect(engine)
    return {name: shape(inspector, name) for name in inspector.get_table_names() if name != "alembic_version"}


def shape(inspector, table):
    def words(constraints, *keys):
        return sorted(repr([constraint.get(key) for key in ("name", *keys)]) for constraint in constraints)

    def kind(column):
        return str(column["type"]) if str(column["type"]) != "VARCHAR" else "TEXT"  # without a length the same

    return {
        "columns": sorted((c["name"], kind(c), c["nullable"]) for c in inspector.get_columns(table)),
        "primary key": inspector.get_pk_constraint(table)["constrained_columns"],
        "foreign keys": words(
            inspector.get_foreign_keys(table), "constrained_columns", "referred_table", "referred_columns", "options"
        ),
        "unique": words(inspector.get_unique_constraints(table), "column_names"),
        "checks": [CASTS.sub("", check) for check in words(inspector.get_check_constraints(table), "sqltext")],
        "indexes": words(inspector.get_indexes(table), "column_names", "unique"),
    }


def populate(engine, families=2):
    """Rows in every table the database has, each pointing at the row before it made for its parent."""
    tables = sa.MetaData()
    tables.reflect(engine)
    with engine.begin() as connection:
        for number in range(families):
            made = {}
            for table in tables.sorted_tables:
                if table.name != "alembic_version":
                    made[table.name] = row_for(table, made, number)
                    connection.execute(table.insert().values(**made[table.name]))


def row_for(table, made, number):
    row = {column.name: value_for(column, number) for column in table.columns}
    for constraint in table.foreign_key_constraints:
        for element in constraint.elements:
            parent = made.get(element.column.table.name)
            if parent is not None:
                row[element.parent.name] = parent[element.column.name]
    return row


def value_for(column, number):  # noqa: PLR0911  # a value for each type
    if column.name in CHOSEN:
        return CHOSEN[column.name]
    unique = uuid.uuid4()
    match column.type:
        case sa.types.Uuid():
            return unique
        case sa.types.DateTime():
            moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
            return moment if column.type.timezone else moment.replace(tzinfo=None)
        case sa.types.Date():
            return date(2026, 1, 2)
        case sa.types.Boolean():
            return bool(number)
        case sa.types.Integer() | sa.types.Float():
            return number
        case sa.types.LargeBinary():
            return unique.bytes
        case sa.types.JSON():
            return {"number": number}
        case _:
            return unique.hex[: getattr(column.type, "length", None)]


def rows(engine, like=None):
    """Every row of every table, without the columns that `like` (an earlier call's answer) does not have."""
    tables = sa.MetaData()
    tables.reflect(engine)
    found = {}
    with engine.connect() as connection:
        for table in tables.sorted_tables:
            if table.name == "alembic_version" or (like is not None and table.name not in like):
                continue
            names = [column.name for column in table.columns if like is None or column.name in like[table.name][0]]
            values = connection.execute(sa.select(*(table.c[name] for name in names))).all()
            found[table.name] = (sorted(names), sorted(repr(sorted(row._mapping.items())) for row in values))
    return found


def test_the_migrations_make_exactly_what_the_models_say(engine, database_kind, databases):
    migrate(engine)
    url = databases[database_kind].create_empty()
    other = make_engine(url)
    try:
        Record.metadata.create_all(other)
        made, said = structure(engine), structure(other)
        assert made.keys() == said.keys()
        for table in said:
            assert made[table] == said[table], table
    finally:
        other.dispose()
        databases[database_kind].drop(url)


def test_there_is_one_line_of_migrations():
    assert len(ScriptDirectory.from_config(schema._config()).get_heads()) == 1


def test_older_code_takes_a_database_of_newer_code_as_it_is(engine):
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    assert not schema.pending(engine)
    schema.upgrade(engine)
    assert not schema.pending(engine)


def test_a_database_knows_whether_migrations_are_missing(engine):
    assert schema.pending(engine)
    migrate(engine, FIRST)
    assert schema.pending(engine)
    schema.upgrade(engine)
    assert not schema.pending(engine)
    schema.upgrade(engine)
    assert not schema.pending(engine)


def test_an_installation_of_the_first_release_keeps_every_row(engine):
    """Each table is filled, and every parent has children that a careless migration would take along."""
    migrate(engine, FIRST)
    populate(engine)
    before = rows(engine)
    assert len(before) >= 15
    assert all(len(values) == 2 for _names, values in before.values())
    schema.upgrade(engine)
    after = rows(engine, like=before)
    for table, (names, values) in before.items():
        if table in after and after[table][0] == names:
            assert after[table][1] == values, table
        else:
            assert table in after, f"{table} is gone"
            assert len(after[table][1]) == len(values), table


def tomorrow(folder, body):
    """A migration that comes after the newest one."""
    text = f'import sqlalchemy as sa\nfrom alembic import op\nrevision = "9999"\ndown_revision = "{head()}"\n\n\n'
    folder.joinpath("9999_tomorrow.py").write_text(f"{text}def upgrade():\n{body}")
    return folder


def test_altering_a_parent_table_keeps_its_children(engine, tmp_path):
    """SQLite alters by copying: with foreign keys on, dropping the old copy would delete every child row."""
    migrate(engine)
    populate(engine)
    before = rows(engine)
    body = (
        '    with op.batch_alter_table("connections", recreate="always") as batch:\n'
        '        batch.add_column(sa.Column("colour", sa.Text(), nullable=False, server_default="blue"))\n'
        '    with op.batch_alter_table("workspaces", recreate="always") as batch:\n'
        '        batch.alter_column("name", type_=sa.String(120))\n'
    )
    if engine.dialect.name == "postgresql":
        body = body.replace(', recreate="always"', "")
    migrate(engine, more_versions=tomorrow(tmp_path, body))
    assert rows(engine, like=before) == before


@pytest.mark.sqlite_only
def test_foreign_keys_are_watched_again_after_a_migration(engine):
    with engine.connect() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_migration_that_breaks_references_changes_nothing(engine, tmp_path):
    migrate(engine)
    populate(engine)
    before = rows(engine)
    more = tomorrow(tmp_path, '    op.execute("DELETE FROM workspaces")\n')
    with pytest.raises((RuntimeError, sa.exc.IntegrityError)):
        migrate(engine, more_versions=more)
    assert rows(engine) == before
    assert not schema.pending(engine)

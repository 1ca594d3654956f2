"""the token engine: lifetimes, habits, mappings, provider hosts, pauses, counters"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand first; contract in a later release."""
    _connections()
    _tokens()
    _refreshes()
    _provider_hosts()


def _connections() -> None:
    with op.batch_alter_table("connections", schema=None) as batch_op:
        batch_op.add_column(sa.Column("introspection_endpoint", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("expires_in_unit", sa.String(20), nullable=False, server_default="seconds"))
        for name in ("assumed_lifetime", "longest_lifetime", "earliest_refresh", "idle_limit"):
            batch_op.add_column(sa.Column(name, sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("dead_statuses", sa.JSON(), nullable=False, server_default="[401]"))
        batch_op.add_column(sa.Column("dead_expression", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("reply_mapping", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.add_column(sa.Column("paused_from", sa.String(40), nullable=True))


def _tokens() -> None:
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("client_secret_id", sa.Uuid(), nullable=True))
        batch_op.add_column(sa.Column("rotation", sa.String(40), nullable=False, server_default="unseen"))
        batch_op.add_column(sa.Column("reuse", sa.String(40), nullable=False, server_default="unseen"))
        batch_op.add_column(sa.Column("learned_lifetime", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("interruptions", sa.Integer(), nullable=False, server_default="0"))
        batch_op.add_column(sa.Column("held", sa.Boolean(), nullable=False, server_default=sa.false()))


def _refreshes() -> None:
    with op.batch_alter_table("refreshes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("rotated", sa.Boolean(), nullable=True))
    with op.batch_alter_table("bulk_refreshes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("cancelled_at", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("cancelled_by", sa.Uuid(), nullable=True))
        batch_op.create_foreign_key(op.f("fk_bulk_refreshes_cancelled_by"), "users", ["cancelled_by"], ["id"])
    op.create_table(
        "refresh_counts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("stored", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["workspace_id", "connection_id"],
            ["connections.workspace_id", "connections.id"],
            name=op.f("fk_refresh_counts_workspace_id_connection_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refresh_counts")),
        sa.UniqueConstraint("connection_id", "day", name=op.f("uq_refresh_counts_connection_id_day")),
    )


def _provider_hosts() -> None:
    op.create_table(
        "provider_hosts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.String(260), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failure_class", sa.String(40), nullable=True),
        sa.Column("failure_reason", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("open_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_by", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["paused_by"], ["users.id"], name=op.f("fk_provider_hosts_paused_by")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_provider_hosts")),
        sa.UniqueConstraint("host", name=op.f("uq_provider_hosts_host")),
    )

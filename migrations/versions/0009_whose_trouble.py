"""whose requests found a provider's host in trouble, so that one connection does not speak for all"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand first; contract in a later release."""
    with op.batch_alter_table("provider_hosts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("failed_for", sa.Uuid(), nullable=True))
        batch_op.add_column(sa.Column("failed_in", sa.Uuid(), nullable=True))
        batch_op.add_column(sa.Column("is_shared", sa.Boolean(), nullable=False, server_default=sa.false()))

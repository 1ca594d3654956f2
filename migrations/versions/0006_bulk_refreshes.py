"""bulk refreshes can be taken back: items remember when their connections were due"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand first; contract in a later release."""
    with op.batch_alter_table("bulk_refresh_items", schema=None) as batch_op:
        batch_op.add_column(sa.Column("due_before", sa.DateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("priority_before", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("cancelled", sa.Boolean(), nullable=False, server_default=sa.false()))

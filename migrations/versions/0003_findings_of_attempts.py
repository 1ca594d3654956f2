"""what to know of an authorization that succeeded"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand first; contract in a later release."""
    with op.batch_alter_table("authorization_attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("finding", sa.Text(), nullable=False, server_default=""))

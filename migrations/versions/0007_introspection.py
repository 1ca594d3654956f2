"""tokens whose end the provider is still to be asked for, and what came of asking"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand first; contract in a later release."""
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("introspection_due", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("introspection_problem", sa.Text(), nullable=False, server_default=""))
    due = sa.text("introspection_due")
    op.create_index("ix_tokens_introspection", "tokens", ["id"], postgresql_where=due, sqlite_where=due)

"""tokens that wait for their provider's host are found fast, and brought back part after part"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand first; contract in a later release."""
    with op.batch_alter_table("provider_hosts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("releasing", sa.Boolean(), nullable=False, server_default=sa.false()))
    held = sa.text("held")
    op.create_index("ix_tokens_held", "tokens", ["provider_host", "failures"], postgresql_where=held, sqlite_where=held)

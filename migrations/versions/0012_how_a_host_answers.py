"""a host that answers with errors is told apart from one that does not answer"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Code before this leaves it empty, and all trouble is told as silence."""
    op.add_column("provider_hosts", sa.Column("failure_status", sa.Integer(), nullable=True))

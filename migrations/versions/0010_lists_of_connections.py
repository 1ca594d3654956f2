"""lists of a hundred thousand connections are counted and ordered by an index alone"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Code before this works without."""
    op.create_index("ix_connections_listed", "connections", ["workspace_id", "state", "name", "id"])

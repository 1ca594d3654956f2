"""the few journal rows that keep a reply are found without going over all of them"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Code before this works without."""
    kept = sa.text("raw_reply_sealed IS NOT NULL")
    op.create_index("ix_refreshes_kept", "refreshes", ["connection_id"], postgresql_where=kept, sqlite_where=kept)

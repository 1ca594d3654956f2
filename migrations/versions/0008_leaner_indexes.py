"""indexes that a claim reads as they stand, and that a refresh does not rewrite for nothing"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Code before this works without the indexes that go, only slower."""
    leased, sent = sa.text("lease_until IS NOT NULL"), sa.text("outcome = 'sent'")
    op.drop_index("ix_tokens_due", "tokens")
    op.drop_index("ix_tokens_leased", "tokens")
    op.drop_index("ix_tokens_connection_id", "tokens")
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.drop_constraint("uq_tokens_workspace_id_connection_id_slot", type_="unique")
        batch_op.create_unique_constraint(op.f("uq_tokens_connection_id_slot"), ["connection_id", "slot"])
    op.create_index("ix_tokens_due", "tokens", ["priority", "next_refresh_at"])
    op.create_index("ix_tokens_leased", "tokens", ["provider_host"], postgresql_where=leased, sqlite_where=leased)
    op.drop_index("ix_refreshes_open", "refreshes")
    op.create_index("ix_refreshes_open", "refreshes", ["connection_id"], postgresql_where=sent, sqlite_where=sent)

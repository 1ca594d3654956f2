"""previews, and how an authorization attempt finds its way back"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand first; contract in a later release."""
    op.create_table(
        "card_previews",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("workspace_id", sa.Uuid(), nullable=False),
        sa.Column("card_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("html_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_card_previews_user_id")),
        sa.ForeignKeyConstraint(
            ["workspace_id", "card_id"],
            ["cards.workspace_id", "cards.id"],
            name=op.f("fk_card_previews_workspace_id_card_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_card_previews")),
    )
    with op.batch_alter_table("card_previews", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_card_previews_card_id"), ["card_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_card_previews_created_at"), ["created_at"], unique=False)
    with op.batch_alter_table("authorization_attempts", schema=None) as batch_op:
        batch_op.add_column(sa.Column("popup", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("return_to", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("cards", schema=None) as batch_op:
        batch_op.drop_constraint(op.f("ck_cards_oauth_needs_connection"), type_="check")

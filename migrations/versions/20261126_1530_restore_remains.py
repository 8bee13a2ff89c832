"""restore remains"""

import sqlalchemy as sa
from alembic import op

revision = "a41c7e90d2b6"
down_revision = "a41c7d90e5b8"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "restore_remains",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operation_uid", sa.String(length=36), nullable=False),
        sa.Column("part", sa.String(length=16), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("journal", sa.JSON(), nullable=False),
        sa.Column("unsettled", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restore_remains")),
        sa.UniqueConstraint("operation_uid", "part", name=op.f("uq_restore_remains_operation_uid_part")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_restore_remains_domain_id_due_at"), "restore_remains", ["domain_id", "due_at"])
    op.create_index(op.f("ix_restore_remains_due_at"), "restore_remains", ["due_at"])


def downgrade() -> None:
    op.drop_table("restore_remains")

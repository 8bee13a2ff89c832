"""parent operations"""

import sqlalchemy as sa
from alembic import op

revision = "8d3e51b7c260"
down_revision = "f2b6a90c4d18"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("operations") as table:
        table.add_column(sa.Column("parent_id", sa.Integer(), nullable=True))
        table.create_index("ix_operations_parent_id", ["parent_id"])


def downgrade() -> None:
    with op.batch_alter_table("operations") as table:
        table.drop_index("ix_operations_parent_id")
        table.drop_column("parent_id")

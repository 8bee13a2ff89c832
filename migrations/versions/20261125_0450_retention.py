"""retention"""

import sqlalchemy as sa
from alembic import op

revision = "8e7a9b3d1c52"
down_revision = "5d1c0f6e2b47"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("backup_destinations") as table:
        table.add_column(sa.Column("retention", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("backup_destinations") as table:
        table.alter_column("retention", server_default=None)
    with op.batch_alter_table("backups") as table:
        table.add_column(sa.Column("locked", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("backups") as table:
        table.alter_column("locked", server_default=None)
    with op.batch_alter_table("operations") as table:
        table.add_column(sa.Column("destination_id", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("operations") as table:
        table.drop_column("destination_id")
    with op.batch_alter_table("backups") as table:
        table.drop_column("locked")
    with op.batch_alter_table("backup_destinations") as table:
        table.drop_column("retention")

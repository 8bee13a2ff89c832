"""copies at several destinations, limits of a destination"""

import sqlalchemy as sa
from alembic import op

revision = "c41d7f0a9e63"
down_revision = "8e7a9b3d1c52"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("backup_copies") as table:
        table.add_column(sa.Column("required", sa.Boolean(), nullable=False, server_default=sa.true()))
        table.add_column(sa.Column("error_message", sa.Text(), nullable=True))
    with op.batch_alter_table("backup_copies") as table:
        table.alter_column("required", server_default=None)
    with op.batch_alter_table("backup_destinations") as table:
        table.add_column(sa.Column("bandwidth", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("transfers", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("backup_destinations") as table:
        table.drop_column("transfers")
        table.drop_column("bandwidth")
    with op.batch_alter_table("backup_copies") as table:
        table.drop_column("error_message")
        table.drop_column("required")

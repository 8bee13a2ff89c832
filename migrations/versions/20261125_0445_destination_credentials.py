"""destination credentials"""

import sqlalchemy as sa
from alembic import op

revision = "5d1c0f6e2b47"
down_revision = "0a0f41510a19"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("backup_destinations") as table:
        table.add_column(sa.Column("credentials", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("backup_destinations") as table:
        table.drop_column("credentials")

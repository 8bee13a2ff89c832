"""copies that are read as their destination was at a time"""

import sqlalchemy as sa
from alembic import op

revision = "0b7c5e9d2a14"
down_revision = "b8e3c15f9a72"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("backup_copies", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("as_of", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("backup_copies", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_column("as_of")

"""prepared destinations"""

import sqlalchemy as sa
from alembic import op
from uuid6 import uuid7

revision = "a41c7d90e5b8"
down_revision = "0b7c5e9d2a14"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("backup_destinations", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("uid", sa.String(length=36), nullable=True))
        table.add_column(sa.Column("prepared_at", sa.DateTime(timezone=True), nullable=True))
    destinations = sa.table("backup_destinations", sa.column("id", sa.Integer()), sa.column("uid", sa.String()))
    connection = op.get_bind()
    for number in connection.scalars(sa.select(destinations.c.id)).all():
        connection.execute(destinations.update().where(destinations.c.id == number).values(uid=str(uuid7())))
    with op.batch_alter_table("backup_destinations", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.alter_column("uid", nullable=False)
        table.create_unique_constraint("uq_backup_destinations_uid", ["uid"])


def downgrade() -> None:
    with op.batch_alter_table("backup_destinations", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_constraint("uq_backup_destinations_uid", type_="unique")
        table.drop_column("prepared_at")
        table.drop_column("uid")

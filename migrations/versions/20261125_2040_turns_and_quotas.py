"""turns and quotas"""

import sqlalchemy as sa
from alembic import op

revision = "d7a90c3b5e12"
down_revision = "c95d2f18e7b4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenant_quotas",
        sa.Column("user_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("on_demand_backups", sa.Integer(), nullable=True),
        sa.Column("operations", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_tenant_quotas")),
    )
    with op.batch_alter_table("operations") as table:
        table.add_column(sa.Column("destinations", sa.JSON(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("priority", sa.Integer(), nullable=False, server_default="1"))
        table.add_column(sa.Column("server", sa.String(length=64), nullable=True))
        table.add_column(sa.Column("queue", sa.String(length=80), nullable=True))
        table.add_column(sa.Column("expected_bytes", sa.BigInteger(), nullable=True))
    # What the engine has already; the rest is handed to it when it is its turn.
    op.execute("UPDATE operations SET queue = 'operations' WHERE status IN ('pending', 'running')")
    with op.batch_alter_table("operations") as table:
        table.alter_column("destinations", server_default=None, existing_type=sa.JSON())
        table.alter_column("priority", server_default=None, existing_type=sa.Integer())
    with op.batch_alter_table("executor_leases") as table:
        table.add_column(sa.Column("server", sa.String(length=64), nullable=True))
        for name in ("operations", "urgent", "parents"):
            table.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
    with op.batch_alter_table("executor_leases") as table:
        for name in ("operations", "urgent", "parents"):
            table.alter_column(name, server_default=None, existing_type=sa.Integer())
    with op.batch_alter_table("backup_destinations") as table:
        table.add_column(sa.Column("operations", sa.Integer(), nullable=True))
    with op.batch_alter_table("backups") as table:
        table.add_column(sa.Column("schedule_id", sa.Integer(), nullable=True))
        table.create_index("ix_backups_schedule_id", ["schedule_id"])


def downgrade() -> None:
    with op.batch_alter_table("backups") as table:
        table.drop_index("ix_backups_schedule_id")
        table.drop_column("schedule_id")
    with op.batch_alter_table("backup_destinations") as table:
        table.drop_column("operations")
    with op.batch_alter_table("executor_leases") as table:
        for name in ("server", "operations", "urgent", "parents"):
            table.drop_column(name)
    with op.batch_alter_table("operations") as table:
        for name in ("destinations", "priority", "server", "queue", "expected_bytes"):
            table.drop_column(name)
    op.drop_table("tenant_quotas")

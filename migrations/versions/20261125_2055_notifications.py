"""notifications, outcomes and retention of schedules"""

import sqlalchemy as sa
from alembic import op

revision = "e18b42d06f93"
down_revision = "d7a90c3b5e12"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notification_channels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("shown", sa.String(length=300), nullable=False),
        sa.Column("credentials", sa.Text(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_channels")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("notification_channels") as table:
        table.create_index("ix_notification_channels_user_id", ["user_id"])
    op.create_table(
        "notification_deliveries",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uid", sa.String(length=36), nullable=False),
        sa.Column("channel_id", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("log", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["channel_id"],
            ["notification_channels.id"],
            name=op.f("fk_notification_deliveries_channel_id_notification_channels"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification_deliveries")),
        sa.UniqueConstraint("uid", name=op.f("uq_notification_deliveries_uid")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("notification_deliveries") as table:
        table.create_index("ix_notification_deliveries_status_next_at", ["status", "next_at"])
        table.create_index("ix_notification_deliveries_channel_id_id", ["channel_id", "id"])
    with op.batch_alter_table("backup_schedules") as table:
        table.add_column(sa.Column("copies", sa.JSON(), nullable=False, server_default="[]"))
        table.add_column(sa.Column("retention", sa.JSON(), nullable=True))
        table.add_column(sa.Column("last_good_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("overdue_since", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("backup_schedules") as table:
        table.alter_column("copies", server_default=None, existing_type=sa.JSON())
    with op.batch_alter_table("schedule_runs") as table:
        table.add_column(sa.Column("outcome", sa.String(length=16), nullable=True))
        table.add_column(sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True))
        table.create_index("ix_schedule_runs_outcome", ["outcome"])
    with op.batch_alter_table("backup_destinations") as table:
        table.add_column(sa.Column("free_bytes", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("free_at", sa.DateTime(timezone=True), nullable=True))
        table.add_column(sa.Column("space_low_since", sa.DateTime(timezone=True), nullable=True))
    op.execute("DELETE FROM sse_tickets")  # good for a minute
    with op.batch_alter_table("sse_tickets") as table:
        table.add_column(sa.Column("resumes", sa.Boolean(), nullable=False))
    with op.batch_alter_table("operations") as table:
        table.create_index("ix_operations_finished_at", ["finished_at"])


def downgrade() -> None:
    with op.batch_alter_table("sse_tickets") as table:
        table.drop_column("resumes")
    with op.batch_alter_table("operations") as table:
        table.drop_index("ix_operations_finished_at")
    with op.batch_alter_table("backup_destinations") as table:
        for name in ("free_bytes", "free_at", "space_low_since"):
            table.drop_column(name)
    with op.batch_alter_table("schedule_runs") as table:
        table.drop_index("ix_schedule_runs_outcome")
        table.drop_column("settled_at")
        table.drop_column("outcome")
    with op.batch_alter_table("backup_schedules") as table:
        for name in ("copies", "retention", "last_good_at", "overdue_since"):
            table.drop_column(name)
    op.drop_table("notification_deliveries")
    op.drop_table("notification_channels")

"""schedules"""

import sqlalchemy as sa
from alembic import op

revision = "c95d2f18e7b4"
down_revision = "b41c7e90d5a2"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backup_schedules",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.Integer(), nullable=True),
        sa.Column("domain_id", sa.Integer(), nullable=True),
        sa.Column("destination_id", sa.Integer(), nullable=True),
        sa.Column("type", sa.String(length=16), nullable=False),
        sa.Column("frequency", sa.String(length=16), nullable=True),
        sa.Column("schedule_time", sa.String(length=8), nullable=True),
        sa.Column("expression", sa.String(length=255), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("jitter_seconds", sa.Integer(), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_run_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backup_schedules")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("backup_schedules") as table:
        table.create_index("ix_backup_schedules_is_active_starts_at", ["is_active", "starts_at"])
        table.create_index("ix_backup_schedules_user_id", ["user_id"])
        table.create_index("ix_backup_schedules_domain_id", ["domain_id"])
    op.create_table(
        "schedule_runs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("schedule_id", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by_hand", sa.Boolean(), nullable=False),
        sa.Column("coalesced", sa.Integer(), nullable=False),
        sa.Column("cursor", sa.Integer(), nullable=True),
        sa.Column("skipped", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["schedule_id"],
            ["backup_schedules.id"],
            name=op.f("fk_schedule_runs_schedule_id_backup_schedules"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedule_runs")),
        sa.UniqueConstraint("schedule_id", "due_at", name=op.f("uq_schedule_runs_schedule_id_due_at")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("schedule_runs") as table:
        table.create_index("ix_schedule_runs_cursor", ["cursor"])
    with op.batch_alter_table("operations") as table:
        table.add_column(sa.Column("schedule_run_id", sa.Integer(), nullable=True))
        table.create_index("ix_operations_schedule_run_id", ["schedule_run_id"])


def downgrade() -> None:
    with op.batch_alter_table("operations") as table:
        table.drop_index("ix_operations_schedule_run_id")
        table.drop_column("schedule_run_id")
    op.drop_table("schedule_runs")
    op.drop_table("backup_schedules")

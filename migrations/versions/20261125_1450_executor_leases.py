"""executor leases"""

import sqlalchemy as sa
from alembic import op

revision = "b41c7e90d5a2"
down_revision = "8d3e51b7c260"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "executor_leases",
        sa.Column("executor_id", sa.String(length=128), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name=op.f("pk_executor_leases")),
    )
    op.create_table(
        "installations",
        sa.Column("installation_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("installation_id", name=op.f("pk_installations")),
    )
    with op.batch_alter_table("operations") as table:  # "verify-" and a uid are longer than a uid
        table.alter_column("domain_uid", existing_type=sa.String(length=36), type_=sa.String(length=64))


def downgrade() -> None:
    with op.batch_alter_table("operations") as table:
        table.alter_column("domain_uid", existing_type=sa.String(length=64), type_=sa.String(length=36))
    op.drop_table("installations")
    op.drop_table("executor_leases")

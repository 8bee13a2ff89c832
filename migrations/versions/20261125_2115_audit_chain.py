"""audit chain"""

import sqlalchemy as sa
from alembic import op

revision = "f30c6a7be241"
down_revision = "e18b42d06f93"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_heads",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("first_number", sa.Integer(), nullable=False),
        sa.Column("first_previous", sa.String(length=64), nullable=False),
        sa.Column("seal", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_heads")),
    )
    with op.batch_alter_table("audit_events") as table:
        table.add_column(sa.Column("number", sa.Integer(), nullable=True))
        table.add_column(sa.Column("previous", sa.String(length=64), nullable=True))
        table.add_column(sa.Column("hash", sa.String(length=64), nullable=True))
        table.add_column(sa.Column("actor", sa.String(length=255), nullable=True))
        table.create_unique_constraint("uq_audit_events_number", ["number"])


def downgrade() -> None:
    with op.batch_alter_table("audit_events") as table:
        table.drop_constraint("uq_audit_events_number", type_="unique")
        for name in ("number", "previous", "hash", "actor"):
            table.drop_column(name)
    op.drop_table("audit_heads")

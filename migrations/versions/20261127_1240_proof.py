"""proof: whether a database's dump is loaded once it is stored, what was proved, and whose turn it is at a server"""

import sqlalchemy as sa
from alembic import op

revision = "d5b81f0c9e37"
down_revision = "5c1f7ae0d2b8"
branch_labels = None
depends_on = None

_COLUMNS = {
    "domains": "proof",
    "backup_schedules": "proof",
    "backup_destinations": "proof",
    "backup_components": "proved",
}


def upgrade() -> None:
    for table, column in _COLUMNS.items():
        op.add_column(table, sa.Column(column, sa.String(16), nullable=True))
    op.create_table(
        "proof_turns",
        sa.Column("place", sa.String(64), nullable=False),
        sa.Column("operation_uid", sa.String(36), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("part", sa.String(16), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("place", name="pk_proof_turns"),
    )


def downgrade() -> None:
    op.drop_table("proof_turns")
    for table, column in _COLUMNS.items():
        op.drop_column(table, column)

"""which pod and volume a part of a backup was read from"""

import sqlalchemy as sa
from alembic import op

revision = "5c1f7ae0d2b8"
down_revision = "e3b80c4f17d9"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("backup_components", sa.Column("place", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("backup_components", "place")

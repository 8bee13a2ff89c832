"""where in the server's log a backup is; whose password a restore has made and not told yet"""

import sqlalchemy as sa
from alembic import op

revision = "e3b80c4f17d9"
down_revision = "c70d2e51f8a4"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("backup_components", sa.Column("position", sa.JSON(), nullable=True))
    op.add_column("domain_databases", sa.Column("made_by", sa.String(36), nullable=True))


def downgrade() -> None:
    op.drop_column("domain_databases", "made_by")
    op.drop_column("backup_components", "position")

"""deployment credentials"""

import sqlalchemy as sa
from alembic import op

revision = "f2b6a90c4d18"
down_revision = "c41d7f0a9e63"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("domains") as table:
        table.add_column(sa.Column("deployment_credentials", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("domains") as table:
        table.drop_column("deployment_credentials")

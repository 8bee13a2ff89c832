"""mailbox quota: in bytes it is more than 2^31"""

import sqlalchemy as sa
from alembic import op

revision = "c70d2e51f8a4"
down_revision = "a41c7e90d2b6"
branch_labels = None
depends_on = None

_KEPT = {"sqlite_autoincrement": True}


def upgrade() -> None:
    with op.batch_alter_table("domain_mailboxes", table_kwargs=_KEPT) as table:
        table.alter_column("quota", existing_type=sa.Integer(), type_=sa.BigInteger())


def downgrade() -> None:
    with op.batch_alter_table("domain_mailboxes", table_kwargs=_KEPT) as table:
        table.alter_column("quota", existing_type=sa.BigInteger(), type_=sa.Integer())

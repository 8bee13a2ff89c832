"""what domains occupy, and their names for people"""

import idna
import sqlalchemy as sa
from alembic import op

revision = "b8e3c15f9a72"
down_revision = "a6d9f04b7c31"
branch_labels = None
depends_on = None

_ROWS = 500


def upgrade() -> None:
    op.create_table(
        "occupied_places",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("domain_id", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.id"], name=op.f("fk_occupied_places_domain_id_domains"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_occupied_places")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("occupied_places") as table:
        table.create_index("ix_occupied_places_place", ["place"])
        table.create_index("ix_occupied_places_domain_id", ["domain_id"])
    with op.batch_alter_table("domains") as table:
        table.add_column(sa.Column("domain_name_unicode", sa.String(length=253), nullable=True))
        table.add_column(sa.Column("shared", sa.Boolean(), nullable=False, server_default=sa.false()))
        # filled by the service, which knows the rules
        table.add_column(sa.Column("places_version", sa.Integer(), nullable=False, server_default="0"))
    op.execute("UPDATE domains SET domain_name_unicode = domain_name")
    _unicode(op.get_bind())
    with op.batch_alter_table("domains", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.alter_column("domain_name_unicode", existing_type=sa.String(length=253), nullable=False)
        table.alter_column("shared", existing_type=sa.Boolean(), server_default=None)
        table.alter_column("places_version", existing_type=sa.Integer(), server_default=None)


def _unicode(connection: sa.Connection) -> None:
    domains = sa.table("domains", sa.column("id"), sa.column("domain_name"), sa.column("domain_name_unicode"))
    last = 0
    while True:
        query = sa.select(domains.c.id, domains.c.domain_name).where(
            domains.c.id > last, domains.c.domain_name.contains("xn--")
        )
        rows = connection.execute(query.order_by(domains.c.id).limit(_ROWS)).all()
        for number, name in rows:
            shown = ".".join(_label(label) for label in name.split("."))
            connection.execute(sa.update(domains).where(domains.c.id == number).values(domain_name_unicode=shown))
            last = number
        if len(rows) < _ROWS:
            return


def _label(label: str) -> str:
    try:
        return idna.ulabel(label) if label.startswith("xn--") else label
    except (idna.IDNAError, UnicodeError):
        return label


def downgrade() -> None:
    with op.batch_alter_table("domains", table_kwargs={"sqlite_autoincrement": True}) as table:
        for name in ("domain_name_unicode", "shared", "places_version"):
            table.drop_column(name)
    op.drop_table("occupied_places")

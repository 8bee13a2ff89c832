"""ids are not reused on SQLite

Earlier migrations rebuilt these tables and lost AUTOINCREMENT: the id of a deleted last row was given again.
"""

import sqlalchemy as sa
from alembic import op

revision = "a6d9f04b7c31"
down_revision = "f30c6a7be241"
branch_labels = None
depends_on = None

#: What still refers to ids that may have been deleted: columns, and paths of requests in the audit trail.
_REFERENCES = {
    "backups": (
        ("backup_components", "backup_id"), ("backup_copies", "backup_id"), ("operations", "backup_id"),
    ),
    "backup_copies": (),
    "backup_destinations": (
        ("backups", "destination_id"), ("backup_copies", "destination_id"), ("operations", "destination_id"),
        ("backup_schedules", "destination_id"),
    ),
    "backup_schedules": (("backups", "schedule_id"), ("schedule_runs", "schedule_id")),
    "operations": (("idempotency_keys", "operation_id"), ("sse_tickets", "operation_id"), ("operations", "parent_id")),
    "audit_events": (),
}  # fmt: skip
_PATHS = {
    "backups": "/api/backups/",
    "backup_destinations": "/api/backup-destinations/",
    "backup_schedules": "/api/backup-schedules/",
    "operations": "/api/operations/",
}


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":  # PostgreSQL's sequences never go back
        return
    for table in _REFERENCES:
        with op.batch_alter_table(table, recreate="always", table_kwargs={"sqlite_autoincrement": True}):
            pass
    for table in _REFERENCES:
        highest = max([_highest(connection, table, "id"), *_deleted(connection, table)])
        # the table has no key: an UPDATE of no row says nothing
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": table})
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), {"name": table, "seq": highest}
        )


def _deleted(connection: sa.Connection, table: str) -> list[int]:
    found = [_highest(connection, *reference) for reference in _REFERENCES[table]]
    if table in _PATHS:
        # Only what was done: a path that was refused can name any number.
        query = sa.text(
            "SELECT max(CAST(substr(target, :start) AS INTEGER)) FROM audit_events "
            "WHERE substr(target, 1, :start - 1) = :path AND outcome LIKE '2%'"
        )
        path = _PATHS[table]
        found.append(connection.scalar(query, {"path": path, "start": len(path) + 1}) or 0)
    return found


def _highest(connection: sa.Connection, table: str, column: str) -> int:
    return connection.scalar(sa.select(sa.func.max(sa.column(column))).select_from(sa.table(table))) or 0


def downgrade() -> None:
    """The tables stay as they are: no earlier version needs ids to be reused."""

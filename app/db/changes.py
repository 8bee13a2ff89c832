"""What a transaction has changed, for the audit trail: before and after, without secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from app.db.models import (
    ApiToken,
    Backup,
    BackupSchedule,
    Destination,
    Domain,
    DomainDatabase,
    DomainMailbox,
    NotificationChannel,
    TenantQuota,
)

_WATCHED = (
    ApiToken, Backup, BackupSchedule, Destination, Domain, DomainDatabase, DomainMailbox, NotificationChannel,
    TenantQuota,
)  # fmt: skip
_SECRET = frozenset({"credentials", "deployment_credentials", "token_sha256"})
#: What changes by itself.
_MOVING = frozenset({"updated_at", "last_used_at", "free_bytes", "free_at", "last_run_at", "due_at", "starts_at"})
_HIDDEN = "…"
_LONGEST = 300
_MOST = 100
KEY = "changes"


def collect(session: Session, _context: object) -> None:
    """Called after each flush, while the history of what was flushed is still there."""
    found: list[dict[str, Any]] = session.info.setdefault(KEY, [])
    for how, rows in (("created", session.new), ("changed", session.dirty), ("deleted", session.deleted)):
        for row in rows:
            if isinstance(row, _WATCHED) and len(found) < _MOST:
                values = _values(row, how)
                if values:
                    found.append({"what": row.__tablename__, "id": _identity(row), "how": how, "values": values})


def _identity(row: Any) -> Any:
    return row.user_id if isinstance(row, TenantQuota) else row.id


def _values(row: Any, how: str) -> dict[str, Any]:
    """Of a change, [before, after]; of a new or removed row, what it holds."""
    state, found = inspect(row), dict[str, Any]()
    for column in state.mapper.column_attrs:
        name = column.key
        if name in _MOVING or name not in state.dict:
            continue
        if how != "changed":
            value = state.dict[name]
            if value is not None and name != "id":
                found[name] = _HIDDEN if name in _SECRET else _shown(value)
            continue
        history = state.attrs[name].history
        if history.has_changes():
            pair = [next(iter(history.deleted), None), next(iter(history.added), None)]
            found[name] = [_HIDDEN, _HIDDEN] if name in _SECRET else [_shown(value) for value in pair]
    return found


def _shown(value: Any) -> Any:
    """As JSON holds it; of what is long, the beginning."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict | list):
        return value if len(str(value)) <= _LONGEST else str(value)[:_LONGEST] + "…"
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[:_LONGEST] + "…"
    return value

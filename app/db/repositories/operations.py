"""Queries on operations and idempotency keys."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import load_only

from app.db.base import now
from app.db.models import Backup, IdempotencyKey, Operation
from app.db.repositories.base import Page, PageRequest, Repository

ACTIVE = ("pending", "running")


class OperationRepository(Repository):
    async def get(self, operation_id: int) -> Operation | None:
        return await self._session.get(Operation, operation_id, populate_existing=True)

    async def by_uid(self, uid: str) -> Operation | None:
        return await self._session.scalar(select(Operation).where(Operation.uid == uid))

    async def page(
        self, request: PageRequest, *, user_id: int | None, type: str | None, status: str | None
    ) -> Page[Operation]:
        query = select(Operation)
        for column, value in ((Operation.user_id, user_id), (Operation.type, type), (Operation.status, status)):
            if value is not None:
                query = query.where(column == value)
        return await self._page(query, request, {"created_at": Operation.created_at, "id": Operation.id})

    async def active(self) -> list[Operation]:
        shown = load_only(Operation.uid, Operation.domain_uid, Operation.created_at, raiseload=True)
        query = select(Operation).where(Operation.status.in_(ACTIVE)).order_by(Operation.id).options(shown)
        return list((await self._session.scalars(query)).all())

    async def uploads_in_use(self) -> set[str]:
        """Ids of the uploads that are imported, or will be."""
        query = select(Operation.request).where(Operation.type == "import", Operation.status.in_(ACTIVE))
        sources = [request.get("source", {}) for request in (await self._session.scalars(query)).all()]
        return {str(source["upload_id"]) for source in sources if source.get("type") == "upload"}

    async def handed_over(self) -> list[Operation]:
        """Those that the engine must know, with what it needs of them."""
        shown = load_only(Operation.uid, Operation.type, Operation.queue, raiseload=True)
        query = select(Operation).where(Operation.status.in_(ACTIVE), Operation.queue.is_not(None)).options(shown)
        return list((await self._session.scalars(query)).all())

    async def active_backup(self, domain_uid: str, backup_type: str) -> bool:
        query = select(Operation.id).where(
            Operation.type == "backup", Operation.domain_uid == domain_uid, Operation.backup_type == backup_type,
            Operation.status.in_(ACTIVE),
        )  # fmt: skip
        return await self._session.scalar(query) is not None

    async def children(self, parent_id: int) -> list[Operation]:
        """What tells how they stand; of a thousand, requests and results would be megabytes for each look."""
        shown = load_only(
            Operation.backup_id, Operation.domain_uid, Operation.status, Operation.bytes_done, Operation.error_code,
            Operation.error_message, raiseload=True,
        )  # fmt: skip
        query = select(Operation).where(Operation.parent_id == parent_id).order_by(Operation.id).options(shown)
        return list((await self._session.scalars(query)).all())

    async def claim(self, uid: str) -> Operation | None:
        """Start an attempt: the one who gets the row owns the operation. None when it has ended."""
        query = (
            update(Operation)
            .where(Operation.uid == uid, Operation.status.in_(ACTIVE))
            .values(
                status="running",
                attempt=Operation.attempt + 1,
                started_at=func.coalesce(Operation.started_at, now()),
                beat_at=now(),
            )
            .returning(Operation)
        )
        return await self._session.scalar(query, execution_options={"populate_existing": True})

    async def beat(self, uid: str, attempt: int, progress: dict[str, Any], done: int) -> bool | None:
        """Report progress; whether a cancel is requested, or None when the attempt has lost the operation."""
        query = (
            update(Operation)
            .where(Operation.uid == uid, Operation.attempt == attempt, Operation.status == "running")
            .values(progress=progress, bytes_done=done, beat_at=now())
            .returning(Operation.cancel_requested)
        )
        return await self._session.scalar(query)

    async def update_owned(self, uid: str, attempt: int, **values: Any) -> bool:
        """Change the operation while `attempt` owns it; False when it does not."""
        query = (
            update(Operation)
            .where(Operation.uid == uid, Operation.attempt == attempt, Operation.status == "running")
            .values(**values)
            .returning(Operation.id)
        )
        return await self._session.scalar(query) is not None

    async def request_cancel(self, operation_id: int) -> str | None:
        """Cancel a pending operation at once, with the backup that it was to make; ask a running one to stop. Its
        status, None when it has ended."""
        cancelled = await self._session.scalar(
            update(Operation)
            .where(Operation.id == operation_id, Operation.status == "pending")
            .values(status="cancelled", finished_at=now(), cancel_requested=True)
            .returning(Operation.status)
        )
        if cancelled is not None:
            operation = await self.get(operation_id)
            if operation is not None:
                operation.request = operation.lasting_request
                if operation.type == "backup":
                    await self._session.execute(
                        update(Backup)
                        .where(Backup.id == operation.backup_id, Backup.status == "pending")
                        .values(status="cancelled", completed_at=now())
                    )
                await self.flush()
            return str(cancelled)
        status: str | None = await self._session.scalar(
            update(Operation)
            .where(Operation.id == operation_id, Operation.status == "running")
            .values(cancel_requested=True)
            .returning(Operation.status)
        )
        return status

    async def forget(self, before: datetime, limit: int) -> int:
        """Remove operations that ended before then; how many."""
        old = select(Operation.id).where(Operation.finished_at < before).order_by(Operation.id).limit(limit)
        gone = await self._session.execute(delete(Operation).where(Operation.id.in_(old)))
        return int(getattr(gone, "rowcount", 0))

    async def forget_journal(self, uid: str) -> None:
        await self._session.execute(update(Operation).where(Operation.uid == uid).values(journal={}))

    async def add_warnings(self, uid: str, warnings: Mapping[int, dict[str, Any]]) -> None:
        """To parts of an operation's result, which has ended, by `key` or else by number; where there is none of that
        code yet."""
        operation = await self.by_uid(uid)
        if operation is None:
            return
        result = deepcopy(operation.result)
        for part in [*result.get("components", ()), *result.get("items", ())]:
            warning = warnings.get(part.get("key", part["number"]))
            if warning is not None and all(one["code"] != warning["code"] for one in part.get("warnings", ())):
                part.setdefault("warnings", []).append(warning)
        operation.result = result
        await self.flush()

    async def swept(self, destination_id: int, since: datetime) -> bool:
        """Whether leftovers were looked for at a destination since then, or are."""
        query = select(Operation.id).where(
            Operation.type == "sweep", Operation.destination_id == destination_id, Operation.created_at > since
        )
        return await self._session.scalar(query.limit(1)) is not None

    async def forget_idempotency(self, before: datetime) -> None:
        await self._session.execute(delete(IdempotencyKey).where(IdempotencyKey.created_at < before))

    async def idempotent(self, token_id: int, route: str, key: str) -> IdempotencyKey | None:
        """Keys live for 24 hours."""
        await self.forget_idempotency(now() - timedelta(hours=24))
        return await self._session.scalar(
            select(IdempotencyKey).where(
                IdempotencyKey.token_id == token_id, IdempotencyKey.route == route, IdempotencyKey.key == key
            )
        )

"""Queries on backups."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.orm import selectinload

from app.db.models import Backup, BackupComponent, BackupCopy, Operation
from app.db.repositories.base import Page, PageRequest, Repository

_WITH_ALL = (selectinload(Backup.components), selectinload(Backup.copies))


class BackupRepository(Repository):
    async def get(self, backup_id: int) -> Backup | None:
        return await self._session.scalar(select(Backup).where(Backup.id == backup_id).options(*_WITH_ALL))

    async def several(self, ids: list[int]) -> list[Backup]:
        query = select(Backup).where(Backup.id.in_(ids)).options(*_WITH_ALL)
        return list((await self._session.scalars(query)).all())

    async def page(
        self,
        request: PageRequest,
        *,
        user_id: int | None,
        domain_id: int | None,
        type: str | None,
        status: str | None,
        destination_id: int | None,
    ) -> Page[Backup]:
        query = _owned(select(Backup).options(*_WITH_ALL), user_id)
        filters = {
            Backup.domain_id: domain_id,
            Backup.type: type,
            Backup.status: status,
            Backup.destination_id: destination_id,
        }
        for column, value in filters.items():
            if value is not None:
                query = query.where(column == value)
        columns = {
            "created_at": Backup.created_at, "id": Backup.id, "name": Backup.name, "status": Backup.status,
            "file_size": Backup.file_size, "completed_at": Backup.completed_at,
        }  # fmt: skip
        return await self._page(query, request, columns)

    async def stats(self, user_id: int | None, domain_id: int | None) -> dict[str, Any]:
        good = Backup.status.in_(("completed", "partial"))
        query = _owned(
            select(
                func.count().label("total_backups"),
                func.count(case((Backup.status == "completed", 1))).label("completed_backups"),
                func.count(case((Backup.status == "failed", 1))).label("failed_backups"),
                func.coalesce(func.sum(Backup.file_size), 0).label("total_size_bytes"),
                func.max(case((good, Backup.completed_at))).label("latest_backup"),
                func.min(case((good, Backup.completed_at))).label("oldest_backup"),
            ),
            user_id,
        )
        if domain_id is not None:
            query = query.where(Backup.domain_id == domain_id)
        row = (await self._session.execute(query)).one()
        return dict(row._mapping)

    async def last_sizes(self, domain_uid: str) -> dict[tuple[str, str], int]:
        """Plain size of each (kind, name) when it was last backed up, for an honest estimate."""
        return await self._last(domain_uid, BackupComponent.plain_size)

    async def last_stored_sizes(self, domain_uid: str) -> dict[tuple[str, str], int]:
        """As `last_sizes`, of what lies at the destination."""
        return await self._last(domain_uid, BackupComponent.stored_size)

    async def _last(self, domain_uid: str, size_column: Any) -> dict[tuple[str, str], int]:
        query = (
            select(BackupComponent.kind, BackupComponent.name, size_column)
            .join(Backup, Backup.id == BackupComponent.backup_id)
            .where(Backup.domain_uid == domain_uid, size_column.is_not(None))
            .order_by(BackupComponent.id.desc())
            .limit(200)
        )
        sizes: dict[tuple[str, str], int] = {}
        for kind, name, size in await self._session.execute(query):
            sizes.setdefault((kind, name), size or 0)
        return sizes

    async def set_running(self, backup_id: int, at: datetime) -> None:
        await self._session.execute(
            update(Backup)
            .where(Backup.id == backup_id)
            .values(status="running", started_at=func.coalesce(Backup.started_at, at))
        )

    async def end_unbegun(self, at: datetime) -> int:
        """End backups whose operation has ended, or was forgotten, before it began; how many. Both are recorded at
        once, so none is between the two."""
        active = select(Operation.id).where(
            Operation.type == "backup", Operation.backup_id == Backup.id,
            Operation.status.in_(("pending", "running")),
        )  # fmt: skip
        query = (
            update(Backup)
            .where(Backup.status == "pending", ~active.exists())
            .values(status="cancelled", completed_at=at, error_message="Its operation ended before it began")
            .execution_options(synchronize_session=False)
        )
        return int(getattr(await self._session.execute(query), "rowcount", 0))

    async def given_up(self) -> set[str]:
        """Uids of backups that ended without being made: whatever lies at a destination in their name, nobody has
        ever called complete, and nobody will."""
        query = select(Backup.uid).where(
            Backup.status.in_(("cancelled", "failed")), Backup.file_path.is_(None), ~Backup.copies.any()
        )
        return set((await self._session.scalars(query)).all())

    async def by_uid(self, uid: str) -> Backup | None:
        return await self._session.scalar(select(Backup).where(Backup.uid == uid).options(*_WITH_ALL))

    async def manifest_keys(self, destination_id: int) -> set[str]:
        """Of every copy that is recorded at a destination."""
        query = select(BackupCopy.manifest_key).where(
            BackupCopy.destination_id == destination_id, BackupCopy.state != "failed"
        )
        return set((await self._session.scalars(query)).all())

    async def damaged_at(self, destination_id: int) -> dict[str, int]:
        """Ids of the backups whose copy at a destination was found damaged, by the key of its manifest."""
        query = select(BackupCopy.manifest_key, BackupCopy.backup_id).where(
            BackupCopy.destination_id == destination_id, BackupCopy.state == "damaged"
        )
        return {row.manifest_key: row.backup_id for row in await self._session.execute(query)}

    async def with_removals(self) -> list[int]:
        """Ids of destinations where a deletion was begun that has not ended."""
        query = select(BackupCopy.destination_id).where(BackupCopy.state == "deleting").distinct()
        return list((await self._session.scalars(query)).all())

    async def begun_removals(self, destination_id: int, limit: int) -> list[int]:
        """Ids of backups whose deletion at a destination was begun and has not ended."""
        query = select(BackupCopy.backup_id).where(
            BackupCopy.destination_id == destination_id, BackupCopy.state == "deleting"
        )
        return list((await self._session.scalars(query.order_by(BackupCopy.id).limit(limit))).all())

    async def newest_manifest_keys(self, destination_id: int, limit: int) -> dict[str, datetime | None]:
        """Of copies that are recorded as being there, and as of when each is read."""
        query = (
            select(BackupCopy.manifest_key, BackupCopy.as_of)
            .where(BackupCopy.destination_id == destination_id, BackupCopy.state != "failed")
            .order_by(BackupCopy.id.desc())
            .limit(limit)
        )
        return {row.manifest_key: row.as_of for row in await self._session.execute(query)}

    async def counted_on(self, destination_id: int) -> dict[str, datetime | None]:
        """The manifests of the copies there that can be restored from, and as of when each is read."""
        query = select(BackupCopy.manifest_key, BackupCopy.as_of).where(
            BackupCopy.destination_id == destination_id, BackupCopy.state.in_(("stored", "damaged"))
        )
        return {row.manifest_key: row.as_of for row in await self._session.execute(query)}

    async def at_destination(self, destination_id: int, run_id: int | None = None) -> list[Backup]:
        """Those that have a copy there, and those that were meant for it and have none anywhere. `run_id`: of the
        domains whose backup in this run of a schedule was completed."""
        here = select(BackupCopy.backup_id).where(BackupCopy.destination_id == destination_id)
        homeless = (Backup.destination_id == destination_id) & ~Backup.copies.any()
        query = select(Backup).where(or_(Backup.id.in_(here), homeless)).options(*_WITH_ALL)
        if run_id is not None:
            good = select(Operation.domain_uid).where(
                Operation.schedule_run_id == run_id, Operation.status == "completed"
            )
            query = query.where(Backup.domain_uid.in_(good))
        return list((await self._session.scalars(query.order_by(Backup.id))).all())

    async def start_removal(self, backup_id: int, destination_id: int | None = None) -> Backup | None:
        """Mark the copy at a destination as `deleting`, or all, and the backup too when none is left; None when the
        backup is gone, locked or in use. A copy that was never stored stays `failed`."""
        await self._lock(backup_id)
        backup = await self.get(backup_id)
        if backup is None or backup.locked or await self.in_use(backup_id):
            return None
        for copy in backup.copies:
            if destination_id in (None, copy.destination_id) and copy.state != "failed":
                copy.state = "deleting"
        if not backup.stored_copies:
            backup.status = "deleting"
        return backup

    async def forget_copy(self, backup_id: int, destination_id: int) -> None:
        """Forget the copy at a destination, and the backup when no other one is left."""
        await self._lock(backup_id)
        backup = await self.get(backup_id)
        if backup is None:
            return
        backup.copies = [copy for copy in backup.copies if copy.destination_id != destination_id]
        if not any(copy.state != "failed" for copy in backup.copies):
            await self._session.delete(backup)

    async def note_removal(self, backup_id: int, destination_id: int, message: str) -> None:
        """Why the copy at a destination is still there."""
        await self._session.execute(
            update(BackupCopy)
            .where(
                BackupCopy.backup_id == backup_id,
                BackupCopy.destination_id == destination_id,
                BackupCopy.state == "deleting",
            )
            .values(error_message=message)
        )

    async def _lock(self, backup_id: int) -> None:
        """Two copies may be removed at once, and the last one takes the backup with it: one after the other. A write
        that changes nothing locks the row, and with SQLite the database."""
        await self._session.execute(update(Backup).where(Backup.id == backup_id).values(status=Backup.status))

    async def in_use(self, backup_id: int) -> bool:
        query = select(Operation.id).where(
            Operation.backup_id == backup_id, Operation.status.in_(("pending", "running"))
        )
        return await self._session.scalar(query.limit(1)) is not None


def _owned(query: Any, user_id: int | None) -> Any:
    return query if user_id is None else query.where(Backup.user_id == user_id)

"""BulkRestoreService: many backups restored in one operation."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any

from app.db.models import Backup, Operation
from app.db.repositories.backups import BackupRepository
from app.errors import InvalidRequest, LiberuError
from app.schemas.backups import BulkRestoreIn, RestoreIn
from app.security.tokens import Principal
from app.services.backups import BackupService
from app.services.database_targets import FAMILIES
from app.services.operations import Idempotency, OperationService
from app.services.unit import Unit

_NAMED = 20


class BulkRestoreService:
    def __init__(self, backups: BackupService, operations: OperationService) -> None:
        self._backups = backups
        self._operations = operations

    async def start(
        self, unit: Unit, principal: Principal, body: BulkRestoreIn, idempotency: Idempotency
    ) -> Operation:
        """Check every backup, then start. Raises InvalidRequest, which names each that cannot be restored."""
        principal.require("backups:restore")
        found = await self._all(unit, principal, body.backup_ids)
        options = body.model_dump(exclude={"backup_ids", "continue_on_error", "identity", "databases"})
        names = {backup.id: _of(backup, body.databases) for backup in found}
        if unknown := body.databases.keys() - {name for known in names.values() for name in known}:
            raise InvalidRequest(f"None of the backups has a database {min(unknown)}", field="databases")
        problems, plans = [], []
        for backup in found:
            try:
                wanted = RestoreIn(**options, databases=names[backup.id])
                plans.append(await self._backups.plan(unit, principal, backup, wanted))
            except LiberuError as error:
                problems.append(error.message)
        if problems:
            raise _refusal(problems)
        request: dict[str, Any] = {
            "continue_on_error": body.continue_on_error,
            "dry_run": body.dry_run,
            "restores": [_planned(plan, backup) for plan, backup in zip(plans, found, strict=True)],
        }
        if body.identity is not None:
            request["identity"] = self._backups.sealed_identity(body.identity)

        async def make() -> Operation:
            owners = {plan.user_id for plan in plans}
            return Operation(
                type="bulk_restore",
                user_id=principal.user_id if principal.user_id is not None or len(owners) > 1 else owners.pop(),
                domain_uid=f"bulk-restore-{secrets.token_hex(12)}",
                request=request,
                bytes_total=sum(plan.bytes_total or 0 for plan in plans) or None,
            )

        return await self._operations.start(unit, principal, idempotency, make)

    @staticmethod
    async def _all(unit: Unit, principal: Principal, ids: list[int]) -> list[Backup]:
        """In the order that was asked for. Raises InvalidRequest for one that is named twice or not there."""
        twice = [f"backup {number} is named twice" for number, count in Counter(ids).items() if count > 1]
        rows = {backup.id: backup for backup in await BackupRepository(unit.session).several(ids)}
        visible = {
            number: row
            for number, row in rows.items()
            if principal.user_id is None or row.user_id == principal.user_id
        }
        missing = [f"there is no backup {number}" for number in dict.fromkeys(ids) if number not in visible]
        if twice or missing:
            raise _refusal(twice + missing)
        return [visible[number] for number in ids]


def _refusal(problems: list[str]) -> InvalidRequest:
    more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return InvalidRequest("; ".join(problems[:_NAMED]) + more, field="backup_ids")


def _of(backup: Backup, databases: dict[str, str]) -> dict[str, str]:
    """Those that it has; of one that a scan found, whose names are not known, all."""
    if any(part.plain_size is None for part in backup.components):
        return databases
    known = {part.name for part in backup.components if part.kind in FAMILIES}
    return {source: target for source, target in databases.items() if source in known}


def _planned(plan: Operation, backup: Backup) -> dict[str, Any]:
    """What the job makes an operation of when its turn comes."""
    return {
        "backup_id": backup.id, "domain_name": backup.domain_name, "domain_id": plan.domain_id,
        "domain_uid": plan.domain_uid, "user_id": plan.user_id, "bytes_total": plan.bytes_total,
        "request": plan.request, "server": plan.server, "destination_id": plan.destination_id,
    }  # fmt: skip

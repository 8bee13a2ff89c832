"""BackupService: starts backups and restores, lists and deletes what there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.db.base import now
from app.db.models import Backup, Domain, Operation
from app.db.repositories.backups import BackupRepository
from app.db.repositories.base import Page, PageRequest
from app.errors import Conflict, InvalidRequest, NotFound, NothingToBackUp, NotRestorable
from app.schemas.backups import LABELS, BackupIn, BackupUpdate, RestoreIn
from app.security.encryption import parse_identity
from app.security.keys import CredentialCipher
from app.security.tokens import Principal
from app.services.components import OBJECTS, Planned, planned
from app.services.database_targets import database_targets
from app.services.destinations import DestinationService
from app.services.domains import DomainService
from app.services.new_databases import NewDatabases
from app.services.operations import Idempotency, OperationService
from app.services.quotas import QuotaService
from app.services.removal import Removal
from app.services.turns import AUTOMATIC, ON_DEMAND, WAITED_FOR
from app.services.unit import Unit


@dataclass(frozen=True, slots=True)
class StartedBy:
    """A schedule, one of its runs, and what it says of proofs."""

    schedule_id: int
    run_id: int
    proof: str | None


class BackupService:
    def __init__(
        self,
        domains: DomainService,
        destinations: DestinationService,
        operations: OperationService,
        quotas: QuotaService,
        cipher: CredentialCipher,
        removal: Removal,
        new_databases: NewDatabases,
    ) -> None:
        self._new_databases = new_databases
        self._removal = removal
        self._quotas = quotas
        self._domains = domains
        self._destinations = destinations
        self._operations = operations
        self._cipher = cipher

    async def get(self, unit: Unit, principal: Principal, backup_id: int) -> Backup:
        backup = await BackupRepository(unit.session).get(backup_id)
        if backup is None:
            raise NotFound(f"There is no backup {backup_id}")
        principal.require_owner(backup.user_id, f"backup {backup_id}")
        return backup

    async def page(
        self, unit: Unit, principal: Principal, request: PageRequest, filters: dict[str, Any]
    ) -> Page[Backup]:
        return await BackupRepository(unit.session).page(request, user_id=principal.user_id, **filters)

    async def stats(self, unit: Unit, principal: Principal, domain_id: int | None) -> dict[str, Any]:
        return await BackupRepository(unit.session).stats(principal.user_id, domain_id)

    async def create(
        self,
        unit: Unit,
        principal: Principal,
        body: BackupIn,
        idempotency: Idempotency,
        schedule: StartedBy | None = None,
    ) -> Operation:
        """Start a backup.

        Raises NotFound, InvalidRequest, AlreadyRunning, QuotaExceeded; nothing is recorded then.
        """
        principal.require("backups:create")
        domain = await self._domains.get(unit, principal, body.domain_id)
        further = [copy.destination_id for copy in body.copies]
        found = await self._destinations.choose_all(unit, principal, body.destination_id, further)
        places = [destination.id for destination in found]
        proof = (schedule.proof if schedule else None) or domain.proof or found[0].proof
        if not planned(domain, body.type):
            raise NothingToBackUp(
                f"{domain.domain_name} has nothing for a {body.type} backup: set document root, databases or mail",
                field="type",
            )
        repository = BackupRepository(unit.session)
        sizes, stored = await repository.last_sizes(domain.uid), await repository.last_stored_sizes(domain.uid)
        parts = [(item.kind, item.name) for item in planned(domain, body.type)]
        expected = sum(stored.get(part, 0) for part in parts) * len(places)

        async def make() -> Operation:
            await self._quotas.check(unit, domain, expected, automatic=schedule is not None)
            backup = _recorded(domain, body, places[0])
            if schedule is not None:
                backup.is_automated, backup.schedule_id = True, schedule.schedule_id
            unit.session.add(backup)
            await unit.session.flush()
            return Operation(
                type="backup",
                user_id=domain.user_id,
                domain_id=domain.id,
                domain_uid=domain.uid,
                backup_id=backup.id,
                backup_type=body.type,
                request={
                    "panel_metadata": body.panel_metadata,
                    "copies": [copy.model_dump() for copy in body.copies],
                    "proof": proof,
                },
                bytes_total=sum(sizes.get(part, 0) for part in parts) or None,
                expected_bytes=expected,
                destination_id=places[0],
                destinations=places,
                priority=ON_DEMAND if schedule is None else AUTOMATIC,
                server=domain.server,
                schedule_run_id=None if schedule is None else schedule.run_id,
            )

        return await self._operations.start(unit, principal, idempotency, make)

    async def restore(
        self, unit: Unit, principal: Principal, backup_id: int, body: RestoreIn, idempotency: Idempotency
    ) -> Operation:
        """Start a restore. Raises NotFound, NotRestorable, InvalidRequest."""
        principal.require("backups:restore")
        backup = await self.get(unit, principal, backup_id)
        operation = await self.plan(unit, principal, backup, body)

        async def make() -> Operation:
            return operation

        return await self._operations.start(unit, principal, idempotency, make)

    async def plan(self, unit: Unit, principal: Principal, backup: Backup, body: RestoreIn) -> Operation:
        """The restore as an operation that is not recorded yet. Raises NotFound, NotRestorable, InvalidRequest."""
        if backup.status not in ("completed", "partial"):
            raise NotRestorable(f"Backup {backup.id} is {backup.status}: it has nothing to restore")
        if not backup.stored_copies:
            raise NotRestorable(f"Backup {backup.id} has no copy that could be read")
        domain = await self._domains.get(unit, principal, _target(backup, body))
        if body.destination_id not in (None, *(copy.destination_id for copy in backup.stored_copies)):
            raise InvalidRequest(f"Backup {backup.id} has no copy there", field="destination_id")
        place = body.destination_id if body.destination_id is not None else backup.stored_copies[0].destination_id
        kinds = {part.number: part.kind for part in backup.components if part.status == "completed"}
        good, objects = kinds.keys(), {number for number, kind in kinds.items() if kind == OBJECTS}
        wanted = set(body.components) if body.components is not None else good - objects
        if objects & wanted:
            principal.require_operator("a namespace's objects in components")
        if not wanted <= good:
            missing = ", ".join(str(number) for number in sorted(wanted - good))
            raise InvalidRequest(f"Backup {backup.id} has no good component {missing}", field="components")
        if not wanted:
            raise InvalidRequest(
                f"Backup {backup.id} has only objects of a namespace: name its component to have them made again",
                field="components",
            )
        await self._check_databases(unit, principal, backup, domain, wanted, body)
        request = body.model_dump(exclude={"identity"}) | {"components": sorted(wanted)}
        if objects and body.components is None:
            request["objects_left"] = sorted(objects)
        if body.identity is not None:
            request["identity"] = self.sealed_identity(body.identity)
        return Operation(
            type="restore",
            user_id=domain.user_id,
            domain_id=domain.id,
            domain_uid=domain.uid,
            backup_id=backup.id,
            destination_id=place,
            destinations=[place],
            priority=WAITED_FOR,
            server=domain.server,
            request=request,
            bytes_total=sum(c.plain_size or 0 for c in backup.components if c.number in wanted) or None,
        )

    async def _check_databases(
        self, unit: Unit, principal: Principal, backup: Backup, domain: Domain, wanted: set[int], body: RestoreIn
    ) -> None:
        """What the job would refuse later, as far as the names are known: not those of a backup that a scan found.
        Raises InvalidRequest, Forbidden, DomainOverlap."""
        if body.create:
            principal.require_operator("create")
        parts = [part for part in backup.components if part.number in wanted]
        if any(part.plain_size is None for part in parts):
            return
        named = [Planned(part.number, part.kind, part.name) for part in parts]
        for target in database_targets(domain, named, body.databases, create=body.create).values():
            await self._new_databases.check(unit, principal, domain, target)

    def sealed_identity(self, identity: str) -> str | None:
        """For an operation's request. Raises KeyMaterialInvalid."""
        parse_identity(identity)
        return self._cipher.seal({"identity": identity})

    async def verify(self, unit: Unit, principal: Principal, backup_id: int, idempotency: Idempotency) -> Operation:
        """Read every copy to its last byte, also of a backup that an earlier verification has called damaged
        everywhere. Raises NotFound, NotRestorable."""
        principal.require("backups:create")
        backup = await self.get(unit, principal, backup_id)
        if backup.status not in ("completed", "partial", "failed") or not backup.stored_copies:
            raise NotRestorable(f"Backup {backup_id} is {backup.status}: it has nothing to verify")
        total = len(backup.stored_copies) * sum(part.stored_size or 0 for part in backup.components)

        async def make() -> Operation:
            return Operation(
                type="verify",
                user_id=backup.user_id,
                domain_id=backup.domain_id,
                domain_uid=f"verify-{backup.uid}",
                backup_id=backup.id,
                destination_id=backup.stored_copies[0].destination_id,
                destinations=[copy.destination_id for copy in backup.stored_copies],
                request={},
                bytes_total=total or None,
            )

        return await self._operations.start(unit, principal, idempotency, make)

    async def update(self, unit: Unit, principal: Principal, backup_id: int, body: BackupUpdate) -> Backup:
        principal.require("backups:create")
        backup = await self.get(unit, principal, backup_id)
        backup.name, backup.description, backup.locked = body.name, body.description, body.locked
        await unit.session.flush()
        return backup

    async def delete(self, unit: Unit, principal: Principal, backup_id: int) -> None:
        """Delete a backup at its destinations, then its row (see Removal). Raises Conflict while it is in use,
        ObjectLocked while a destination keeps it, and what kept a copy from being deleted."""
        principal.require("backups:delete")
        backup = await self.get(unit, principal, backup_id)
        repository = BackupRepository(unit.session)
        if backup.locked:
            raise Conflict(f"Backup {backup_id} is locked; unlock it first")
        if await repository.in_use(backup_id):
            raise Conflict(f"Backup {backup_id} is being made or restored; wait for it or cancel the operation")
        await unit.release()
        await self._removal.everywhere(unit, backup_id)


def _target(backup: Backup, body: RestoreIn) -> int:
    target = body.target_domain_id if body.target_domain_id is not None else backup.domain_id
    if target is None:
        raise InvalidRequest("The backup's domain is gone; name a target_domain_id", field="target_domain_id")
    return target


def _recorded(domain: Domain, body: BackupIn, destination_id: int) -> Backup:
    name = body.name or f"{domain.domain_name} {LABELS[body.type]} {now():%Y-%m-%d %H:%M}"
    return Backup(
        domain_id=domain.id,
        domain_uid=domain.uid,
        domain_name=domain.domain_name,
        user_id=domain.user_id,
        destination_id=destination_id,
        type=body.type,
        name=name,
        description=body.description,
        components=[],
        copies=[],
    )

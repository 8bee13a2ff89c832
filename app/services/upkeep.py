"""UpkeepService: starts the jobs that look after what lies at a destination."""

from __future__ import annotations

from typing import Any

from app.db.models import Destination, Domain, Operation
from app.schemas.destinations import CleanupIn, ScanIn, SweepIn
from app.security.tokens import Principal
from app.services.destinations import DestinationService
from app.services.operations import Idempotency, OperationService
from app.services.turns import AUTOMATIC, ON_DEMAND
from app.services.unit import Unit


class UpkeepService:
    def __init__(self, destinations: DestinationService, operations: OperationService) -> None:
        self._destinations = destinations
        self._operations = operations

    async def clean(
        self, unit: Unit, principal: Principal, destination_id: int, body: CleanupIn, idempotency: Idempotency
    ) -> Operation:
        """Delete what the destination's rules do not keep, or only say what it is. Raises NotFound, Forbidden."""
        principal.require("backups:delete")
        destination = await self._destinations.own(unit, principal, destination_id)
        return await self._start(unit, principal, "cleanup", destination, body.model_dump(), idempotency)

    async def sweep(
        self, unit: Unit, principal: Principal, destination_id: int, body: SweepIn, idempotency: Idempotency
    ) -> Operation:
        """Remove what interrupted backups have left there; operators only, since it may be anybody's."""
        principal.require_operator("A sweep")
        principal.require("backups:delete")
        destination = await self._destinations.own(unit, principal, destination_id)
        return await self._start(unit, principal, "sweep", destination, body.model_dump(), idempotency)

    async def record_sweep(self, unit: Unit, destination: Destination, grace_hours: int) -> None:
        """As `sweep`, by the service itself."""
        request = SweepIn(grace_hours=grace_hours).model_dump()
        await self._operations.record(unit, _operation("sweep", destination, request, AUTOMATIC))

    async def record_tidy(self, unit: Unit, domain: Domain) -> None:
        """See to what restores of a domain have left, by the service itself."""
        operation = Operation(
            type="tidy",
            user_id=domain.user_id,
            domain_id=domain.id,
            domain_uid=domain.uid,
            server=domain.server,
            destinations=[],
            priority=AUTOMATIC,
            request={},
        )
        await self._operations.record(unit, operation)

    async def scan(
        self, unit: Unit, principal: Principal, destination_id: int, body: ScanIn, idempotency: Idempotency
    ) -> Operation:
        """List again what the catalogue has lost, or what was there at a time; operators only, since it may be
        anybody's."""
        principal.require_operator("A scan")
        destination = await self._destinations.own(unit, principal, destination_id)
        return await self._start(unit, principal, "scan", destination, body.model_dump(mode="json"), idempotency)

    async def _start(
        self,
        unit: Unit,
        principal: Principal,
        type: str,
        destination: Destination,
        request: dict[str, Any],
        idempotency: Idempotency,
    ) -> Operation:
        async def make() -> Operation:
            return _operation(type, destination, request, ON_DEMAND)

        return await self._operations.start(unit, principal, idempotency, make)


def _operation(type: str, destination: Destination, request: dict[str, Any], priority: int) -> Operation:
    return Operation(
        type=type,
        user_id=destination.user_id,
        domain_uid=f"destination-{destination.id}",
        destination_id=destination.id,
        destinations=[destination.id],
        priority=priority,
        request=request,
    )

"""CleanupService: starts retention at a destination."""

from __future__ import annotations

from app.db.models import Operation
from app.schemas.destinations import CleanupIn
from app.security.tokens import Principal
from app.services.destinations import DestinationService
from app.services.operations import Idempotency, OperationService
from app.services.unit import Unit


class CleanupService:
    def __init__(self, destinations: DestinationService, operations: OperationService) -> None:
        self._destinations = destinations
        self._operations = operations

    async def start(
        self, unit: Unit, principal: Principal, destination_id: int, body: CleanupIn, idempotency: Idempotency
    ) -> Operation:
        """Delete what the destination's rules do not keep, or only say what it is. Raises NotFound, Forbidden."""
        principal.require("backups:delete")
        destination = await self._destinations.own(unit, principal, destination_id)

        async def make() -> Operation:
            return Operation(
                type="cleanup",
                user_id=destination.user_id,
                domain_uid=f"destination-{destination.id}",
                destination_id=destination.id,
                request=body.model_dump(),
            )

        return await self._operations.start(unit, principal, idempotency, make)

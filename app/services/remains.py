"""RemainsService: what ended restores have left where a domain runs."""

from __future__ import annotations

from app.db.models import RestoreRemains
from app.db.repositories.domains import DomainRepository
from app.db.repositories.remains import RemainsRepository
from app.deployments.tree import SwapPlan
from app.errors import Conflict, NotFound
from app.schemas.domains import RemainsOut
from app.security.tokens import Principal
from app.services.components import REPLICA
from app.services.domains import DomainService
from app.services.unit import Unit


class RemainsService:
    def __init__(self, domains: DomainService) -> None:
        self._domains = domains

    async def list(self, unit: Unit, principal: Principal, domain_id: int) -> list[RemainsOut]:
        """The oldest first. Raises NotFound."""
        domain = await self._domains.get(unit, principal, domain_id)
        return [_shown(row) for row in await RemainsRepository(unit.session).of_domain(domain.id)]

    async def forget(self, unit: Unit, principal: Principal, domain_id: int, remains_id: int) -> None:
        """See to it no more: nothing is moved or removed where the site runs. Operators only. What removes it at
        this very moment goes on.

        Raises NotFound, Forbidden; Conflict while something unsettled may be settled by an operation that runs.
        """
        principal.require_operator("What a restore has left")
        principal.require("domains:manage")
        domain = await self._domains.get(unit, principal, domain_id)
        repository = RemainsRepository(unit.session)
        for row in await repository.of_domain(domain.id):
            if row.id == remains_id:
                if row.unsettled and await DomainRepository(unit.session).runs(domain.uid):
                    raise Conflict(f"{domain.domain_name} has a running operation; wait for it or cancel it")
                await repository.forget(row)
                return
        raise NotFound(f"No restore of {domain.domain_name} has left {remains_id}, or it has been seen to")


def _shown(row: RestoreRemains) -> RemainsOut:
    plan = row.journal.get("plan")
    columns = {name: getattr(row, name) for name in RemainsOut.model_fields if name not in ("folder", "place")}
    place = (row.journal.get(REPLICA) or {}).get("place")
    return RemainsOut(**columns, folder=SwapPlan(**plan).staging_path if plan else None, place=place)

"""DeploymentService: what this service runs in, and where domains run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.schemas.domains import DetectionOut, ProbeOut, RightOut
from app.security.tokens import Principal
from app.services.components import ComponentFactory, planned
from app.services.domains import DomainService
from app.services.unit import Unit


class DeploymentService:
    def __init__(self, domains: DomainService, components: ComponentFactory) -> None:
        self._domains = domains
        self._components = components

    async def environment(self) -> dict[str, Any]:
        return await self._components.environment()

    async def detect(self, unit: Unit, principal: Principal, domain_id: int) -> DetectionOut:
        """What a backup of the domain would find and use now; nothing is changed. Raises NotFound."""
        principal.require("domains:manage")
        domain = await self._domains.get(unit, principal, domain_id)
        await unit.release()
        found, uses, rights = await self._components.detect(domain)
        return DetectionOut(
            type=found.type,
            reason=found.reason,
            probes=[ProbeOut(type=probe.type, found=probe.found, reason=probe.reason) for probe in found.probes],
            document_root=domain.document_root,
            mail_path=domain.mail_path,
            databases=[f"{item.kind} {item.name}" for item in planned(domain, "database")],
            uses=uses,
            rights=[RightOut(**asdict(right)) for right in rights],
        )

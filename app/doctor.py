"""doctor: what the service could not do, before somebody needs it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from typing import Any

from app.beside import opened
from app.bootstrap import helper_image
from app.db.models import Domain
from app.db.repositories.domains import DomainRepository
from app.deployments.registry import DeploymentRegistry
from app.deployments.site import Right
from app.errors import LiberuError, NotFound
from app.services.components import ComponentFactory
from app.settings import Settings

_BATCH = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one domain in Kubernetes. `context`: of the kubeconfig; None: its current one. `uses`: the pods that would
    be used, by role that it has something of; `missing`: rights; `unknown`: those that may not be asked for;
    `problem`: why nothing can be told."""

    domain: str
    context: str | None
    uses: dict[str, Any]
    missing: list[Right]
    unknown: list[Right]
    problem: str | None = None

    @property
    def healthy(self) -> bool:
        found = all("problem" not in used for used in self.uses.values())
        return self.problem is None and found and not any(right.required for right in self.missing)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "healthy": self.healthy}

    def lines(self) -> list[str]:
        name = self.domain if self.context is None else f"{self.domain} (context {self.context})"
        told = [f"{name}: {self.problem}"] if self.problem else []
        for right in self.missing:
            weight = "MISSING" if right.required else "not allowed"
            told.append(f"{name}: {weight}: {right.right} in {right.namespace}: {right.without}")
        if self.unknown:
            among = ", ".join(f"{right.right} in {right.namespace}" for right in self.unknown)
            told.append(f"{name}: not known, since it may not be asked (create selfsubjectaccessreviews): {among}")
        for role, used in self.uses.items():
            found = used.get("problem") or f"pod {used['pod']}, container {used['container']}"
            if others := used.get("others"):
                found += f"; not the same: {', '.join(others)}"
            if why := used.get("no_snapshot"):
                found += f"; no snapshot can be made: {why}"
            told.append(f"{name}: {role}: {found}")
        return told


async def kubernetes(settings: Settings, name: str | None) -> AsyncGenerator[Finding, None]:
    """Of each domain that runs in pods, or of one. Changes nothing. Raises NotFound."""
    async with opened(settings) as (keys, database):
        where = settings.deployments
        registry = DeploymentRegistry(
            where.docker_url,
            where.kubeconfig,
            silence=where.silence_seconds,
            helper=helper_image(where.helper),
        )
        components = ComponentFactory(registry, settings.sites, keys.cipher, _forget, settings.jobs.server)
        try:
            last = 0
            while True:
                async with database.transaction() as session:
                    repository = DomainRepository(session)
                    if name is None:
                        domains = await repository.after(last, _BATCH)
                    else:
                        one = await repository.by_name(name)
                        if one is None:
                            raise NotFound(f"There is no domain {name}")
                        domains = [one]
                for domain in domains:
                    last = domain.id
                    if (found := await _examined(components, domain, asked=name is not None)) is not None:
                        yield found
                if name is not None or len(domains) < _BATCH:
                    return
        finally:
            await registry.close()


async def _examined(components: ComponentFactory, domain: Domain, *, asked: bool) -> Finding | None:
    kind = domain.deployment.get("type", "auto")
    if kind not in ("kubernetes", "auto") and not asked:
        return None
    context = domain.deployment.get("context")
    try:
        found, uses, rights = await components.detect(domain)
    except LiberuError as error:
        return Finding(domain.domain_name, context, {}, [], [], error.message)
    if found.type != "kubernetes":
        problem = f"is not found in Kubernetes: {found.reason}"
        return Finding(domain.domain_name, context, {}, [], [], problem) if asked else None
    wanted = {
        "files": domain.document_root is not None,
        "mail": domain.mail_path is not None,
        "database": any(database.host is None for database in domain.databases),
    }
    uses = {role: used for role, used in uses.items() if wanted[role]}
    missing = [right for right in rights if right.allowed is False]
    return Finding(domain.domain_name, context, uses, missing, [right for right in rights if right.allowed is None])


async def _forget(domain_id: int, found: dict[str, Any]) -> None:
    """What is learnt of a server is not kept."""

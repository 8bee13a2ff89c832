"""QuotaService: what each tenant may use, and what it does."""

from __future__ import annotations

from app.db.models import Domain, TenantQuota
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.quotas import QuotaRepository
from app.errors import NotFound, QuotaExceeded
from app.schemas.quotas import QuotaIn, QuotaOut, QuotaUse
from app.security.tokens import Principal
from app.services.unit import Unit
from app.settings import QuotaSettings
from app.sizes import human_size


class QuotaService:
    """Quotas belong to a user. Who makes the request does not matter: a panel asks with a token of its own."""

    def __init__(self, defaults: QuotaSettings) -> None:
        self._defaults = defaults

    async def get(self, unit: Unit, principal: Principal, user_id: int) -> QuotaOut:
        """Raises NotFound for another user's."""
        principal.require_owner(user_id, f"quota of user {user_id}")
        repository = QuotaRepository(unit.session)
        return await self._shown(repository, user_id, await repository.get(user_id))

    async def page(self, unit: Unit, principal: Principal, request: PageRequest) -> Page[QuotaOut]:
        """Those that were set; operators only."""
        principal.require_operator("Quotas")
        repository = QuotaRepository(unit.session)
        found = await repository.page(request)
        return Page([await self._shown(repository, row.user_id, row) for row in found.items], found.total, request)

    async def set(self, unit: Unit, principal: Principal, user_id: int, body: QuotaIn) -> QuotaOut:
        self._require(principal)
        repository = QuotaRepository(unit.session)
        row = await repository.get(user_id)
        if row is None:
            repository.add(row := TenantQuota(user_id=user_id))
        row.stored_bytes, row.on_demand_backups = body.stored_bytes, body.on_demand_backups
        row.operations = body.operations
        await repository.flush()
        return await self._shown(repository, user_id, row)

    async def reset(self, unit: Unit, principal: Principal, user_id: int) -> None:
        """As the settings say again. Raises NotFound when nothing was set."""
        self._require(principal)
        repository = QuotaRepository(unit.session)
        row = await repository.get(user_id)
        if row is None:
            raise NotFound(f"User {user_id} has no quota of their own")
        await repository.delete(row)

    async def check(self, unit: Unit, domain: Domain, expected: int, *, automatic: bool) -> None:
        """Before a backup is recorded, in its transaction: others of the same user wait for that.

        `expected`: what it will store, as far as that can be known. Raises QuotaExceeded.
        """
        if domain.user_id is None:
            return
        repository = QuotaRepository(unit.session)
        limits = self._limits(await repository.get(domain.user_id))
        if limits.stored_bytes is None and (limits.on_demand_backups is None or automatic):
            return
        await repository.lock(domain.user_id)
        if limits.stored_bytes is not None:
            used = await repository.stored_bytes(domain.user_id)
            if used >= limits.stored_bytes or used + expected > limits.stored_bytes:
                raise QuotaExceeded(
                    f"User {domain.user_id} may store {human_size(limits.stored_bytes)} of backups and uses "
                    f"{human_size(used)}; about {human_size(expected)} more are needed. Delete backups, or raise the "
                    "quota"
                )
        if limits.on_demand_backups is not None and not automatic:
            count = await repository.on_demand(domain.user_id)
            if count >= limits.on_demand_backups:
                raise QuotaExceeded(
                    f"User {domain.user_id} may keep {limits.on_demand_backups} backups on demand and has {count}. "
                    "Delete one, or raise the quota"
                )

    @staticmethod
    def _require(principal: Principal) -> None:
        principal.require("*")
        principal.require_operator("Quotas")

    def _limits(self, row: TenantQuota | None) -> QuotaIn:
        given = QuotaIn() if row is None else QuotaIn.model_validate(row)
        default = self._defaults.model_dump()
        return QuotaIn(**{name: default[name] if value is None else value for name, value in given})

    async def _shown(self, repository: QuotaRepository, user_id: int, row: TenantQuota | None) -> QuotaOut:
        return QuotaOut(
            user_id=user_id,
            quota=QuotaIn() if row is None else QuotaIn.model_validate(row),
            limits=self._limits(row),
            used=QuotaUse(
                stored_bytes=await repository.stored_bytes(user_id),
                on_demand_backups=await repository.on_demand(user_id),
                operations=await repository.active(user_id),
            ),
        )

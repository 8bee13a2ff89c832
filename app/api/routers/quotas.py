"""What tenants may use."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.dependencies import Caller, Paging, Reader, Services, Transaction
from app.api.routers.resources import paged
from app.schemas.common import Id, PageOf
from app.schemas.quotas import QuotaIn, QuotaOut

router = APIRouter(prefix="/api/quotas", tags=["quotas"])


@router.get("")
async def list_quotas(unit: Transaction, caller: Reader, services: Services, paging: Paging) -> PageOf[QuotaOut]:
    """Those that were set; everybody else has what the settings say."""
    return paged(await services.quotas.page(unit, caller, paging), QuotaOut)


@router.get("/{user_id}")
async def get_quota(user_id: Id, unit: Transaction, caller: Reader, services: Services) -> QuotaOut:
    return await services.quotas.get(unit, caller, user_id)


@router.put("/{user_id}")
async def set_quota(user_id: Id, body: QuotaIn, unit: Transaction, caller: Caller, services: Services) -> QuotaOut:
    return await services.quotas.set(unit, caller, user_id, body)


@router.delete("/{user_id}", status_code=204)
async def reset_quota(user_id: Id, unit: Transaction, caller: Caller, services: Services) -> None:
    """What the settings say applies again."""
    await services.quotas.reset(unit, caller, user_id)

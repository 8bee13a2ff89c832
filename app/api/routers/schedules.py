"""Automatic backups."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.api.dependencies import Caller, Paging, Reader, Services, Transaction
from app.api.routers.resources import paged
from app.schemas.common import Id, PageOf
from app.schemas.schedules import ScheduleIn, ScheduleOut, ScheduleRunOut

router = APIRouter(prefix="/api/backup-schedules", tags=["schedules"])


@router.post("", status_code=201)
async def create_schedule(body: ScheduleIn, unit: Transaction, caller: Caller, services: Services) -> ScheduleOut:
    return services.schedules.shown(await services.schedules.create(unit, caller, body))


@router.get("")
async def list_schedules(
    unit: Transaction, caller: Reader, services: Services, paging: Paging
) -> PageOf[ScheduleOut]:
    return paged(await services.schedules.page(unit, caller, paging), ScheduleOut)


@router.get("/{schedule_id}")
async def get_schedule(schedule_id: Id, unit: Transaction, caller: Reader, services: Services) -> ScheduleOut:
    return services.schedules.shown(await services.schedules.get(unit, caller, schedule_id))


@router.put("/{schedule_id}")
async def update_schedule(
    schedule_id: Id, body: ScheduleIn, unit: Transaction, caller: Caller, services: Services
) -> ScheduleOut:
    """Its next run is the next time due after now."""
    return services.schedules.shown(await services.schedules.update(unit, caller, schedule_id, body))


@router.delete("/{schedule_id}", status_code=204)
async def delete_schedule(schedule_id: Id, unit: Transaction, caller: Caller, services: Services) -> Response:
    """The backups that it has made stay."""
    await services.schedules.delete(unit, caller, schedule_id)
    return Response(status_code=204)


@router.post("/{schedule_id}/run", status_code=202)
async def run_schedule(schedule_id: Id, unit: Transaction, caller: Caller, services: Services) -> ScheduleRunOut:
    """Now, besides the times it is due. Of many domains the first backups are started at once, the rest by and by."""
    return await services.schedules.run(unit, caller, schedule_id)


@router.get("/{schedule_id}/runs")
async def list_runs(
    schedule_id: Id, unit: Transaction, caller: Reader, services: Services, paging: Paging
) -> PageOf[ScheduleRunOut]:
    return paged(await services.schedules.runs(unit, caller, schedule_id, paging), ScheduleRunOut)

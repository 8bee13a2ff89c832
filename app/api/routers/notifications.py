"""Who is told of what."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

from app.api.dependencies import Caller, Paging, Reader, Services, Transaction
from app.api.routers.resources import paged
from app.schemas.common import Id, PageOf
from app.schemas.notifications import ChannelIn, ChannelOut, DeliveryOut, NewChannel

router = APIRouter(prefix="/api/notification-channels", tags=["notifications"])


@router.post("", status_code=201)
async def create_channel(body: ChannelIn, unit: Transaction, caller: Caller, services: Services) -> NewChannel:
    """A webhook's secret is shown once, in this answer."""
    channel, secret = await services.notifications.create(unit, caller, body)
    return NewChannel(**ChannelOut.model_validate(channel).model_dump(), secret=secret)


@router.get("")
async def list_channels(unit: Transaction, caller: Reader, services: Services, paging: Paging) -> PageOf[ChannelOut]:
    return paged(await services.notifications.page(unit, caller, paging), ChannelOut)


@router.get("/{channel_id}")
async def get_channel(channel_id: Id, unit: Transaction, caller: Reader, services: Services) -> ChannelOut:
    return ChannelOut.model_validate(await services.notifications.get(unit, caller, channel_id))


@router.put("/{channel_id}")
async def update_channel(
    channel_id: Id, body: ChannelIn, unit: Transaction, caller: Caller, services: Services
) -> ChannelOut:
    """A URL that is left out stays, and so does the secret."""
    return ChannelOut.model_validate(await services.notifications.update(unit, caller, channel_id, body))


@router.delete("/{channel_id}", status_code=204)
async def delete_channel(channel_id: Id, unit: Transaction, caller: Caller, services: Services) -> None:
    await services.notifications.delete(unit, caller, channel_id)


@router.post("/{channel_id}/rotate-secret")
async def rotate_channel_secret(channel_id: Id, unit: Transaction, caller: Caller, services: Services) -> NewChannel:
    """The new secret is shown once, in this answer; the old one is not used any more."""
    channel, secret = await services.notifications.rotate(unit, caller, channel_id)
    return NewChannel(**ChannelOut.model_validate(channel).model_dump(), secret=secret)


@router.post("/{channel_id}/test", status_code=202)
async def test_channel(channel_id: Id, unit: Transaction, caller: Caller, services: Services) -> DeliveryOut:
    """Its delivery tells what has become of it."""
    return DeliveryOut.model_validate(await services.notifications.test(unit, caller, channel_id))


@router.get("/{channel_id}/deliveries")
async def list_deliveries(
    channel_id: Id,
    unit: Transaction,
    caller: Reader,
    services: Services,
    paging: Paging,
    status: Literal["pending", "delivered", "failed"] | None = None,
) -> PageOf[DeliveryOut]:
    return paged(await services.notifications.deliveries(unit, caller, channel_id, paging, status), DeliveryOut)


@router.post("/{channel_id}/deliveries/{delivery_id}/replay", status_code=202)
async def replay_delivery(
    channel_id: Id, delivery_id: Id, unit: Transaction, caller: Caller, services: Services
) -> DeliveryOut:
    """Once more, with the same id and content."""
    return DeliveryOut.model_validate(await services.notifications.replay(unit, caller, channel_id, delivery_id))

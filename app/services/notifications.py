"""NotificationService: who is told of what, and what has become of each message."""

from __future__ import annotations

from urllib.parse import urlsplit

from app.db.base import now
from app.db.models import NotificationChannel, NotificationDelivery
from app.db.repositories.base import Page, PageRequest
from app.db.repositories.notifications import NotificationRepository
from app.errors import Conflict, InvalidRequest, NotFound
from app.notifications.registry import MessengerRegistry, new_secret
from app.schemas.notifications import ChannelIn
from app.security.keys import CredentialCipher
from app.security.tokens import Principal
from app.services.notices import EVENTS, Notices, matches
from app.services.unit import Unit


class NotificationService:
    def __init__(self, messengers: MessengerRegistry, cipher: CredentialCipher, notices: Notices) -> None:
        self._messengers = messengers
        self._cipher = cipher
        self._notices = notices

    async def get(self, unit: Unit, principal: Principal, channel_id: int) -> NotificationChannel:
        channel = await NotificationRepository(unit.session).channel(channel_id)
        if channel is None:
            raise NotFound(f"There is no notification channel {channel_id}")
        principal.require_owner(channel.user_id, f"notification channel {channel_id}")
        return channel

    async def page(self, unit: Unit, principal: Principal, request: PageRequest) -> Page[NotificationChannel]:
        return await NotificationRepository(unit.session).channels(request, principal.user_id)

    async def create(
        self, unit: Unit, principal: Principal, body: ChannelIn
    ) -> tuple[NotificationChannel, str | None]:
        """The channel, and a webhook's secret. Raises InvalidRequest, Forbidden."""
        if body.url is None:
            raise InvalidRequest("A channel needs a URL", field="url")
        channel = NotificationChannel(type=body.type)
        credentials = {"secret": new_secret()} if body.type == "webhook" else {}
        await self._apply(principal, channel, body, credentials)
        unit.session.add(channel)
        await unit.session.flush()
        return channel, credentials.get("secret")

    async def update(self, unit: Unit, principal: Principal, channel_id: int, body: ChannelIn) -> NotificationChannel:
        """The secret of a webhook stays. Raises as `create`."""
        channel = await self.get(unit, principal, channel_id)
        if body.type != channel.type:
            raise InvalidRequest("A channel's type cannot change: make another one", field="type")
        await self._apply(principal, channel, body, self._cipher.open(channel.credentials))
        await unit.session.flush()
        return channel

    async def _apply(
        self, principal: Principal, channel: NotificationChannel, body: ChannelIn, credentials: dict[str, str]
    ) -> None:
        principal.require("notifications:manage")
        if body.type != "webhook":  # such a URL can make this service speak to anything
            principal.require_operator("A channel of this type")
        if body.user_id is not None and body.user_id != principal.user_id:
            principal.require_operator("user_id")
        if body.url is not None:
            credentials["url"] = body.url.get_secret_value()
        for pattern in body.events:
            if not any(matches([pattern], event) for event in EVENTS):
                raise InvalidRequest(f"{pattern} matches no event; there are {', '.join(EVENTS)}", field="events")
        try:
            await self._messengers.check(body.type, credentials["url"])
        except ValueError as error:
            raise InvalidRequest(f"The URL {error}", field="url") from error
        channel.name, channel.events, channel.is_active = body.name, body.events, body.is_active
        channel.user_id = body.user_id if principal.operator else principal.user_id
        parts = urlsplit(credentials["url"])
        # Of a chat's URL even what stands for the host may be a token.
        channel.shown = f"{parts.scheme}://{parts.hostname if body.type == 'webhook' else ''}…"[:300]
        sealed = self._cipher.seal(credentials)
        assert sealed is not None
        channel.credentials = sealed

    async def delete(self, unit: Unit, principal: Principal, channel_id: int) -> None:
        """With its deliveries."""
        principal.require("notifications:manage")
        await NotificationRepository(unit.session).delete(await self.get(unit, principal, channel_id))

    async def rotate(
        self, unit: Unit, principal: Principal, channel_id: int
    ) -> tuple[NotificationChannel, str | None]:
        """Another secret, at once. Raises InvalidRequest where there is none."""
        principal.require("notifications:manage")
        channel = await self.get(unit, principal, channel_id)
        credentials = self._cipher.open(channel.credentials)
        if "secret" not in credentials:
            raise InvalidRequest("Only webhooks are signed", field="type")
        credentials["secret"] = new_secret()
        sealed = self._cipher.seal(credentials)
        assert sealed is not None
        channel.credentials = sealed
        await unit.session.flush()
        return channel, credentials["secret"]

    async def test(self, unit: Unit, principal: Principal, channel_id: int) -> NotificationDelivery:
        """Send something harmless, whatever the channel's events are."""
        principal.require("notifications:manage")
        made = self._notices.test(unit.session, await self.get(unit, principal, channel_id))
        await unit.session.flush()
        return made

    async def deliveries(
        self, unit: Unit, principal: Principal, channel_id: int, request: PageRequest, status: str | None
    ) -> Page[NotificationDelivery]:
        await self.get(unit, principal, channel_id)
        return await NotificationRepository(unit.session).deliveries(channel_id, request, status)

    async def replay(
        self, unit: Unit, principal: Principal, channel_id: int, delivery_id: int
    ) -> NotificationDelivery:
        """Send it once more, under the same id. Raises Conflict while it is still tried."""
        principal.require("notifications:manage")
        await self.get(unit, principal, channel_id)
        delivery = await NotificationRepository(unit.session).delivery(delivery_id)
        if delivery is None or delivery.channel_id != channel_id:
            raise NotFound(f"There is no delivery {delivery_id}")
        if delivery.status == "pending":
            raise Conflict(f"Delivery {delivery_id} has not ended: it is tried again by itself")
        delivery.status, delivery.attempts, delivery.next_at = "pending", 0, now()
        await unit.session.flush()
        return delivery

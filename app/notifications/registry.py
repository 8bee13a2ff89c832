"""From a channel's type to what sends."""

from __future__ import annotations

from app.addresses import AddressGuard
from app.notifications.apprise import AppriseMessenger
from app.notifications.apprise import checked_url as checked_service
from app.notifications.base import Messenger
from app.notifications.webhook import WebhookMessenger, checked_url, new_secret
from app.settings import NotificationSettings

__all__ = ["MessengerRegistry", "new_secret"]


class MessengerRegistry:
    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings

    @staticmethod
    async def check(type: str, url: str) -> None:
        """Raises ValueError."""
        if type == "webhook":
            checked_url(url)
        else:
            await checked_service(url)

    def messenger(self, type: str, configuration: dict[str, str], *, operators: bool) -> Messenger:
        """`operators`: the channel is theirs, and may reach what operators may."""
        seconds = self._settings.timeout_seconds
        if type == "webhook":
            private = operators and self._settings.allow_private
            guard = AddressGuard(allow_private=private)
            return WebhookMessenger(configuration["url"], configuration["secret"], guard, seconds)
        return AppriseMessenger(configuration["url"], seconds)

"""E-mail, chat and whatever else Apprise can reach."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from app.errors import NotificationFailed, NotificationRefused
from app.notifications.base import Messenger, Notification

if TYPE_CHECKING:
    from apprise import Apprise

#: Services of Apprise that would act on this machine instead of telling somebody.
_LOCAL = ("dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows")


class AppriseMessenger(Messenger):
    """`url`: a service in Apprise's notation, for example mailtos://user:password@example.com. `seconds`: for one
    attempt."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds

    async def send(self, notification: Notification) -> str:
        service = await asyncio.to_thread(_service, self._url)
        if service is None:
            raise NotificationRefused("Apprise does not know this URL")
        try:
            async with asyncio.timeout(self._seconds):
                sent = await service.async_notify(title=notification.title, body=notification.text)
        except TimeoutError as error:
            raise NotificationFailed(f"No answer within {self._seconds:g} s") from error
        if not sent:
            raise NotificationFailed("The service did not take it; check the URL's account and address")
        return "taken"


async def checked_url(url: str) -> str:
    """Raises ValueError for what Apprise does not know, and for services of this machine."""
    if url.partition(":")[0].lower() in _LOCAL or await asyncio.to_thread(_service, url) is None:
        raise ValueError("is no URL of a service that Apprise can reach")
    return url


def _service(url: str) -> Apprise | None:
    """Blocking: the first call loads all of its services."""
    from apprise import Apprise

    # It says to its log why something was not sent, and there with the URL.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    made = Apprise()
    return made if made.add(url) else None

"""E-mail, chat and whatever else Apprise can reach."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import AddressForbidden, NotificationFailed, NotificationRefused
from app.notifications.apprise_process import FORBIDDEN, TAKEN, UNKNOWN
from app.notifications.base import Messenger, Notification

if TYPE_CHECKING:
    from apprise import Apprise

#: Services of Apprise that would act on this machine instead of telling somebody.
_LOCAL = ("dbus", "gio", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows")
_ROOT = Path(__file__).parents[2]


class AppriseMessenger(Messenger):
    """`url`: a service in Apprise's notation, for example mailtos://user:password@example.com. `seconds`: for one
    attempt. `allow_private`: it may be at a private address, as an operator's mail server often is."""

    def __init__(self, url: str, seconds: float, *, allow_private: bool = True) -> None:
        self._url = url
        self._seconds = seconds
        self._allow_private = allow_private

    async def send(self, notification: Notification) -> str:
        wanted = {
            "url": self._url,
            "title": notification.title,
            "text": notification.text,
            "allow_private": self._allow_private,
        }
        try:
            async with asyncio.timeout(self._seconds):
                status = await _run(json.dumps(wanted).encode())
        except TimeoutError as error:
            raise NotificationFailed(f"No answer within {self._seconds:g} s") from error
        if status == UNKNOWN:
            raise NotificationRefused("Apprise does not know this URL")
        if status == FORBIDDEN:
            raise AddressForbidden("The service's address may not be reached", field="url")
        if status != TAKEN:
            raise NotificationFailed("The service did not take it; check the URL's account and address")
        return "taken"


async def _run(wanted: bytes) -> int:
    """With nothing of our environment: no proxy, no secret, no desktop."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-s", "-P", "-m", "app.notifications.apprise_process",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        cwd="/", env={"PATH": os.defpath, "PYTHONPATH": str(_ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    try:
        await process.communicate(wanted)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
    return process.returncode or 0


async def checked_url(url: str) -> str:
    """Raises ValueError for what Apprise does not know, and for services of this machine."""
    if url.partition(":")[0].lower() in _LOCAL or await asyncio.to_thread(_service, url) is None:
        raise ValueError("is no URL of a service that Apprise can reach")
    return url


def _service(url: str) -> Apprise | None:
    """Blocking: the first call loads all of its services."""
    from apprise import Apprise

    # It says to its log why something is no URL, and there with the URL.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    made = Apprise()
    return made if made.add(url) else None

"""Sends what was recorded to be told, again and again until it arrives or is given up."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import timedelta
from typing import Any

from app.db.base import now
from app.db.models import NotificationChannel, NotificationDelivery
from app.db.repositories.notifications import NotificationRepository
from app.db.session import Database
from app.errors import LiberuError
from app.jobs.background import BackgroundTask
from app.notifications.base import Notification
from app.notifications.registry import MessengerRegistry
from app.security.keys import CredentialCipher

log = logging.getLogger(__name__)
#: Seconds between attempts; what has not arrived after the last one, about two days later, is given up.
PAUSES = (10, 60, 300, 1800, 7200, 21_600, 43_200, 86_400)
_AT_ONCE = 20
_LOGGED = 20


class Courier(BackgroundTask):
    """Every worker has one. `seconds`: between two looks; `timeout`: of an attempt."""

    def __init__(
        self,
        database: Database,
        messengers: MessengerRegistry,
        cipher: CredentialCipher,
        seconds: float,
        timeout: float,
        pauses: tuple[float, ...] = PAUSES,
    ) -> None:
        self._database = database
        self._messengers = messengers
        self._cipher = cipher
        self._seconds = seconds
        self._taken_for = timedelta(seconds=2 * timeout + 10)
        self._pauses = pauses

    async def _run(self) -> None:
        while True:
            try:
                while await self.deliver():
                    pass
            except Exception as error:  # noqa: BLE001,RUF100  the next one may succeed; what is due stays due
                log.warning("Notifications could not be sent: %s", type(error).__name__, exc_info=True)
            await asyncio.sleep(self._seconds)

    async def deliver(self) -> bool:
        """Try what is due; False when nothing was."""
        async with self._database.transaction() as session:
            repository = NotificationRepository(session)
            due = await repository.claim(now(), now() + self._taken_for, _AT_ONCE)
            channels = {number: await repository.channel(number) for number in {one.channel_id for one in due}}
        async with asyncio.TaskGroup() as group:
            for delivery in due:
                channel = channels[delivery.channel_id]
                if channel is not None:
                    group.create_task(self._attempt(delivery, channel))
        return bool(due)

    async def _attempt(self, delivery: NotificationDelivery, channel: NotificationChannel) -> None:
        started, begun = now(), time.monotonic()
        values: dict[str, Any] = {}
        try:
            answer = await self._send(delivery, channel)
            values = {"status": "delivered", "delivered_at": now()}
        except LiberuError as error:
            answer = error.message
            left = self._pauses[delivery.attempts - 1 :]
            if error.retryable and left:
                values = {"next_at": now() + timedelta(seconds=left[0])}
            else:
                values = {"status": "failed"}
        except Exception as error:  # a library's own; the others must go on
            log.exception("Notification %s could not be sent", delivery.uid)
            answer, values = f"An internal error: {type(error).__name__}", {"status": "failed"}
        entry = {
            "at": started.isoformat(),
            "outcome": values.get("status", "will be tried again"),
            "answer": answer,
            "milliseconds": round((time.monotonic() - begun) * 1000),
        }
        values["log"] = [*delivery.log, entry][-_LOGGED:]
        async with self._database.transaction() as session:
            await NotificationRepository(session).tried(delivery.id, delivery.attempts, **values)

    async def _send(self, delivery: NotificationDelivery, channel: NotificationChannel) -> str:
        credentials = self._cipher.open(channel.credentials)
        messenger = self._messengers.messenger(channel.type, credentials, operators=channel.user_id is None)
        return await messenger.send(
            Notification(delivery.uid, delivery.event, delivery.title, delivery.text, delivery.payload)
        )

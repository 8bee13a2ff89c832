"""A way that notifications go. One contract suite for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Notification:
    """`id`: the same for each attempt, so that a receiver can tell that it has it. `payload`: for programs; `title`
    and `text`: for people."""

    id: str
    event: str
    title: str
    text: str
    payload: dict[str, Any]


class Messenger(ABC):
    @abstractmethod
    async def send(self, notification: Notification) -> str:
        """Deliver it; what the other end has answered, for the log, without any secret.

        Ends within `seconds` of its construction's setting. Raises NotificationFailed, NotificationRefused,
        AddressForbidden; their `retryable` tells whether another attempt may help.
        """

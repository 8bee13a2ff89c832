"""Signed webhooks.

Source: Standard Webhooks 1.0.0 (standardwebhooks.com): headers webhook-id, webhook-timestamp (seconds since 1970) and
webhook-signature: `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`; secrets are `whsec_` and base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.addresses import AddressGuard
from app.errors import AddressForbidden, DestinationUnreachable, NotificationFailed, NotificationRefused
from app.notifications.base import Messenger, Notification
from app.outgoing import guarded_session, refusal, target
from app.sizes import human_size

if TYPE_CHECKING:
    from aiohttp import StreamReader

PREFIX = "whsec_"
#: Bytes of an answer that are counted.
_ANSWER = 1 << 16
#: What will not be better next time (RFC 9110): the receiver has to change something.
_FINAL = frozenset({400, 401, 403, 404, 405, 410, 411, 413, 414, 415, 422, 501})


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """`secret` as `new_secret` makes it. Raises ValueError for one that is not base64."""
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


class WebhookMessenger(Messenger):
    """Redirects are not followed: they would lead past the guard. `seconds`: for one attempt."""

    def __init__(self, url: str, secret: str, guard: AddressGuard, seconds: float) -> None:
        self._url = url
        self._secret = secret
        self._guard = guard
        self._seconds = seconds

    async def send(self, notification: Notification) -> str:
        import aiohttp

        body = json.dumps(
            {
                "id": notification.id,
                "type": notification.event,
                "title": notification.title,
                "text": notification.text,
                **notification.payload,
            },
            separators=(",", ":"),
        ).encode()
        timestamp = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "Liberu-Backup",
            "webhook-id": notification.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret, notification.id, timestamp, body),
        }
        host = urlsplit(self._url).hostname or ""
        try:
            async with (
                guarded_session(self._guard, self._seconds) as session,
                session.post(target(self._url), data=body, headers=headers, allow_redirects=False) as response,
            ):
                return self._judged(response.status, await _length(response.content))
        except TimeoutError as error:
            raise NotificationFailed(f"{host} did not answer within {self._seconds:g} s") from error
        except (aiohttp.ClientError, DestinationUnreachable, OSError, ValueError) as error:
            if isinstance(refused := refusal(error), AddressForbidden):
                raise refused from error
            raise NotificationFailed(f"{host} could not be reached: {_plain(error)}") from error

    @staticmethod
    def _judged(status: int, length: str) -> str:
        """What was answered is nobody's but the receiver's: no text of it is shown."""
        if 200 <= status < 300:
            return f"HTTP {status}"
        failure = NotificationRefused if status in _FINAL else NotificationFailed
        raise failure(f"HTTP {status}, {length}")


async def _length(answer: StreamReader) -> str:
    counted = 0
    while counted <= _ANSWER and (chunk := await answer.readany()):
        counted += len(chunk)
    return f"more than {human_size(_ANSWER)}" if counted > _ANSWER else f"{counted} bytes"


def _plain(error: BaseException) -> str:
    """aiohttp's connection errors name the URL's host and the system's reason."""
    reason = getattr(error, "os_error", None)
    return str(reason.strerror if reason is not None and reason.strerror else type(error).__name__)


def checked_url(url: str) -> str:
    """Raises ValueError for what is no plain http(s) URL of a host that there can be."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.fragment:
        raise ValueError("must be an http or https URL without a fragment")
    if any(ord(character) < 33 for character in url):
        raise ValueError("must not hold spaces or control characters")
    _ = parts.port
    target(url)
    return url

"""The SDK's HTTP session, with a bound on answers, which it reads into memory to the end, and on where it leads."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import ConnectionClosedError

from app.addresses import AddressGuard
from app.errors import DestinationInvalid
from app.outgoing import socket_factory
from app.sizes import human_size

#: Bytes. A page of 1,000 keys of 1,024 bytes each, every byte of them escaped, is smaller.
_MOST = 16 << 20
_SECONDS = 600
#: Bytes a second of what is sent.
_SLOWEST = 8 << 10


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]
    """Its sockets reach what `guard` allows."""

    def __init__(self, *args: Any, guard: AddressGuard, **options: Any) -> None:
        # Here: the SDK lets no such argument of a connector through its configuration.
        connector = {**options.pop("connector_args"), "socket_factory": socket_factory(guard)}
        super().__init__(*args, connector_args=connector, **options)

    async def send(self, request: Any) -> Any:
        """Raises DestinationInvalid for an answer that is too large."""
        wants_stream, request.stream_output = request.stream_output, True
        try:
            # The SDK's own timeouts begin anew with each byte.
            async with asyncio.timeout(_SECONDS + _size(request.body) / _SLOWEST):
                answer = await super().send(request)
        except TimeoutError as error:
            raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
        finally:
            request.stream_output = wants_stream
        if not wants_stream or answer.status_code >= 300:
            answer._content = await self._content(request, answer.raw)
        return answer

    @staticmethod
    async def _content(request: Any, answer: aiohttp.ClientResponse) -> bytes:
        content = bytearray()
        try:
            async with asyncio.timeout(_SECONDS):
                async for chunk in answer.content.iter_any():
                    content += chunk
                    if len(content) > _MOST:
                        raise DestinationInvalid(
                            f"The store answers with more than {human_size(_MOST)} where a short text is expected"
                        )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            answer.close()
            raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
        except BaseException:
            answer.close()
            raise
        return bytes(content)


def _size(body: Any) -> int:
    return len(body) if hasattr(body, "__len__") else 0

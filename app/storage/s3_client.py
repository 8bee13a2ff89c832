"""A connection to an S3 store: made when needed, errors in this service's terms, tried again while it is away."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

import aiobotocore.session
import aiohttp
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError, SSLError

from app.errors import (
    CertificateInvalid,
    DestinationInvalid,
    DestinationRefused,
    DestinationUnreachable,
    LiberuError,
    NoSpace,
    ObjectNotFound,
    SizeMismatch,
    StorageError,
    StoragePermissionDenied,
)
from app.outgoing import refusal, resolver
from app.storage.base import Options
from app.storage.config import S3Configuration
from app.storage.patience import Patience
from app.storage.s3_session import BoundedSession
from app.storage.s3_turns import Turns

T = TypeVar("T")
_CONNECTIONS = 32

#: Codes of "Error Responses" in the Amazon S3 API Reference, and those Ceph and Swift were seen to give.
_MISSING = {"NoSuchKey", "NotFound", "404", "NoSuchVersion"}
_REFUSED = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
}
_FULL = {"QuotaExceeded", "InsufficientStorage", "EntityTooLarge", "507", "StorageFull", "XMinioStorageFull"}
_BUSY = {"ServiceUnavailable", "InternalError", "RequestTimeout"}
#: "Please reduce your request rate": fewer requests at once help, other credentials or another address do not.
_TOO_MANY = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "RequestThrottled",
    "429",
}


class _TooMany(DestinationUnreachable):
    """The store wants fewer requests. `certain`: a 503 without a body may mean something else."""

    def __init__(self, message: str, *, certain: bool) -> None:
        super().__init__(message)
        self.certain = certain


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn the SDK's errors into ours. DestinationUnreachable: another try may help."""
    try:
        yield
    except ClientError as error:
        raise _explained(what, error) from error
    except SSLError as error:
        raise CertificateInvalid(
            f"{what}: the endpoint's certificate cannot be trusted; give the certificate that signed it (certificate)"
        ) from error
    except LiberuError:
        raise
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        if (refused := refusal(error)) is not None:
            raise refused from error
        raise DestinationUnreachable(f"{what}: the store cannot be reached ({type(error).__name__})") from error


def _explained(what: str, error: ClientError) -> StorageError:
    details = error.response.get("Error", {})
    code, said = str(details.get("Code", "")), str(details.get("Message", ""))[:300]
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        return DestinationInvalid(f"{what}: there is no such bucket; create it, or correct its name")
    if code in _MISSING:
        return ObjectNotFound(f"{what}: there is no such object")
    if code in _REFUSED:
        return DestinationRefused(f"{what}: the store refuses the credentials ({code}); check key, secret and region")
    if code == "RequestTimeTooSkewed":
        return DestinationRefused(f"{what}: this machine's clock differs from the store's; set it right")
    if code in _FULL or status == 507:
        return NoSpace(f"{what}: no space or quota left ({code}); free some or choose another destination")
    if code in _TOO_MANY or status == 429 or code == "503":
        certain = code != "503"
        return _TooMany(f"{what}: the store wants fewer requests at once ({code or status})", certain=certain)
    if code in _BUSY or (status >= 500 and status != 501):
        return DestinationUnreachable(f"{what}: the store is busy or failing ({code or status})")
    if code in ("AccessDenied", "403", "Forbidden", "AllAccessDisabled") or status == 403:
        return StoragePermissionDenied(
            f"{what}: permission denied; check the key, which needs access to the bucket and its objects"
        )
    if status in (301, 307, 400) and "edirect" in code:
        return DestinationInvalid(f"{what}: the bucket is in another region ({code}); correct region or endpoint")
    return StorageError(f"{what}: the store refused ({code or status}): {said}")


class S3Client:
    def __init__(self, configuration: S3Configuration, options: Options) -> None:
        self._configuration = configuration
        self._options = options
        self._stack = AsyncExitStack()
        self._lock = asyncio.Lock()
        self._client: Any = None
        self._reached = False
        self.turns = Turns(_CONNECTIONS)
        self.round_trip = 0.0

    async def call(self, what: str, work: Callable[[Any], Awaitable[T]]) -> T:
        """Run `work(client)`, which can be repeated: while the store is away again and again for `resume_seconds`;
        with fewer requests at once when it says that there are too many.

        A store that was never reached is not tried again. Raises StorageError.
        """
        patience = Patience(self._options.resume_seconds)
        while True:
            limit = self.turns.limit
            try:
                async with self.turns.one() as limit:
                    started = time.monotonic()
                    with mapped(what):
                        result = await work(await self._connected())
            except _TooMany as error:
                self.turns.too_many(limit)
                self._reached = self._reached or error.certain
                if not self._reached:
                    raise
                await patience.again(error)
            except DestinationUnreachable as error:
                if not self._reached:
                    raise
                await patience.again(error)
            else:
                self.turns.went_well()
                if not self._reached:
                    self.round_trip = time.monotonic() - started
                self._reached = True
                return result

    async def read(self, what: str, wanted: dict[str, Any], start: int, end: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` to `end` of the object `wanted`, from where it was when the line breaks."""
        patience = Patience(self._options.resume_seconds)
        while start < end:
            span = f"bytes={start}-{end - 1}"
            answer = await self.call(what, lambda client: client.get_object(**wanted, Range=span))  # noqa: B023
            try:
                async with answer["Body"] as body:
                    with mapped(what):
                        while chunk := await body.content.readany():
                            start += len(chunk)
                            if start > end:
                                raise SizeMismatch(f"{what}: the store sends more than was asked for")
                            patience.progressed()
                            yield chunk
                if start != end:
                    raise DestinationUnreachable(f"{what}: the store ended the object at byte {start} of {end}")
            except DestinationUnreachable as error:
                await patience.again(error)

    async def _connected(self) -> Any:
        async with self._lock:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    async def _connect(self) -> Any:
        settings, guard = self._configuration, self._options.guard
        session = aiobotocore.session.get_session()
        # The description of S3 is a large file: read in a thread, it is found in the loader's cache afterwards.
        loader = session.get_component("data_loader")
        await asyncio.to_thread(loader.load_service_model, "s3", "service-2")
        config = AioConfig(
            connector_args={"resolver": resolver(guard)},
            http_session_cls=partial(BoundedSession, guard=guard),
            # A proxy would look names up itself, and go wherever they lead.
            proxies=None if guard.allow_private else {},
            max_pool_connections=_CONNECTIONS,
            connect_timeout=settings.timeout,
            read_timeout=settings.timeout,
            retries={"max_attempts": 2, "mode": "standard"},
            # Newer checksum headers fail on older stores; Content-MD5 is understood by all.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={
                "addressing_style": "path" if settings.use_path_style_endpoint else "virtual",
                # Content-MD5 is among the signed headers; hashing a body again would block the event loop.
                "payload_signing_enabled": False,
            },
        )
        manager = session.create_client(
            "s3", region_name=settings.region, endpoint_url=settings.endpoint, config=config,
            aws_access_key_id=settings.key,
            aws_secret_access_key=settings.secret.get_secret_value() if settings.secret else "",
            verify=self._trusted(),
        )  # fmt: skip
        try:
            return await self._stack.enter_async_context(manager)
        except ValueError as error:
            raise DestinationInvalid(f"The endpoint {settings.endpoint} cannot be used: correct it") from error

    def _trusted(self) -> str | None:
        """Path of the certificates that may sign the endpoint's; None: the system's."""
        if self._configuration.certificate is None:
            return None
        try:
            ssl.create_default_context(cadata=self._configuration.certificate)
        except (ssl.SSLError, ValueError) as error:
            raise CertificateInvalid("`certificate` is not a PEM certificate") from error
        temporary = tempfile.NamedTemporaryFile("w", prefix="liberu-", suffix=".pem")  # noqa: SIM115  the stack closes it
        file = self._stack.enter_context(temporary)
        file.write(self._configuration.certificate)
        file.flush()
        return file.name

    async def close(self) -> None:
        await self._stack.aclose()

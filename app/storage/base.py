"""The contract of every storage driver."""

from __future__ import annotations

import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from app.addresses import AddressGuard
from app.errors import DestinationInvalid, InvalidName, LiberuError, NoPast
from app.storage.budget import Budget
from app.storage.connections import Connections

MAX_KEY_BYTES = 1024
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f/\\]+")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as the server describes it. `size` in bytes."""

    key: str
    size: int
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OldVersions:
    """What a destination still has of a key beside what is there now. `current`: whether something is there now.

    `versions`: how many old ones, none when only the mark of its deletion is left; `size`: their bytes; `changed_at`:
    when the key was last written or deleted."""

    key: str
    current: bool
    versions: int
    size: int
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Remains:
    """Versions of deleted objects that the destination did not let go; `size` in bytes.

    `locked`: it keeps them for a time, at most until `until` (None: for as long as somebody holds them). Not locked:
    the credentials may not remove versions, which a rule of the bucket has to do then."""

    versions: int
    size: int
    locked: bool
    until: datetime | None = None

    @staticmethod
    def of_all(found: Iterable[Remains | None]) -> Remains | None:
        """Of several objects together."""
        there = [one for one in found if one is not None]
        if not there:
            return None
        held = [one.until for one in there if one.locked]
        until = None if None in held else max((one for one in held if one is not None), default=None)
        return Remains(sum(one.versions for one in there), sum(one.size for one in there), bool(held), until)

    def __str__(self) -> str:
        what = f"{self.versions} versions ({self.size} bytes) remain"
        if not self.locked:
            return f"{what}: the credentials may not remove versions (s3:DeleteObjectVersion)"
        if self.until is None:
            return f"{what}: somebody has put a legal hold on them"
        return f"{what}, locked until {self.until:%Y-%m-%d %H:%M} UTC"


def validate_key(key: str) -> str:
    """Return `key`, or raise InvalidName: relative, `/`-separated, nothing that could leave the root.

    Segments that start with a dot are refused: they are the drivers' own temporary names.
    """
    segments = key.split("/")
    if len(key.encode("utf-8", "surrogatepass")) > MAX_KEY_BYTES or any(
        not _SEGMENT.fullmatch(segment) or segment.startswith(".") or len(segment.encode()) > 255
        for segment in segments
    ):
        raise InvalidName(f"{key!r} is not a valid object key")
    return key


def is_key(name: str) -> bool:
    """Whether something that lies at a destination could be ours: what is no key is neither listed nor touched."""
    try:
        validate_key(name)
    except (InvalidName, UnicodeError):
        return False
    return True


def is_name(name: str) -> bool:
    """Whether an entry of one folder could be a part of a key of ours."""
    return "/" not in name and is_key(name)


#: What no file system holds.
_MAX_SIZE = (1 << 63) - 1


def claimed_size(key: str, value: Any) -> int:
    """A size as a destination tells it. Raises DestinationInvalid for what is none."""
    try:
        size = int(value)
    except (TypeError, ValueError):
        size = -1
    if not 0 <= size <= _MAX_SIZE:
        raise DestinationInvalid(f"The destination says of {key!r:.300} that it holds {str(value)[:30]} bytes")
    return size


def claimed_time(seconds: float | None) -> datetime | None:
    """A time as a destination tells it, in seconds since 1970; None when it is none, or out of every calendar."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def validate_prefix(prefix: str) -> str:
    """A prefix is empty or a key that ends with `/`: listing is by folder."""
    if prefix:
        if not prefix.endswith("/"):
            raise InvalidName(f"{prefix!r} is not a valid prefix: it must end with '/'")
        validate_key(prefix[:-1])
    return prefix


Verification = Literal["sent", "checksum", "read_back"]


async def _forget(found: dict[str, Any]) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Options:
    """What every remote driver is told. `resume_seconds`: how long a broken line is tried again. `pin` keeps what was
    learnt at the first connection, for example `host_key`, in the destination's configuration. `budget`: for what is
    in memory, unconfirmed. `connections`: shared by all drivers of the destination."""

    guard: AddressGuard = field(default_factory=AddressGuard)
    resume_seconds: float = 120
    pin: Callable[[dict[str, Any]], Awaitable[None]] = _forget
    budget: Budget = field(default_factory=Budget)
    connections: Connections = field(default_factory=Connections)


async def _any(found: AsyncIterator[bool]) -> bool:
    async for one in found:
        if one:
            return True
    return False


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    yield content


class StorageDriver(ABC):
    """Six operations on objects at a destination. Keys are relative, `/`-separated names (see validate_key).

    Every method raises InvalidName for a bad key and a StorageError for everything the destination does;
    no exception of a library gets out. Methods may be called concurrently.

    `verification`: what a `put` that returned has proved. `sent`: the size that the server tells; `checksum`: the
    server's checksum too; `read_back`: nothing more, but reading is cheap here, so the store reads every object back.
    """

    verification: Verification = "sent"

    @abstractmethod
    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        """Store `stream` under `key`, replacing what is there, and return the size that was verified.

        Atomic: on any error, cancellation or kill nothing is visible under `key` (or the former object
        still is). Durable when it returns. With `size`, a stream of another length raises SizeMismatch.
        Raises NoSpace, StoragePermissionDenied, DestinationUnreachable, ObjectNotFound where somebody removed the
        object before its size was verified; an error of `stream` passes through. A cancellation at the very end of a
        replacing `put` at a remote place may leave neither the former object nor the new one.
        The place itself is never made: see make_place.
        """

    @abstractmethod
    def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the object's bytes from `offset` on, in chunks of at most about 1 MiB.

        An offset at or past the end yields nothing. Raises ObjectNotFound at the first chunk.
        """

    @abstractmethod
    async def stat(self, key: str) -> ObjectInfo:
        """Size and time as the destination knows them. Raises ObjectNotFound."""

    @abstractmethod
    def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        """Yield every published object below the folder `prefix`, in any order; temporary ones never.

        A folder that does not exist yields nothing.
        """

    @abstractmethod
    async def delete(self, key: str) -> Remains | None:
        """Delete the object, and every old version of it. Idempotent: a missing key is no error.

        The key is gone when it returns. Where the destination keeps old versions nevertheless, says what remains."""

    async def checks(self) -> AsyncGenerator[str, None]:
        """Prove step by step that objects can be kept here, and yield each step's name once it has passed.

        Raises a typed StorageError for the step that fails, and leaves nothing behind where it can.
        """
        key, content = f"check-{secrets.token_hex(8)}", secrets.token_bytes(1024)
        try:
            await self.put(key, _once(content), len(content))
            yield "write"
            found = b"".join([chunk async for chunk in self.get(key)])
            yield "read"
            if found != content:
                raise DestinationInvalid("The destination returned other bytes than were written")
            yield "compare"
            async with aclosing(self.list()) as listed:
                if not await _any(info.key == key async for info in listed):
                    raise DestinationInvalid("The destination does not list what was written to it")
            yield "list"
        except BaseException:
            with suppress(LiberuError):
                await self.delete(key)
            raise
        await self.delete(key)
        yield "delete"

    async def check(self) -> None:
        """All of `checks`."""
        async for _ in self.checks():
            pass

    async def confirm(self) -> None:  # noqa: B027  what a driver alone cannot know; see PreparedDriver
        """Raises DestinationNotPrepared when this is not the place that was prepared, or is not any more."""

    async def make_place(self) -> None:  # noqa: B027  elsewhere it is made by whoever runs the server
        """Make what objects lie in, where there is none. No other method does: a place that is away must not be made
        again by a put."""

    def at(self, moment: datetime) -> StorageDriver:
        """The destination as it was at `moment`: to read, and to delete from for good what is seen there; a put is
        refused. Closing it closes this driver.

        Raises NoPast where a destination has no old versions, at once or at the first use."""
        raise NoPast("This destination keeps no old versions: only what is there now can be read")

    async def history(self, prefix: str = "") -> AsyncGenerator[OldVersions, None]:
        """Yield every key below the folder `prefix` that has old versions; nothing where there are none or they
        cannot be seen (see `keeps_history`)."""
        return
        yield

    async def keeps_history(self) -> bool | None:
        """Whether what is deleted or replaced here stays as an old version; None: nobody may know."""
        return False

    async def locked_until(self, key: str) -> datetime | None:
        """Until when the destination keeps anybody from deleting the object; None: it does not. A legal hold has no
        end: `datetime.max` in UTC. Raises ObjectNotFound."""
        return None

    async def lock(self, key: str, until: datetime) -> None:  # noqa: B027  most have none
        """Keep anybody from deleting the object before `until`; a longer lock stays. Where a destination has no locks
        nothing is done."""

    async def connections(self) -> tuple[int, int] | None:
        """How many connections the server allows just now, and how many are used at most; None where none is held."""
        return None

    async def free_bytes(self) -> int | None:
        """Free space for new objects in bytes, or None where the destination cannot tell."""
        return None

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        """Remove temporary objects that interrupted puts of keys below `prefix` (empty, or with `/` at its end) left
        before `older_than`; return how many. One that is still written must have been begun after that."""
        return 0

    async def close(self) -> None:  # noqa: B027  most drivers hold nothing
        """Release connections. The driver is not used afterwards."""

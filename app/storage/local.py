"""Objects as files below a folder of this machine."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from app.errors import (
    DestinationInvalid,
    DestinationNotPrepared,
    DestinationUnreachable,
    NoSpace,
    ObjectNotFound,
    SizeMismatch,
    StorageError,
    StoragePermissionDenied,
)
from app.storage.base import ObjectInfo, StorageDriver, claimed_time, is_key, validate_key, validate_prefix
from app.storage.publication import Publication, sync_folder
from app.storage.settled import settled
from app.storage.spill import Stack

CHUNK = 1 << 20
_TEMPORARY = ".put-"
_TRIES = 1000
_PAGE = 1000
_SYNC_FILE_RANGE_WRITE = 2
_AWAY = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
_libc = ctypes.CDLL(None)


@contextmanager
def _mapped(what: str) -> Iterator[None]:
    """Turn an OSError into the error of ours that says what to do."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFound(f"{what}: there is no such object") from error
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise DestinationInvalid(f"{what}: a file stands where a folder should be, or the reverse") from error
    except PermissionError as error:
        raise StoragePermissionDenied(
            f"{what}: permission denied; give the service's user write access to the folder"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise NoSpace(f"{what}: no space left; free some or choose another destination") from error
        if error.errno == errno.ELOOP:
            raise DestinationInvalid(f"{what}: a symbolic link stands in the way") from error
        if error.errno in _AWAY:
            raise DestinationUnreachable(f"{what}: the disk does not answer ({error.strerror})") from error
        raise StorageError(f"{what}: {error.strerror}") from error


class LocalDriver(StorageDriver):
    """Folders are made with mode 0700, files with 0600: backups are readable by the service alone.

    The root is made by `make_place` alone. While the driver is used it must stay the same folder of the same disk:
    what is written when a disk was unmounted would fill the one below.
    """

    verification = "read_back"

    def __init__(self, root: Path) -> None:
        self._root = root
        self._identity: tuple[int, int] | None = None

    def _same_root(self) -> None:
        """Raises DestinationNotPrepared when the root is gone, or another one than at first. Blocking."""
        try:
            status = self._root.stat()
        except FileNotFoundError as error:
            raise DestinationNotPrepared(
                f"The folder {self._root} is not there: is its disk mounted? If it is new, prepare the destination"
            ) from error
        if not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "not a folder")
        found = status.st_dev, status.st_ino
        self._identity = self._identity or found
        if found != self._identity:
            raise DestinationNotPrepared(
                f"The folder {self._root} is another one than before: its disk was mounted or unmounted meanwhile"
            )

    async def make_place(self) -> None:
        with _mapped(f"Making {self._root}"):
            await asyncio.to_thread(self._make_root)

    def _make_root(self) -> None:
        missing = [folder for folder in (self._root, *self._root.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir(mode=0o700, exist_ok=True)
            sync_folder(folder.parent)
        self._same_root()

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*validate_key(key).split("/"))

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        path = self._path(key)
        temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        with _mapped(f"Writing {key}"):
            made = await settled(
                asyncio.to_thread(self._create, temporary, path), lambda made: asyncio.to_thread(made[1].discard)
            )
        file, publication = made
        try:
            written = 0
            async for chunk in stream:
                with _mapped(f"Writing {key}"):
                    await settled(asyncio.to_thread(_write, file, chunk, written), _nothing)
                written += len(chunk)
            if size is not None and written != size:
                raise SizeMismatch(f"Writing {key}: the source gave {written} bytes instead of {size}")
            with _mapped(f"Writing {key}"):
                stored = await settled(
                    asyncio.to_thread(publication.publish, written),
                    lambda _: asyncio.to_thread(publication.withdraw),
                )
        except BaseException:
            # Shielded: a cancellation must not leave the temporary file behind.
            await asyncio.shield(asyncio.to_thread(publication.discard))
            raise
        if publication.replaced:  # no waiting here: what could be cancelled from now on would show what was put
            asyncio.get_running_loop().run_in_executor(None, publication.discard)
        return ObjectInfo(key, stored, datetime.now(UTC))

    def _create(self, temporary: Path, path: Path) -> tuple[BinaryIO, Publication]:
        self._same_root()
        for left in reversed(range(_TRIES)):  # a deletion may remove a folder that we have just found or made
            try:
                self._make_folder(temporary.parent)
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                if not left:
                    raise
            else:
                file = os.fdopen(descriptor, "wb", buffering=0)
                return file, Publication(file, temporary, path, self._same_root)
        raise AssertionError("the last try returns or raises")

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder == self._root:  # gone since we looked
            self._same_root()
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync_folder(folder.parent)

    async def get(self, key: str, offset: int = 0) -> AsyncGenerator[bytes, None]:
        path = self._path(key)
        with _mapped(f"Reading {key}"):
            file = await asyncio.to_thread(self._open, path, offset)
        try:
            while True:
                with _mapped(f"Reading {key}"):
                    chunk = await asyncio.to_thread(file.read, CHUNK)
                if not chunk:
                    return
                yield chunk
        finally:
            file.close()

    @staticmethod
    def _open(path: Path, offset: int) -> BinaryIO:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        file = os.fdopen(descriptor, "rb", buffering=0)
        file.seek(offset)
        return file

    async def stat(self, key: str) -> ObjectInfo:
        path = self._path(key)
        with _mapped(f"Looking up {key}"):
            status = await asyncio.to_thread(path.lstat)
        return ObjectInfo(key, status.st_size, claimed_time(status.st_mtime))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        what = f"Listing {prefix or '/'}"
        with _mapped(what):
            await asyncio.to_thread(self._same_root)
        with Stack() as pending:
            pending.push(validate_prefix(prefix))
            while pending:
                current = pending.pop()
                entries = _entries(self._root / current, current)
                try:
                    while True:
                        with _mapped(what):
                            page = await settled(asyncio.to_thread(_page, entries), _nothing)
                        if not page:
                            break
                        for found in page:
                            if isinstance(found, str):
                                pending.push(found)
                            else:
                                yield found
                finally:
                    entries.close()

    async def delete(self, key: str) -> None:
        path = self._path(key)
        with _mapped(f"Deleting {key}"), suppress(FileNotFoundError):
            await asyncio.to_thread(self._unlink, path)
        with _mapped(f"Deleting {key}"):  # what is not found where no disk is mounted is not deleted
            await asyncio.to_thread(self._same_root)

    def _unlink(self, path: Path) -> None:
        path.unlink()
        with suppress(FileNotFoundError):  # another deletion has removed the empty folder
            sync_folder(path.parent)
        for folder in path.parents:
            if folder == self._root or not folder.is_relative_to(self._root):
                break
            try:
                folder.rmdir()
            except OSError:
                break

    async def free_bytes(self) -> int | None:
        def free() -> int:
            self._same_root()
            status = os.statvfs(self._root)
            return status.f_bavail * status.f_frsize

        with _mapped("Asking for free space"):
            return await asyncio.to_thread(free)

    async def remove_leftovers(self, prefix: str, older_than: datetime) -> int:
        def remove() -> int:
            count = 0
            for folder, _, names in os.walk(self._root / prefix):
                for name in names:
                    path = Path(folder, name)
                    if not name.startswith(_TEMPORARY):
                        continue
                    with suppress(FileNotFoundError):  # its put has ended meanwhile
                        if path.lstat().st_mtime < older_than.timestamp():
                            path.unlink()
                            count += 1
            return count

        with _mapped("Removing leftovers"):
            return await asyncio.to_thread(remove)


async def _nothing(done: object) -> None:
    return None


def _entries(folder: Path, prefix: str) -> Generator[ObjectInfo | str, None, None]:
    """Objects in a folder, and prefixes of the folders in it. What could be no key is not ours, whatever it is
    called."""
    try:
        listing = os.scandir(folder)
    except FileNotFoundError:
        return
    with listing as entries:
        for entry in entries:
            key = f"{prefix}{entry.name}"
            if not is_key(key):
                continue
            with suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False):
                    yield f"{key}/"
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    yield ObjectInfo(key, status.st_size, claimed_time(status.st_mtime))


def _page(entries: Generator[ObjectInfo | str, None, None]) -> list[ObjectInfo | str]:
    return list(islice(entries, _PAGE))


def _write(file: BinaryIO, chunk: bytes, offset: int) -> None:
    """Write all of `chunk`, and let the disk begin with it: a large object must not end in one long fsync.

    sync_file_range(2) is a hint, durability is the fsync's; not every C library has it.
    """
    view = memoryview(chunk)
    while view:
        view = view[file.write(view) :]
    if hasattr(_libc, "sync_file_range"):
        start, length = ctypes.c_int64(offset), ctypes.c_int64(len(chunk))
        _libc.sync_file_range(file.fileno(), start, length, ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))

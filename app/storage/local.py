"""Objects as files below a folder of this machine."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
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
from app.storage.base import ObjectInfo, StorageDriver, validate_key, validate_prefix

CHUNK = 1 << 20
_TEMPORARY = ".put-"
_SYNC_FILE_RANGE_WRITE = 2
_AWAY = (errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
_libc = ctypes.CDLL(None)
_Folders = list[tuple[Path, str]]
_Objects = list[ObjectInfo]


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
            _sync_folder(folder.parent)
        self._same_root()

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*validate_key(key).split("/"))

    async def put(self, key: str, stream: AsyncIterator[bytes], size: int | None = None) -> ObjectInfo:
        path = self._path(key)
        temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        file: BinaryIO | None = None
        published = False
        try:
            with _mapped(f"Writing {key}"):
                file = await asyncio.to_thread(self._create, temporary)
            written = 0
            async for chunk in stream:
                with _mapped(f"Writing {key}"):
                    await asyncio.to_thread(_write, file, chunk, written)
                written += len(chunk)
            if size is not None and written != size:
                raise SizeMismatch(f"Writing {key}: the source gave {written} bytes instead of {size}")
            with _mapped(f"Writing {key}"):
                stored = await asyncio.to_thread(self._publish, file, temporary, path)
            published = True
        finally:
            # Shielded: a cancellation must not leave the temporary file behind.
            if not published:
                await asyncio.shield(asyncio.to_thread(self._discard, file, temporary))
        if stored != written:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise SizeMismatch(f"Writing {key}: {stored} bytes are on disk, {written} were written")
        return ObjectInfo(key, stored, datetime.now(UTC))

    def _create(self, temporary: Path) -> BinaryIO:
        self._same_root()
        self._make_folder(temporary.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        return os.fdopen(descriptor, "wb", buffering=0)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder == self._root:  # gone since we looked
            self._same_root()
            return
        self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)

    def _publish(self, file: BinaryIO, temporary: Path, path: Path) -> int:
        os.fsync(file.fileno())
        stored = os.fstat(file.fileno()).st_size
        file.close()
        self._same_root()
        temporary.replace(path)
        _sync_folder(path.parent)
        return stored

    @staticmethod
    def _discard(file: BinaryIO | None, temporary: Path) -> None:
        if file is not None:
            file.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)

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
        return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    async def list(self, prefix: str = "") -> AsyncGenerator[ObjectInfo, None]:
        folder = self._root.joinpath(*validate_prefix(prefix).split("/"))
        pending = [(folder, prefix)]
        with _mapped(f"Listing {prefix or '/'}"):
            await asyncio.to_thread(self._same_root)
        while pending:
            current, key_prefix = pending.pop()
            with _mapped(f"Listing {prefix or '/'}"):
                folders, objects = await asyncio.to_thread(self._scan, current, key_prefix)
            pending.extend(folders)
            for found in objects:
                yield found

    @staticmethod
    def _scan(folder: Path, prefix: str) -> tuple[_Folders, _Objects]:
        folders: _Folders = []
        objects: _Objects = []
        with suppress(FileNotFoundError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append((Path(entry.path), f"{prefix}{entry.name}/"))
                elif entry.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        when = datetime.fromtimestamp(status.st_mtime, UTC)
                        objects.append(ObjectInfo(f"{prefix}{entry.name}", status.st_size, when))
        return folders, objects

    async def delete(self, key: str) -> None:
        path = self._path(key)
        with _mapped(f"Deleting {key}"), suppress(FileNotFoundError):
            await asyncio.to_thread(self._unlink, path)
        with _mapped(f"Deleting {key}"):  # what is not found where no disk is mounted is not deleted
            await asyncio.to_thread(self._same_root)

    def _unlink(self, path: Path) -> None:
        path.unlink()
        _sync_folder(path.parent)
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
                    if name.startswith(_TEMPORARY) and path.lstat().st_mtime < older_than.timestamp():
                        path.unlink(missing_ok=True)
                        count += 1
            return count

        with _mapped("Removing leftovers"):
            return await asyncio.to_thread(remove)


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


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Uploads: archives that somebody has sent to import them. They lie in folders by user, and have one budget."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.archives.streams import Digest
from app.db.base import new_uid
from app.errors import TooLarge, UploadsFull
from app.external.room import Room
from app.schemas.imports import UploadOut
from app.settings import ImportSettings
from app.sizes import human_size

_PART = ".part"
#: Nobody writes to a part any more that has not grown for so long: slower clients are cut off.
_DEAD = timedelta(hours=1)
_MOST_FILES = 1000
_OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Upload:
    """`user_id` None: an operator's. `expires_at`: then it is removed, if nobody imports it."""

    upload_id: str
    user_id: int | None
    size: int
    created_at: datetime
    expires_at: datetime


class Uploads:
    """`folder`: nobody else writes there. What lies there is counted when an upload begins, and as bytes arrive, for
    all uploads together: many at once cannot take more than one."""

    def __init__(self, folder: Path, settings: ImportSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._kept = timedelta(hours=settings.upload_hours)
        self._room = Room(folder, settings.reserve_bytes)
        self._held = Counter[str]()
        self._files = Counter[str]()

    def of(self, user_id: int | None) -> Path:
        """The folder of a user, or of operators."""
        return self._folder / (_OPERATOR if user_id is None else str(user_id))

    async def take(self, user_id: int | None, body: AsyncIterator[bytes], announced: int) -> UploadOut:
        """An archive, to its last byte or not at all. `announced`: its size, 0 when that is not known.

        Raises TooLarge, UploadsFull, NoSpace."""
        folder, name = self.of(user_id), new_uid()
        await asyncio.to_thread(self._count, folder)
        self._check(folder.name, announced, 0)
        if self._files[folder.name] >= _MOST_FILES:
            raise UploadsFull(f"There are {_MOST_FILES} uploads already: delete some, or import them")
        partial = folder / f"{name}{_PART}"
        digest = Digest()
        try:
            with partial.open("xb", buffering=0) as file:
                partial.chmod(0o600)
                async for chunk in body:
                    self._check(folder.name, len(chunk), digest.size)
                    self._room.need(len(chunk))
                    self._held[folder.name] += len(chunk)
                    digest.update(chunk)
                    await asyncio.to_thread(_write, file.fileno(), chunk)
            partial.rename(folder / name)
        except BaseException:
            self._held[folder.name] -= digest.size
            partial.unlink(missing_ok=True)
            raise
        return UploadOut(upload_id=name, size=digest.size, sha256=digest.sha256)

    def _check(self, owner: str, more: int, taken: int) -> None:
        settings = self._settings
        if taken + more > settings.upload_bytes:
            raise TooLarge(
                f"Uploads of more than {human_size(settings.upload_bytes)} are refused: use the import folder or a "
                "destination"
            )
        if owner != _OPERATOR and self._held[owner] + more > settings.uploads_bytes_per_user:
            raise UploadsFull(
                f"Your uploads may have {human_size(settings.uploads_bytes_per_user)} together and have "
                f"{human_size(self._held[owner])}: import or delete some"
            )
        if self._held.total() + more > settings.uploads_bytes:
            raise UploadsFull(
                f"All uploads together may have {human_size(settings.uploads_bytes)}: wait until others have been "
                "imported, or have an operator delete some"
            )

    def _count(self, folder: Path) -> None:
        """What is there now, and the folder made. Blocking."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held, files = Counter[str](), Counter[str]()
        for path, status in self._all():
            held[path.parent.name] += status.st_size
            files[path.parent.name] += 1
        self._held, self._files = held, files

    def _all(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):  # removed since
                yield path, path.lstat()

    def list(self, user_id: int | None) -> list[Upload]:
        """A user's, or everybody's; the newest first. Blocking."""
        found = [
            self._shown(path, status)
            for path, status in self._all()
            if path.suffix != _PART and (user_id is None or path.parent == self.of(user_id))
        ]
        return sorted(found, key=lambda one: one.created_at, reverse=True)

    def _shown(self, path: Path, status: os.stat_result) -> Upload:
        owner = None if path.parent.name == _OPERATOR else int(path.parent.name)
        created = datetime.fromtimestamp(status.st_mtime, UTC)
        return Upload(path.name, owner, status.st_size, created, created + self._kept)

    def remove(self, upload: Upload) -> None:
        """Idempotent. Blocking."""
        (self.of(upload.user_id) / upload.upload_id).unlink(missing_ok=True)

    def forget(self, in_use: set[str], moment: datetime) -> None:
        """Remove what nobody has imported in time, or will end any more; not what is `in_use`. Blocking."""
        for path, status in self._all():
            age = moment - datetime.fromtimestamp(status.st_mtime, UTC)
            if path.name not in in_use and age > (_DEAD if path.suffix == _PART else self._kept):
                path.unlink(missing_ok=True)


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]

"""Making a local file visible under its name, and taking that back."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import SizeMismatch

SUFFIX = "-former"


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Publication:
    """Blocking: call in a thread, one call at a time. `check` is asked right before the file becomes visible, and may
    raise."""

    def __init__(self, file: BinaryIO, temporary: Path, path: Path, check: Callable[[], None]) -> None:
        self._file = file
        self._temporary = temporary
        self._path = path
        self._check = check
        self._former = temporary.with_name(f"{temporary.name}{SUFFIX}")
        status = os.fstat(file.fileno())
        self._identity = (status.st_dev, status.st_ino)
        self._renamed = False
        self.replaced = False

    def publish(self, written: int) -> int:
        """Durable and visible when it returns the size; nothing is visible, or what was there before, when it
        raises."""
        os.fsync(self._file.fileno())
        stored = os.fstat(self._file.fileno()).st_size
        if stored != written:
            raise SizeMismatch(f"{self._path.name}: {stored} bytes are on disk, {written} were written")
        self._check()
        # Opened before: a concurrent deletion may remove what is published, and the folder with it.
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # there is none, or a file system without hard links
                self._former.hardlink_to(self._path)
                self.replaced = True
            self._temporary.replace(self._path)
            self._renamed = True
            try:
                os.fsync(folder)
            except BaseException:
                self.withdraw()
                raise
        finally:
            os.close(folder)
        self._file.close()
        return stored

    def withdraw(self) -> None:
        """Nothing is visible afterwards, or what was there before. What another put has published since stays."""
        if not self._renamed:
            return
        self._renamed = False
        with suppress(FileNotFoundError):
            status = self._path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                try:
                    self._former.replace(self._path)
                except FileNotFoundError:
                    self._path.unlink()
                with suppress(OSError):
                    sync_folder(self._path.parent)

    def discard(self) -> None:
        """Remove what is not visible."""
        self._file.close()
        for path in (self._temporary, self._former):
            with suppress(OSError):
                path.unlink(missing_ok=True)

"""The data folder: of one process, and nobody else's."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from app.errors import DataFolderLocked

#: Every driver makes what lies there private itself, and it may be millions.
_BACKUPS = "backups"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process per data folder: two engines with one id would run each other's jobs."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFolderLocked(f"Another process uses {folder}; stop it, or set LIBERU_DATA") from error
        yield
    finally:
        os.close(descriptor)


def private(folder: Path, databases: Sequence[str]) -> None:
    """Make the folder, and nobody else's what lies in it, as older versions have left it too. Blocking.

    `databases`: files that are made empty where they are not there: SQLite gives its further files their modes."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() in (0, folder.stat().st_uid):
        folder.chmod(0o700)
    for name in databases:
        with suppress(FileExistsError):
            os.close(os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for path, folders, files, descriptor in os.fwalk(folder):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):  # SQLite's and an import's come and go
                _tighten(name, descriptor)
        if Path(path) == folder and _BACKUPS in folders:
            folders.remove(_BACKUPS)


def _tighten(name: str, folder: int) -> None:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077 and not stat.S_ISLNK(status.st_mode) and os.geteuid() in (0, status.st_uid):
        os.chmod(name, mode & 0o700, dir_fd=folder)

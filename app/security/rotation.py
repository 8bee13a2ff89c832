"""Replacing the master key: what it has sealed is sealed anew, while every process goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet

from app.errors import KeyMaterialInvalid

FILE = "master.key"


def read_keys(folder: Path) -> list[bytes]:
    """The first seals, all of them open."""
    return [line.strip().encode() for line in (folder / FILE).read_text().splitlines() if line.strip()]


def put_first(folder: Path) -> None:
    """Add a new key before those that are there; every process sees it at its next use.

    Raises KeyMaterialInvalid where the file cannot be replaced, as a mounted secret.
    """
    _replace(folder, [Fernet.generate_key(), *read_keys(folder)])


def keep_first(folder: Path) -> None:
    """Forget the others. Raises as `put_first`."""
    _replace(folder, read_keys(folder)[:1])


def _replace(folder: Path, keys: list[bytes]) -> None:
    target, temporary = folder / FILE, folder / f".{FILE}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(key + b"\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise KeyMaterialInvalid(
            f"{target} cannot be replaced ({error.strerror}). Put a new key before the old one in the secret it "
            "comes from, wait until every process has it, and run rotate-keys --no-new-key"
        ) from error


class KeyFile:
    """The keys as the file has them now. Raises KeyMaterialInvalid when there are none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: tuple[int, int] | None = None
        self._keys: list[bytes] = []

    def __call__(self) -> list[bytes]:
        status = (self._folder / FILE).stat()
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._keys, self._seen = read_keys(self._folder), seen
        return self._keys


KeySource = Callable[[], list[bytes]]

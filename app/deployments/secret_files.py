"""Secrets for commands that read them from a file, without one on any disk: a kill leaves nothing behind."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress

from app.deployments.descriptors import FOLDER, held

_OLD_FOLDER, _OLD_FILE = re.compile(r"liberu-[a-z0-9_]{8}"), re.compile(r"[0-9a-f]{16}")
_OLD_CERTIFICATE = re.compile(r"liberu-[a-z0-9_]{8}\.pem")
#: Seconds. A process of an earlier version may still run: its command reads the file at once, and the folder must be
#: there when it ends.
_READ_AFTER, _ENDED_AFTER = 300, 86400


class SecretFiles:
    """The contents that commands may be given, by the names that stand for them in arguments."""

    def __init__(self) -> None:
        self._contents: dict[str, str] = {}

    @contextmanager
    def held(self, content: str) -> Iterator[str]:
        name = f"/liberu-secret-{secrets.token_hex(16)}"
        self._contents[name] = content if content.endswith("\n") else f"{content}\n"
        try:
            yield name
        finally:
            del self._contents[name]

    def named_by(self, argv: Sequence[str]) -> tuple[str, str]:
        """The name that is an argument's end, and its content; both empty where no argument has one."""
        for name, content in self._contents.items():
            if any(argument.endswith(name) for argument in argv):
                return name, content
        return "", ""


def with_path(argv: Sequence[str], name: str, path: str) -> list[str]:
    """`argv` with `path` for the secret's `name`."""
    return [argument.replace(name, path) if name else argument for argument in argv]


def in_memory(content: str, owner: tuple[int, int] | None) -> int:
    """A descriptor of a nameless file in memory, whose /proc/self/fd/… only `owner` (uid, gid; None: us) can open."""
    descriptor = os.memfd_create("liberu", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        os.write(descriptor, content.encode())
        if owner is not None:
            os.fchown(descriptor, *owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def remove_old() -> int:
    """Remove what killed processes of earlier versions left in the folder for temporary files; return how many.

    Blocking. Only what is ours alone and holds what those versions wrote; never raises for what it cannot remove.
    """
    count = 0
    now = time.time()
    with suppress(OSError), _opened(tempfile.gettempdir()) as place:
        for name in os.listdir(place):
            with suppress(OSError):
                if _OLD_CERTIFICATE.fullmatch(name):
                    count += _remove(place, name, now - _ENDED_AFTER)
                elif _OLD_FOLDER.fullmatch(name):
                    count += _empty(place, name, now)
    return count


def _opened(name: str, within: int | None = None) -> AbstractContextManager[int]:
    return held(os.open(name, FOLDER, dir_fd=within))


def _empty(place: int, name: str, now: float) -> int:
    """Others may make folders of such a name too: nobody but us can have put anything into one that is ours alone."""
    with _opened(name, place) as folder:
        status, found = os.fstat(folder), os.listdir(folder)
        ours = status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
        if not ours or len(found) > 1 or not all(_OLD_FILE.fullmatch(file) for file in found):
            return 0
        count = sum(_remove(folder, file, now - _READ_AFTER) for file in found)
    if status.st_mtime < now - _ENDED_AFTER:
        os.rmdir(name, dir_fd=place)
    return count


def _remove(folder: int, name: str, before: float) -> int:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    ours = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
    if not ours or status.st_mtime >= before:
        return 0
    os.unlink(name, dir_fd=folder)
    return 1

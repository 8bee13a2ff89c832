"""What this process does to files, call by call, so that a test can act in between.

Source: the table of audit events in Python's documentation. What is called through ctypes raises none of use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.deployments import descriptors, folders

Moment = Callable[[str, tuple[Any, ...]], None]
#: Events that are raised before a call acts on a name or looks a folder up.
CALLS = {
    "open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chown", "os.chmod",
    "os.utime", "os.setxattr", "os.getxattr", "os.listxattr", "os.scandir", "os.listdir", "renameat2",
}  # fmt: skip
_watching: list[Moment] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event in CALLS:
        moment = _watching.pop()  # what the test does itself is no moment
        try:
            moment(event, arguments)
        finally:
            _watching.append(moment)


sys.addaudithook(_hook)  # there is no way to remove one


class _Library:
    """libc, where openat2 is told as `open` and renameat2 as itself."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def syscall(self, number: int, folder: int, path: bytes, *rest: Any) -> Any:
        sys.audit("open", path.rpartition(b"/")[2], folder)
        return self._real.syscall(number, folder, path, *rest)

    def renameat2(self, source: int, name: bytes, target: int, other: bytes, flags: int) -> Any:
        sys.audit("renameat2", name, other, flags)
        return self._real.renameat2(source, name, target, other, flags)


@contextmanager
def before_each(moment: Moment) -> Iterator[None]:
    """Call `moment(event, arguments)` before each call of CALLS, in whatever thread."""
    libraries = [(module, module._libc) for module in (descriptors, folders)]
    for module, library in libraries:
        module._libc = _Library(library)  # type: ignore[attr-defined]
    _watching.append(moment)
    try:
        yield
    finally:
        _watching.clear()
        for module, library in libraries:
            module._libc = library  # type: ignore[attr-defined]


def named(arguments: tuple[Any, ...], name: str) -> bool:
    return bool(arguments) and isinstance(arguments[0], str | bytes) and os.fsdecode(arguments[0]) == name

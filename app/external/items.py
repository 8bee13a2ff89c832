"""The members of foreign archives, and their names: bytes in the archive, text in what we say of it."""

from __future__ import annotations

from dataclasses import dataclass

MAX_LINK = 4096
_MAX_PATH, _MAX_NAME, _MAX_DEPTH = 4096, 255, 128


@dataclass(frozen=True, slots=True)
class Item:
    """One member: `path` and `link` are bytes as they were archived; `size` in bytes, expanded."""

    path: bytes
    type: str
    size: int
    mode: int
    mtime: float
    link: bytes
    offset: int
    stored: int
    sparse: str | None

    @property
    def name(self) -> str:
        """As a key of the index; `shown` makes it fit for people."""
        return text(self.path)

    @property
    def last(self) -> str:
        """The name without its folder."""
        return self.name.rpartition("/")[2]


def key(path: str | bytes) -> bytes:
    """A name as it was archived."""
    return path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path


def text(path: bytes) -> str:
    """A name as text from which `key` makes it again; `shown` makes it fit for people."""
    return path.decode("utf-8", "surrogateescape")


def shown(path: str | bytes) -> str:
    return key(path).decode("utf-8", "backslashreplace")


def usable(path: bytes) -> bytes | None:
    """A member's name when it can be used."""
    if len(path) > _MAX_PATH or path.startswith(b"/"):
        return None
    parts = path.split(b"/")
    if b"" in parts or b".." in parts or b"." in parts or b"\0" in path:
        return None
    if len(parts) > _MAX_DEPTH or any(len(part) > _MAX_NAME for part in parts):
        return None
    return path

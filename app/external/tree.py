"""A folder of a foreign archive as a tar stream of ours. Blocking generators, for a thread."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

from app.archives.streams import CHUNK
from app.archives.tar import BLOCK
from app.deployments.base import STAGING_PREFIX, User
from app.errors import ArchiveInvalid
from app.external.containers import Expanded, Peeked, compression
from app.external.document_roots import Folders
from app.external.inventory import ForeignDomain, ForeignMailbox
from app.external.items import Item, key, shown, text
from app.external.limits import Budget, Limits
from app.external.mailboxes import is_message, of_maildir
from app.external.mbox import messages as mbox_messages
from app.external.staged import Staged

_TYPES = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "h": tarfile.REGTYPE}
_MAX_MESSAGE = 256 << 20
_MAX_WARNINGS, _MAX_NAMES, _MAX_TOLD = 1000, 10, 1000
_GZIP = b"\x1f\x8b"
Keep = Callable[[bytes], bool]


@dataclass(slots=True)
class _Named:
    """How many there are of a kind of symbolic links or other entries, and the first names."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, path: bytes) -> None:
        self.count += 1
        if len(self.names) < _MAX_NAMES:
            self.names.append(shown(path))

    def __str__(self) -> str:
        more = ", …" if self.count > len(self.names) else ""
        return f"{self.count} links or others ({', '.join(self.names)}{more})"


@dataclass(slots=True)
class TreeTar:
    """Writes members that all belong to `owner`; what could reach outside the tree or is no file, folder or link is
    left out and named in `warnings`. `count`: of the files or messages that were met."""

    staged: Staged
    owner: User
    warnings: list[str] = field(default_factory=list)
    count: int = 0
    _folders: set[bytes] = field(default_factory=set)  # digests: a path may be long, and all of its parts count
    _links: set[bytes] = field(default_factory=set)
    _unnamed: int = 0
    _leading_out: _Named = field(default_factory=_Named)
    _no_mail: _Named = field(default_factory=_Named)

    def files(self, domain: ForeignDomain) -> Iterator[bytes]:
        """A domain's document root. Raises ArchiveInvalid when it is not what the inventory says."""
        folder = domain.document_root or ""
        others = Folders(domain.excluded)
        start = key(folder) + b"/"

        def keep(path: bytes) -> bool:
            return not others.hold(start + path)

        yield from self._folder(b".", 0o755)
        yield from self._tree(folder, b"", keep)
        self._check(domain.files, folder)
        if self._leading_out.count:
            self._warn(f"{self._leading_out} lead out of the document root; what they lead to is not imported")
        yield self._end()

    def mail(self, mailboxes: Iterable[ForeignMailbox]) -> Iterator[bytes]:
        """One maildir for each address, named by it; messages that were compressed are plain."""
        yield from self._folder(b".", 0o700)
        for box in mailboxes:
            if box.source is None:
                continue
            address = key(box.address)
            for name in (b"", b"/cur", b"/new", b"/tmp"):
                yield from self._folder(address + name, 0o700)
            self.count = 0
            if box.format == "mbox":
                yield from self._mbox(box.source, address)
            else:
                yield from self._tree(box.source, address + b"/", _in_maildir, messages=True)
            self._check(box.messages, box.address)
        if self._no_mail.count:
            self._warn(
                f"{self._no_mail} in maildirs are neither folders nor files; left out: mail holds nothing else"
            )
        yield self._end()

    def _mbox(self, source: str, address: bytes) -> Iterator[bytes]:
        item = self.staged.get(source)
        if item is None:
            return
        for name, size, file in mbox_messages(self.staged.read(item), self.staged.folder):
            self.count += 1
            yield self._header(address + b"/" + name, tarfile.REGTYPE, 0o600, item.mtime, size=size)
            while data := file.read(CHUNK):
                yield data
            yield bytes(-size % BLOCK)

    def _check(self, expected: int, what: str) -> None:
        if self.count != expected:
            raise ArchiveInvalid(f"{what} has {self.count} files where {expected} were found before")

    def _warn(self, text: str) -> None:
        """The first thousand are told, names as long as a line."""
        if len(self.warnings) < _MAX_WARNINGS:
            self.warnings.append(
                text if len(text) <= _MAX_TOLD else f"{text[: _MAX_TOLD // 2]}…{text[-_MAX_TOLD // 2 :]}"
            )
        else:
            self._unnamed += 1

    def _end(self) -> bytes:
        if self._unnamed:
            self.warnings.append(f"… and {self._unnamed} more")
        return bytes(2 * BLOCK)

    def _tree(self, folder: str, prefix: bytes, keep: Keep, *, messages: bool = False) -> Iterator[bytes]:
        skip = len(key(folder)) + 1
        for item in self.staged.below(folder):
            inside = item.path[skip:]
            if not keep(inside):
                continue
            path = prefix + inside
            parts = path.split(b"/")
            above = [b"/".join(parts[:depth]) for depth in range(1, len(parts))]
            if item.type in "fh" and (not messages or is_message(parts)):
                self.count += 1
            if inside.startswith(STAGING_PREFIX.encode()):
                self._warn(f"{shown(path)}: has a name that restores use for themselves; left out")
                continue
            if self._links and any(_digest(name) in self._links for name in above):
                self._warn(f"{shown(path)}: lies behind a symbolic link; left out")
                continue
            if messages and item.type not in "fhd":
                self._links.add(_digest(path))
                self._no_mail.add(path)
                continue
            if item.type not in _TYPES:
                self._warn(f"{shown(path)}: a device or named pipe; left out")
                continue
            for name in above:
                yield from self._folder(name, 0o755)
            yield from self._member(item, path, messages=messages)

    def _folder(self, path: bytes, mode: int) -> Iterator[bytes]:
        if self._is_new(path):
            yield self._header(path, tarfile.DIRTYPE, mode, 0.0)

    def _is_new(self, folder: bytes) -> bool:
        before = len(self._folders)
        self._folders.add(_digest(folder))
        return len(self._folders) > before

    def _member(self, item: Item, path: bytes, *, messages: bool) -> Iterator[bytes]:
        if item.type == "d":
            if self._is_new(path):
                yield self._header(path, tarfile.DIRTYPE, item.mode, item.mtime)
            return
        if item.type == "l":
            self._links.add(_digest(path))
            if _leads_out(path, item.link):
                self._leading_out.add(path)
            yield self._header(path, tarfile.SYMTYPE, 0o777, item.mtime, link=item.link)
            return
        content = self._content(item, messages=messages)
        if content is None:
            self._warn(f"{shown(path)}: a hard link to something that is not in the archive; left out")
            return
        size, chunks = content
        yield self._header(path, tarfile.REGTYPE, item.mode, item.mtime, size=size)
        written = 0
        for chunk in chunks:
            written += len(chunk)
            yield chunk
        if written != size:
            raise ArchiveInvalid(f"{shown(path)} holds {written} bytes instead of {size}")
        yield bytes(-size % BLOCK)

    def _content(self, item: Item, *, messages: bool) -> tuple[int, Iterator[bytes]] | None:
        """Size and chunks. Hard links become files of their own: their other names may lie elsewhere."""
        if item.type == "h":
            target = self.staged.get(item.link)
            if target is None or target.type != "f":
                return None
            item = target
        if messages and item.path.rsplit(b"/", 2)[-2:-1] in ([b"cur"], [b"new"]) and item.size < _MAX_MESSAGE:
            first = next(self.staged.read(item), b"")
            if first.startswith(_GZIP):
                return sum(len(chunk) for chunk in _plain(self.staged, item)), _plain(self.staged, item)
        return item.size, self.staged.read(item)

    def _header(
        self, path: bytes, kind: bytes, mode: int, mtime: float, *, size: int = 0, link: bytes = b""
    ) -> bytes:
        name = text(path)
        info = tarfile.TarInfo(name if name == "." else f"./{name}")
        info.type, info.mode, info.mtime, info.size = kind, mode & 0o777, max(int(mtime), 0), size
        info.linkname = text(link)
        info.uid, info.gid = self.owner.uid, self.owner.gid
        return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _digest(path: bytes) -> bytes:
    return blake2b(path, digest_size=16).digest()


def _leads_out(path: bytes, link: bytes) -> bool:
    """Whether a symbolic link names something outside the tree, as far as its text tells."""
    depth = path.count(b"/")
    for part in link.split(b"/"):
        depth += -1 if part == b".." else part not in (b"", b".")
        if depth < 0:
            return True
    return link.startswith(b"/")


def _in_maildir(path: bytes) -> bool:
    return of_maildir(path.split(b"/"))


def _plain(staged: Staged, item: Item) -> Iterator[bytes]:
    with staged.raw(item) as stored:
        expanded = Expanded(Peeked(stored), "gzip", Budget(Limits(bytes=_MAX_MESSAGE), clock=time.thread_time))
        while data := expanded.read(1 << 20):
            staged.tick(0)
            yield data


def plain_sql(staged: Staged, item: Item, budget: Budget) -> Iterator[bytes]:
    """A dump, decompressed when it is compressed. Raises ArchiveInvalid, ImportLimitExceeded."""
    with staged.raw(item) as stored:
        source = Peeked(stored)
        kind = compression(source.peek())
        if kind is None:
            yield from staged.read(item)
            return
        expanded = Expanded(source, kind, budget)
        while data := expanded.read(1 << 20):
            yield data

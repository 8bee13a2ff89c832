"""Tar streams of a whole folder, as an engine that copies folders writes and takes them: renamed and checked.

Source: POSIX.1-2017 pax interchange format, read and written by the standard library's tarfile.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.archives.streams import CHUNK, ByteStream, Sink, SourceReader, transform
from app.archives.tar import TarScanner, normalised
from app.deployments.base import STAGING_PREFIX, Kept, Owners
from app.errors import ArchiveDamaged, MemberMismatch

_KEPT = (tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)
_ATTRIBUTES = "SCHILY.xattr.user."


def below_its_top(source: ByteStream, kept: Kept | None = None) -> ByteStream:
    """The archive of a folder, whose members begin with its name, as an archive of what is in it: './…'.

    Numeric owners; sockets, devices, what an interrupted restore has left and what `kept` refuses are not in it.
    Raises ArchiveDamaged.
    """

    def work(reader: SourceReader, sink: Sink) -> None:
        def renamed(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            name = _below(member.name)
            if name.startswith(f"./{STAGING_PREFIX}"):
                return None
            device = member.type in (tarfile.CHRTYPE, tarfile.BLKTYPE)
            if kept is not None and not kept(normalised(name.encode("utf-8", "surrogateescape")), device):
                return None
            if device:
                return None
            made = _copy(member, name, member.uid, member.gid)
            if member.islnk():
                made.linkname = _below(member.linkname)
            return made

        _rewrite(reader, sink, renamed)

    return transform(source, work, "folder archive")


def above_its_top(source: ByteStream, top: str, owners: Owners, links: set[bytes]) -> ByteStream:
    """An archive of ours as one of the folder `top`, for an engine that extracts it as root: with owners that are
    allowed, without devices.

    `links`: symbolic links that are in the folder already; no member may lie behind one of them, or behind one of
    the archive's own. Raises ArchiveDamaged, MemberMismatch.
    """
    links = set(links)

    def work(reader: SourceReader, sink: Sink) -> None:
        def checked(member: tarfile.TarInfo) -> tarfile.TarInfo:
            path = _inside(member.name, links)
            made = _copy(member, _within(top, path), *owners(member.uid, member.gid))
            if member.islnk():
                made.linkname = _within(top, _inside(member.linkname, links))
            if member.issym():
                links.add(path)
            else:
                links.discard(path)  # the engine replaces it
            return made

        _rewrite(reader, sink, checked)

    return transform(source, work, "checked archive")


def _below(name: str) -> str:
    rest = name.partition("/")[2].rstrip("/")
    return f"./{rest}" if rest else "."


def _within(top: str, path: bytes) -> str:
    return f"{top}/{path.decode('utf-8', 'surrogateescape')}".rstrip("/")


def _inside(name: str, links: set[bytes]) -> bytes:
    """The member's path. Raises MemberMismatch when it would be written outside the folder."""
    path = normalised(name.encode("utf-8", "surrogateescape"))
    parts = path.split(b"/")
    if path.startswith(b"/") or b".." in parts:
        raise MemberMismatch(f"{name!r} lies outside the folder; nothing of it was restored")
    for depth in range(1, len(parts)):
        if b"/".join(parts[:depth]) in links:
            raise MemberMismatch(f"{name!r} lies behind a symbolic link; remove the link and try again")
    return path


def _copy(member: tarfile.TarInfo, name: str, uid: int, gid: int) -> tarfile.TarInfo:
    """Raises MemberMismatch for a device."""
    if member.isreg():  # sparse files too, expanded
        kind = tarfile.REGTYPE
    elif member.type in _KEPT:
        kind = member.type
    else:
        raise MemberMismatch(f"{member.name!r} is a device or of an unknown type; the site cannot have such a file")
    made = tarfile.TarInfo(name)
    made.type, made.size, made.mode, made.mtime = (
        kind,
        member.size if member.isreg() else 0,
        member.mode,
        member.mtime,
    )
    made.linkname, made.uid, made.gid = member.linkname, uid, gid
    kept = {key: value for key, value in member.pax_headers.items() if key.startswith(_ATTRIBUTES) or key == "mtime"}
    made.pax_headers = kept
    return made


class _Watched(io.RawIOBase):
    """Looks for the archive's end as it is read, and keeps the error of whoever sends it."""

    def __init__(self, reader: SourceReader) -> None:
        super().__init__()
        self._reader = reader
        self._scanner = TarScanner()
        self._last: bytes | None = None
        self.failure: Exception | None = None

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = self._reader.read(size)
        except Exception as error:
            self.failure = error
            raise
        for member in self._scanner.feed(data):
            self._last = member.path
        return data

    @property
    def ended(self) -> bool:
        return self._scanner.ended

    @property
    def where(self) -> str:
        """The last member: an engine that cannot read a file stops there, and names nothing."""
        return "" if self._last is None else f" in {self._last.decode('utf-8', 'backslashreplace')} or after it"


@contextmanager
def _damage(watched: _Watched) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        if watched.failure is not None:
            raise watched.failure from None
        raise ArchiveDamaged(f"The folder's archive cannot be read{watched.where}: {error}") from error


def _rewrite(reader: SourceReader, sink: Sink, changed: Callable[[tarfile.TarInfo], tarfile.TarInfo | None]) -> None:
    watched = _Watched(reader)
    with (
        _damage(watched),
        tarfile.open(fileobj=watched, mode="r|", bufsize=CHUNK, errors="surrogateescape", encoding="utf-8") as old,
        tarfile.open(
            fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape",
            bufsize=CHUNK,
        ) as new,
    ):  # fmt: skip
        while (member := old.next()) is not None:
            old.members.clear()  # type: ignore[attr-defined]  # it would keep all of them
            new.members.clear()  # type: ignore[attr-defined]
            made = changed(member)
            if made is not None:
                new.addfile(made, old.extractfile(member) if member.isreg() else None)
        while watched.read(CHUNK):  # padding, and proof of the end
            pass
    if not watched.ended:
        raise ArchiveDamaged(f"The folder's archive has no end-of-archive marker: it was cut{watched.where}")

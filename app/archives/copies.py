"""The copies of one backup: a part that cannot be read from one is read from the next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from app.archives.manifest import ComponentDetails, Details, Manifest, ManifestComponent
from app.archives.store import BackupStore
from app.archives.streams import ByteStream, told
from app.errors import (
    ArchiveDamaged,
    ArchiveError,
    CommandFailed,
    ComponentError,
    LiberuError,
    ManifestInvalid,
    NotFound,
    ObjectNotFound,
    SizeMismatch,
    StorageError,
)

T = TypeVar("T")
_DAMAGE = (ArchiveDamaged, ManifestInvalid, ObjectNotFound, SizeMismatch)
#: What garbage in an archive can look like to whoever reads it.
_CONFUSION = (ArchiveError, CommandFailed, ComponentError)


@dataclass(frozen=True, slots=True)
class Copy:
    """Where one copy lies: `id` and `name` of its destination, `opened` its store."""

    id: int
    name: str
    manifest_key: str
    opened: Callable[[], AbstractAsyncContextManager[BackupStore]]


@dataclass(frozen=True, slots=True)
class CopyProblem:
    """Why a copy was not used, for the part `number`, or for all when that is None."""

    copy: Copy
    number: int | None
    error: LiberuError

    @property
    def damage(self) -> bool:
        """Whether the copy is known to be damaged; one that cannot be reached or decrypted is not."""
        return isinstance(self.error, _DAMAGE)

    def __str__(self) -> str:
        return f"the copy at {self.copy.name}: {self.error.message}"


@dataclass(frozen=True, slots=True)
class _Opened:
    store: BackupStore
    manifest: Manifest
    details: Details


class CopySource:
    """`copies`: in the order in which they are used. `identities`: keys that may open them. Each is opened when it is
    needed, and closed with this."""

    def __init__(
        self, copies: Sequence[Copy], identities: Sequence[str], *, backup_uid: str, domain_uid: str
    ) -> None:
        self._copies = copies
        self._identities = identities
        self._uids = (backup_uid, domain_uid)
        self._stack = AsyncExitStack()
        self._opened: dict[int, _Opened] = {}
        self.problems: list[CopyProblem] = []

    async def __aenter__(self) -> CopySource:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def open(self, wanted: Collection[int]) -> tuple[Copy, Details]:
        """The first copy that can be read, and its details; each of the `wanted` parts is there at one copy at least.

        Raises what is wrong with the last copy: StorageError, ArchiveError; NotFound when there is none.
        """
        for copy in self._copies:
            opened = await self._try(copy)
            if opened is not None:
                for number in wanted:
                    await self._locate(number, opened.details.component(number))
                return copy, opened.details
        raise self._failure(None)

    def store(self, copy: Copy) -> BackupStore:
        """Of a copy that `open` has returned."""
        return self._opened[copy.id].store

    async def component(
        self,
        part: ComponentDetails,
        use: Callable[[ByteStream], Awaitable[T]],
        repeatable: Callable[[], bool] = lambda: True,
    ) -> tuple[T, Copy]:
        """What `use` makes of the part's plain bytes, and the copy they are from.

        When a stream fails, or `use` does of a copy that turns out to be damaged, it is called again, from the
        beginning, with the next copy: it must have changed nothing, as far as `repeatable` says. Errors of its own
        pass through. Raises what is wrong with the last copy.
        """
        last: LiberuError | None = None
        for copy in self._usable(part.number):
            opened = await self._try(copy)
            if opened is None:
                continue
            try:
                entry = _same(opened, part)
            except ArchiveError as error:
                self._note(copy, part.number, error)
                continue
            secret = self._identities if entry.encryption else None
            plain = opened.store.open_component(entry.objects[0], part.plain_size, part.plain_sha256, secret)
            failures: list[LiberuError] = []

            def note(error: BaseException, noted: list[LiberuError] = failures) -> None:
                if isinstance(error, StorageError | ArchiveError):  # its consumer may make another one of it
                    noted.append(error)

            try:
                return await use(told(plain, note)), copy
            except LiberuError as error:
                problem = failures[0] if failures else await _damage_behind(error, opened.store, entry)
                if problem is None:
                    raise
                self._note(copy, part.number, problem)
                if not repeatable():
                    raise
                last = error
        raise self._failure(part.number) from last

    def problems_of(self, number: int) -> list[CopyProblem]:
        """What kept copies from being used for one part."""
        return [problem for problem in self.problems if problem.number in (None, number)]

    def _usable(self, number: int) -> list[Copy]:
        bad = {problem.copy.id for problem in self.problems_of(number)}
        return [copy for copy in self._copies if copy.id not in bad]

    async def _locate(self, number: int, part: ComponentDetails) -> None:
        """Raises when no copy has the part's objects."""
        for copy in self._usable(number):
            opened = await self._try(copy)
            if opened is None:
                continue
            try:
                for stored in _same(opened, part).objects:
                    if not await opened.store.present(stored):
                        raise ManifestInvalid(f"{stored.key} is missing or has another size; nothing was changed")
            except (StorageError, ArchiveError) as error:
                self._note(copy, number, error)
            else:
                return
        raise self._failure(number)

    async def _try(self, copy: Copy) -> _Opened | None:
        """A copy's store, manifest and details; None when they cannot be read."""
        if copy.id not in self._opened:
            try:
                self._opened[copy.id] = await self._read(copy)
            except (StorageError, ArchiveError) as error:
                self._note(copy, None, error)
                return None
        return self._opened[copy.id]

    async def _read(self, copy: Copy) -> _Opened:
        store = await self._stack.enter_async_context(copy.opened())
        manifest = await store.read_manifest(copy.manifest_key)
        if (manifest.backup_uid, manifest.domain_uid) != self._uids:
            raise ManifestInvalid(f"{copy.manifest_key} belongs to another backup or domain")
        return _Opened(store, manifest, await store.read_details(manifest, self._identities))

    def _note(self, copy: Copy, number: int | None, error: LiberuError) -> None:
        self.problems.append(CopyProblem(copy, number, error))

    def _failure(self, number: int | None) -> LiberuError:
        """When no copy is left: as the last one's error, which names all of them."""
        problems = self.problems if number is None else self.problems_of(number)
        if not problems:
            return NotFound("The backup has no copy that is stored")
        if len(problems) == 1:
            return problems[0].error
        return type(problems[-1].error)("No copy can be used: " + "; ".join(str(problem) for problem in problems))


async def _damage_behind(
    error: LiberuError, store: BackupStore, entry: ManifestComponent
) -> StorageError | ArchiveError | None:
    """What is wrong with an archive that somebody could make nothing of; None when it is whole, or cannot be read.

    Its hash is known only at its end: until then damage looks like a strange archive, or a strange dump. age tells it
    before a byte of it gets out.
    """
    if entry.encryption or not isinstance(error, _CONFUSION):
        return None
    try:
        await store.verify_object(entry.objects[0])
    except (StorageError, ArchiveError) as found:
        return found if isinstance(found, _DAMAGE) else None
    return None


def _same(opened: _Opened, part: ComponentDetails) -> ManifestComponent:
    """What a copy has of a part. Raises ManifestInvalid when it is of another dump."""
    found = opened.details.component(part.number)
    known = (part.kind, part.name, part.plain_size, part.plain_sha256)
    if (found.kind, found.name, found.plain_size, found.plain_sha256) != known:
        raise ManifestInvalid(f"{opened.manifest.folder} holds another version of {part.kind} {part.name}")
    return opened.manifest.component(part.number)

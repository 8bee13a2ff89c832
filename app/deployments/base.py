"""The contract of every deployment: how a command is run where a site lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from app.archives.streams import ByteStream
from app.deployments.secret_files import SecretFiles

SwapMode = Literal["exchange", "entries", "in_place"]
#: uid and gid as archived → as restored.
Owners = Callable[[int, int], tuple[int, int]]
STAGING_PREFIX = ".liberu-restore-"
MAX_STDERR = 1 << 20
MAX_NOTE = 1 << 14


@dataclass(frozen=True, slots=True)
class CommandResult:
    """`stdout` and `stderr` are cut at 1 MiB each."""

    status: int
    stdout: bytes
    stderr: str


@dataclass(slots=True)
class Outcome:
    """How a streamed command ended; complete after the stream's last chunk."""

    status: int | None = None
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """A system user of the site's machine."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class TreeStatus:
    """A folder as it is now. `free` in bytes, of its file system and quota as far as they can be told, else huge."""

    uid: int
    gid: int
    mount_point: bool
    free: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a tree: `type` is one of f d l p s c b, or h for another name of a file that was listed; `path` is
    relative, without a leading './'."""

    path: bytes
    type: str
    size: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """A swap that a restart can finish: all of it is journalled before the target is touched."""

    target: str
    operation: str
    mode: SwapMode
    clear_existing: bool

    @property
    def staging_name(self) -> str:
        return f"{STAGING_PREFIX}{self.operation}"


class MergeRules(Protocol):
    """What is added when one tree is added to another. Paths as tuples of names; a tree's rules serve once.

    `notes`: names of small files whose content counts.
    """

    notes: tuple[bytes, ...]

    def have(self, path: tuple[bytes, ...]) -> None:
        """This is in the target. Before any `staged`."""
        ...

    def staged(self, path: tuple[bytes, ...]) -> None:
        """This is staged. Before any `name`."""
        ...

    def note(self, path: tuple[bytes, ...], content: bytes, *, live: bool) -> None:
        """What a note holds (its first MAX_NOTE bytes), in the target or staged. Before `name` of files below it."""
        ...

    def name(self, path: tuple[bytes, ...]) -> bytes | None:
        """Under which name a staged file is added to its folder; None for one that is not."""
        ...

    def added(self, path: tuple[bytes, ...], size: int) -> None:
        """A staged file, of `size` bytes, was added."""
        ...

    def appended(self) -> list[tuple[tuple[bytes, ...], bytes]]:
        """At last: what belongs at the ends of files in the target, which are made where they are not there."""
        ...


@dataclass(slots=True)
class SwapReport:
    carried_over: int = 0


class SiteTree(ABC):
    """Operations on a site's folder that plain commands cannot do safely.

    No method follows a symbolic link, in any component of a path. Raises TargetMissing, SwapImpossible,
    NoSpace, CommandFailed.
    """

    @abstractmethod
    async def status(self, path: str) -> TreeStatus:
        """Raises TargetMissing when there is no folder at `path` or a link stands in the way."""

    @abstractmethod
    async def swap_mode(self, path: str) -> SwapMode:
        """`exchange` where one rename can swap the whole folder, else `entries`; `in_place` where nothing can be
        renamed."""

    @abstractmethod
    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        """Make an empty staging folder for `plan` and return the path to extract into. Idempotent.

        Nobody but the service can reach it.
        """

    @abstractmethod
    def inventory(self, path: str) -> AsyncGenerator[list[Entry], None]:
        """Everything below `path`, in batches."""

    @abstractmethod
    async def sync(self, path: str) -> None:
        """Write what is below `path` to disk, so that a swap that follows has little to wait for."""

    @abstractmethod
    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]]) -> None:
        """Give entries below `path` to (uid, gid). Privileged, follows no link."""

    @abstractmethod
    async def swap(self, plan: SwapPlan, confirm: Callable[[], Awaitable[None]]) -> SwapReport:
        """Put the staged tree in the target's place; the old tree stays in staging.

        `confirm` runs right before the target is touched and may raise: then nothing has changed. A failure
        leaves the target as it was (`exchange`) or is put right by `finish`.
        """

    @abstractmethod
    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        """Add the staged files that `rules` names, and folders; return how many files.

        Nothing in the target is removed, nor changed but by what `rules` appends. Can be repeated, with new rules.
        """

    @abstractmethod
    async def finish(self, plan: SwapPlan) -> bool:
        """After a crash: complete a swap that had begun; True when the staged tree is in place."""

    @abstractmethod
    async def discard(self, plan: SwapPlan) -> None:
        """Remove the staging folder, with the old tree after a swap. Idempotent."""


class FolderArchive(Protocol):
    """Folders as tar streams, without a tool where the site runs."""

    def read(self, folder: str) -> ByteStream:
        """The folder's content, members './…', with numeric owners. Raises ArchiveDamaged when it was cut,
        DeploymentError."""
        ...

    async def write(self, folder: str, source: ByteStream, owners: Owners) -> None:
        """Extract into a folder: what is there and not in `source` stays. Closes `source`; its error passes through.

        Raises MemberMismatch, NoSpace, DeploymentError; then part of it may have been written.
        """
        ...


class Deployment(ABC):
    """Where a site runs. Knows nothing of files, databases or mail.

    `archive`: for a place that has no tar.
    """

    kind: str
    archive: FolderArchive | None = None

    @cached_property
    def tools(self) -> dict[Any, Any]:
        """What components found out of the tools there: asked once while the deployment is open."""
        return {}

    async def prepare(self) -> None:  # noqa: B027  nothing to learn on this machine
        """Connect, and learn what `privileged` tells. Comes before everything else. Raises DeploymentError."""

    async def close(self) -> None:  # noqa: B027
        """Release connections. The deployment is not used afterwards."""

    @property
    @abstractmethod
    def tree(self) -> SiteTree:
        """File operations at this deployment."""

    @abstractmethod
    async def run(
        self,
        argv: Sequence[str],
        *,
        input: ByteStream | bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: User | None = None,
        check: bool = True,
        timeout: float | None = None,
    ) -> CommandResult:
        """Run a command to its end. Closes `input`; an error of `input` ends the command and passes through.

        The environment is built by us, plus `env`; nothing is inherited. `cwd` is entered without following
        a link. `timeout` in seconds. Raises CommandFailed (when `check`), ToolMissing, TargetMissing.
        Cancellation kills the command and its children.
        """

    @abstractmethod
    def stream(
        self,
        argv: Sequence[str],
        *,
        input: ByteStream | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: User | None = None,
        accept: Sequence[int] = (0,),
        outcome: Outcome | None = None,
    ) -> ByteStream:
        """Yield a command's stdout. After the last chunk raise CommandFailed unless its status is in `accept`.

        Closing the stream kills the command and its children. `outcome` receives status and stderr. Closes
        `input`; its error is raised in place of the command's.
        """

    @cached_property
    def secret_files(self) -> SecretFiles:
        return SecretFiles()

    @asynccontextmanager
    async def secret_file(self, content: str) -> AsyncGenerator[str, None]:
        """A name that stands, as an argument or at the end of one, for a file with `content` (lines of text).

        One for each command. Only the command itself, as whoever it runs, can read the file, and only once; it is
        never on a disk.
        """
        with self.secret_files.held(content) as name:
            yield name

    async def resolve_user(self, name: str) -> User:
        """A user by name, or by `uid` or `uid:gid`. Raises InvalidRequest."""
        uid, _, gid = name.partition(":")
        if uid.isdecimal() and (not gid or gid.isdecimal()):
            return User(int(uid), int(gid or uid))
        return await self._named_user(name)

    @abstractmethod
    async def _named_user(self, name: str) -> User:
        """Raises InvalidRequest when there is none."""

    @property
    @abstractmethod
    def privileged(self) -> bool:
        """True when commands may run as other users and files be given away."""

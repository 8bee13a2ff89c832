"""The contract of every deployment: how a command is run where a site lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol

from app.archives.streams import ByteStream

SwapMode = Literal["exchange", "entries", "in_place"]
#: uid and gid as archived → as restored.
Owners = Callable[[int, int], tuple[int, int]]
STAGING_PREFIX = ".liberu-restore-"
MAX_STDERR = 1 << 20


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
    """What counts as the same file when one tree is added to another. Folders as tuples of names."""

    def folders(self, folder: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
        """Where the like of a file in `folder` may lie."""
        ...

    def identity(self, name: bytes) -> bytes | None:
        """What the same file shares under all its names; None for a file that is never added."""
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
        """Add staged files whose like is not in the target, and folders; return how many files.

        Nothing in the target is changed or removed. Can be repeated.
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

    @abstractmethod
    def secret_file(self, content: str, user: User | None = None) -> AbstractAsyncContextManager[str]:
        """A file of mode 0600 at the deployment, readable by `user` alone; removed at the end."""

    async def resolve_user(self, name: str) -> User:
        """A user by name, or by `uid` or `uid:gid`. Raises InvalidRequest."""
        uid, _, gid = name.partition(":")
        if uid.isdecimal() and (not gid or gid.isdecimal()):
            return User(int(uid), int(gid or uid))
        return await self._named_user(name)

    @abstractmethod
    async def _named_user(self, name: str) -> User:
        """Raises InvalidRequest when there is none."""

    async def resolve_group(self, name: str) -> int:
        """A group's number, by name or by number. Raises InvalidRequest."""
        return int(name) if name.isdecimal() else await self._named_group(name)

    @abstractmethod
    async def _named_group(self, name: str) -> int:
        """Raises InvalidRequest when there is none."""

    @property
    @abstractmethod
    def privileged(self) -> bool:
        """True when commands may run as other users and files be given away."""

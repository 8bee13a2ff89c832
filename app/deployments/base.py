"""The contract of every deployment: how a command is run where a site lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from app.archives.streams import ByteStream
from app.deployments.confinement import NOBODY
from app.deployments.secret_files import SecretFiles
from app.deployments.tree import STAGING_PREFIX, SiteTree, User

__all__ = ["STAGING_PREFIX", "SiteTree", "User"]

#: uid and gid as archived → as restored.
Owners = Callable[[int, int], tuple[int, int]]
#: Whether a path, relative, is to be in an archive; and whether it is a device.
Kept = Callable[[bytes, bool], bool]
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


class FolderArchive(Protocol):
    """Folders as tar streams, without a tool where the site runs."""

    def read(self, folder: str, kept: Kept | None = None) -> ByteStream:
        """The folder's content, members './…', with numeric owners; what `kept` refuses, and devices, are left out.
        Raises ArchiveDamaged when it was cut, DeploymentError."""
        ...

    async def link(self, path: str) -> tuple[bytes, int] | None:
        """A symbolic link's target and its owner; None when there is none. Raises DeploymentError."""
        ...

    async def mounts(self, folder: str) -> list[str]:
        """Where other file systems are mounted below the folder; relative paths. Raises DeploymentError."""
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
        confined: bool = False,
    ) -> CommandResult:
        """Run a command to its end. Closes `input`; an error of `input` ends the command and passes through.

        The environment is built by us, plus `env`; nothing is inherited. `cwd` is entered without following
        a link. `timeout` in seconds. Raises CommandFailed (when `check`), ToolMissing, TargetMissing.
        Cancellation kills the command and its children.

        `confined`: for a command that gets foreign bytes. It runs as `user`, else, where we are root, as nobody, with
        no group but the user's, and never as root. It can start no other program, nor a thread; no file takes a byte
        from it; it has no more than 4 GiB of memory; set-user-id programs give it nothing (where there is a setpriv);
        PATH, HOME, SHELL, EDITOR, VISUAL and PAGER lead nowhere. It is in /; `cwd` is not for
        it. It connects and reads like anything of its user: where we are not root, that is whoever we are.
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
        confined: bool = False,
        see: Callable[[bytes], None] | None = None,
    ) -> ByteStream:
        """Yield a command's stdout. After the last chunk raise CommandFailed unless its status is in `accept`.
        `confined`: as for `run`. `see` looks at every chunk before it is yielded, never on the event loop.

        Closing the stream kills the command and its children. `outcome` receives status and stderr. Closes
        `input`; its error is raised in place of the command's.
        """

    def _confined_user(self, user: User | None, cwd: str | None) -> User | None:
        """Whom a confined command runs as; None: whoever we are."""
        if cwd is not None or (user is not None and user.uid == 0):
            raise ValueError("a confined command runs in / and never as root")
        return NOBODY if user is None and self.privileged else user

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

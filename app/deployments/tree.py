"""The contract of a site's folder: what a place must be able to do so that a restore can be put in it safely."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

SwapMode = Literal["exchange", "entries", "in_place"]
#: See app.deployments.swap.
SwapState = Literal["planned", "begun", "swapped", "undone", "tidied"]
STAGING_PREFIX = ".liberu-restore-"
#: How much of a note is read, in bytes: see MergeRules.
MAX_NOTE = 1 << 14
#: All that is live.
EVERYTHING = (b".",)


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


class Entry(NamedTuple):
    """One thing in a tree: `type` is one of f d l p s c b, or h for another name of a file that was listed; `path` is
    relative, without a leading './'. `mtime` in seconds since 1970. `fixed`: see SiteTree.immutable, where
    `tells_fixed` is set."""

    path: bytes
    type: str
    size: int
    uid: int
    gid: int
    mtime: float = 0
    fixed: bool = False


class Staged(NamedTuple):
    """A staging folder as it was found. `holds_old`: something that was live is in it."""

    name: str
    inode: int
    holds_old: bool


@dataclass(slots=True)
class SwapPlan:
    """What a swap does and how far it is: its journal, kept in the database. What lies at the target can be changed
    by its tenant, and is not trusted.

    `tree`: the folder in staging that is swapped in. `staging`: the staging folder's inode. `old`, `new`: inodes of
    the two folders that are exchanged. `mode_before`: the target's permission bits. `names`: packed, see
    app.deployments.swap. `roots`: below which paths of the live tree what the archive lacks stays, packed alike.
    `carried`: what arrived while it was swapped has been carried over. `cleared`: staging was removed, of a swap that
    changed nothing.
    """

    target: str
    operation: str
    mode: SwapMode
    clear_existing: bool
    state: SwapState = "planned"
    tree: str = "new"
    staging: int | None = None
    old: int | None = None
    new: int | None = None
    mode_before: int | None = None
    names: str = ""
    roots: str = ""
    carried: bool = False
    cleared: bool = False

    @property
    def staging_name(self) -> str:
        return f"{STAGING_PREFIX}{self.operation}"

    @property
    def parent(self) -> str:
        """Where staging lies: beside the target where it is swapped whole, inside it where its entries are moved."""
        target = self.target.rstrip("/")
        return target.rpartition("/")[0] or "/" if self.mode == "exchange" else target or "/"

    @property
    def staging_path(self) -> str:
        return f"{self.parent.rstrip('/')}/{self.staging_name}"

    @property
    def old_tree(self) -> str:
        """The folder in staging that holds the old tree once it is swapped."""
        return self.tree if self.mode == "exchange" else "old"


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


class SiteTree(ABC):
    """Operations on a site's folder that plain commands cannot do safely.

    No method follows a symbolic link, in any component of a path, and none crosses into another file system to move
    or remove anything. Raises TargetMissing, SwapImpossible, NoSpace, CommandFailed. Those that change something are
    used through app.deployments.swap.Swap, which knows in which state which one may be called.

    `tells_fixed`: an inventory tells of each entry what `immutable` would; who reads one need not ask.
    """

    tells_fixed = False

    @abstractmethod
    async def status(self, path: str) -> TreeStatus:
        """Raises TargetMissing when there is no folder at `path` or a link stands in the way."""

    @abstractmethod
    async def swap_mode(self, path: str) -> SwapMode:
        """`exchange` where one rename can swap the whole folder, else `entries`; `in_place` where nothing can be
        renamed."""

    @abstractmethod
    async def mounts(self, path: str) -> list[str]:
        """The file systems that are mounted below `path`."""

    @abstractmethod
    async def immutable(self, path: str, *, deep: bool) -> list[str]:
        """Up to 20 entries of `path`, or of all that is below it, that the file system lets nobody rename or remove
        (chattr +i, +a); empty where that cannot be told."""

    @abstractmethod
    async def matching(self, path: str, patterns: Sequence[str]) -> list[bytes]:
        """The topmost entries below `path` that one of the exclusions matches, as a dump understands them."""

    @abstractmethod
    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        """Make an empty staging folder for `plan`, note its inode, and return the path to extract into.

        Nobody but the service can reach it. Raises SwapImpossible when there is one already.
        """

    @abstractmethod
    def inventory(self, path: str, *, live: bool = False) -> AsyncGenerator[list[Entry], None]:
        """Everything below `path`, in batches. `live`: others change it meanwhile; what cannot be told of it is left
        out."""

    @abstractmethod
    async def sync(self, path: str) -> None:
        """Write what is below `path` to disk, so that a swap that follows has little to wait for."""

    @abstractmethod
    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]], extracted: User) -> list[bytes]:
        """Give entries below `path`, which `extracted` made, to (uid, gid). Privileged, follows no link.
        Set-user-id bits go, set-group-id and sticky ones stay.

        Returns those that belong to somebody else: they are not given away.
        """

    @abstractmethod
    async def make_folder(self, path: str, owner: User) -> None:
        """Make a folder, for `owner`, and those above it that are not there. Raises TargetMissing when a link stands
        in the way, SwapImpossible when somebody interferes."""

    @abstractmethod
    async def merge(self, plan: SwapPlan, roots: Sequence[bytes]) -> None:
        """Make `merged`: hard links of all that was extracted, and of what is live at or below `roots` and was not.

        What appears or vanishes meanwhile is normal. Can be repeated.
        """

    @abstractmethod
    async def measure(self, plan: SwapPlan) -> None:
        """Write what is staged to disk, and note in `plan` what the swap will move."""

    @abstractmethod
    async def forward(self, plan: SwapPlan) -> list[str]:
        """Put the staged tree in the target's place, one entry after the other; the old tree goes to staging.

        Can be repeated, and stops at what cannot be done. Returns what arrived meanwhile where a staged entry had to
        go: it is kept in staging.
        """

    @abstractmethod
    async def backward(self, plan: SwapPlan) -> None:
        """Put the old tree back, whatever `forward` has done of it. Can be repeated, and stops at what cannot be
        done."""

    @abstractmethod
    async def carry_over(self, plan: SwapPlan, roots: Sequence[bytes]) -> int:
        """Bring what appeared or was replaced in the old tree, at or below `roots`, after it was merged into the new
        one; how many files. What was extracted, and what was changed since the swap, stays. Can be repeated."""

    @abstractmethod
    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        """Add the staged files that `rules` names, and folders; return how many files.

        Nothing in the target is removed, nor changed but by what `rules` appends. Can be repeated, with new rules.
        """

    async def staged(self, path: str) -> list[Staged]:
        """The staging folders in `path` that are ours alone. On this machine nothing is left but what is journalled,
        and nothing is looked for. Raises TargetMissing."""
        return []

    @abstractmethod
    async def holds_old(self, plan: SwapPlan) -> bool:
        """Whether anything that was live is in staging."""

    @abstractmethod
    async def remove(self, plan: SwapPlan) -> None:
        """Remove the staging folder and all that is in it; idempotent. Raises SwapImpossible when a file system is
        mounted in it."""

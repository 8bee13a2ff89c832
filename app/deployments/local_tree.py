"""A site's folder of this machine: directory handles only, no link is ever followed."""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from app.deployments import local_owners, local_swap, swap_scripts
from app.deployments.descriptors import held, made_folder, open_below, open_folder, opened, opened_at
from app.deployments.exclusions import find_matching
from app.deployments.folders import (
    EXCHANGE,
    Statx,
    in_thread,
    is_immutable,
    mountinfo,
    place_folder,
    rename,
    staging,
    status,
    sync_file_system,
    walk,
)
from app.deployments.local_merge import merge
from app.deployments.mounts import mounts_below
from app.deployments.tree import (
    STAGING_PREFIX,
    Entry,
    MergeRules,
    SiteTree,
    SwapMode,
    SwapPlan,
    TreeStatus,
    User,
)
from app.errors import StagingLost, SwapImpossible, TargetMissing

if TYPE_CHECKING:
    from app.deployments.base import Deployment

_BATCH = 2000
_NAMED = 20


class LocalTree(SiteTree):
    tells_fixed = True

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._staged: dict[str, SwapPlan] = {}

    def enter(self, path: str) -> int:
        """A descriptor of a folder. One in staging is reached through what was made there, whatever its path means by
        now. Blocking; raises OSError, StagingLost."""
        for top, plan in self._staged.items():
            if path == top or path.startswith(f"{top}/"):
                with staging(plan) as ours:
                    return open_below(ours, [part for part in path[len(top) :].split("/") if part])
        return open_folder(path or "/")

    def _opened(self, path: str) -> AbstractContextManager[int]:
        return held(self.enter(path))

    async def status(self, path: str) -> TreeStatus:
        return await in_thread(path, lambda: status(path))

    async def swap_mode(self, path: str) -> SwapMode:
        return await in_thread(path, lambda: _swap_mode(path))

    async def mounts(self, path: str) -> list[str]:
        return await in_thread(path, lambda: mounts_below(mountinfo(), path))

    async def immutable(self, path: str, *, deep: bool) -> list[str]:
        return await in_thread(path, lambda: self._immutable(path, deep=deep))

    async def matching(self, path: str, patterns: Sequence[str]) -> list[bytes]:
        return await find_matching(self._deployment, path, patterns)

    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        privileged = self._deployment.privileged
        await in_thread(plan.target, lambda: local_swap.prepare(plan, owner, privileged=privileged))
        self._staged[plan.staging_path] = plan
        return f"{plan.staging_path}/new"

    async def inventory(self, path: str, *, live: bool = False) -> AsyncGenerator[list[Entry], None]:
        walked = self._inventory(path, live=live)
        while True:
            batch = await in_thread(path, lambda: next(walked, None))
            if batch is None:
                return
            yield batch

    async def sync(self, path: str) -> None:
        def work() -> None:
            with self._opened(path) as folder:
                sync_file_system(folder)

        await in_thread(path, work)

    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]], extracted: User) -> list[bytes]:
        def work() -> list[bytes]:
            with self._opened(path) as root:
                return local_owners.set_owners(root, owners, extracted)

        return await in_thread(path, work)

    async def make_folder(self, path: str, owner: User) -> None:
        whose = owner if self._deployment.privileged else None
        await in_thread(path, lambda: local_owners.make_folder(path, whose))

    async def merge(self, plan: SwapPlan, roots: Sequence[bytes]) -> None:
        await in_thread(plan.target, lambda: local_swap.merge(plan, roots))

    async def measure(self, plan: SwapPlan) -> None:
        await in_thread(plan.target, lambda: local_swap.measure(plan))

    async def forward(self, plan: SwapPlan) -> list[str]:
        return await in_thread(plan.target, lambda: local_swap.forward(plan))

    async def backward(self, plan: SwapPlan) -> None:
        await in_thread(plan.target, lambda: local_swap.backward(plan))

    async def carry_over(self, plan: SwapPlan, roots: Sequence[bytes]) -> int:
        return await in_thread(plan.target, lambda: local_swap.carry_over(plan, roots))

    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        return await in_thread(plan.target, lambda: _add_missing(plan, rules))

    async def holds_old(self, plan: SwapPlan) -> bool:
        return await in_thread(plan.target, lambda: local_swap.holds_old(plan))

    async def remove(self, plan: SwapPlan) -> None:
        try:
            await self.status(plan.staging_path)
        except TargetMissing:
            return
        if plan.staging is None:
            await in_thread(plan.target, lambda: _remove_unmade(plan))
            return
        mounted = await self.mounts(plan.staging_path)
        if mounted:
            raise SwapImpossible(f"{mounted[0]} is mounted in what is to be removed; unmount it")
        self._staged[plan.staging_path] = plan
        # rm copes with any depth. It runs inside a folder only we can enter, which is looked at as it is entered.
        await self._deployment.run(["sh", "-ec", swap_scripts.EMPTY], cwd=plan.staging_path)
        await in_thread(plan.target, lambda: _remove_emptied(plan))
        del self._staged[plan.staging_path]

    def _immutable(self, path: str, *, deep: bool) -> list[str]:
        found: list[str] = []
        with self._opened(path) as root:
            if is_immutable(".", root):
                found.append(".")
            if not deep:
                with os.scandir(root) as entries:
                    found += [entry.name for entry in entries if is_immutable(entry.name, root)]
        if deep:
            for batch in self._inventory(path, live=True):
                found += [os.fsdecode(entry.path) for entry in batch if entry.fixed]
                if len(found) >= _NAMED:
                    break
        return [
            name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in found[:_NAMED]
        ]

    def _inventory(self, path: str, *, live: bool) -> Iterator[list[Entry]]:
        batch: list[Entry] = []
        look = Statx()
        with self._opened(path) as root:
            for parts, folder, entries in walk(root, lenient=live):
                above = b"".join(part + b"/" for part in parts)
                for entry in entries:
                    name = os.fsencode(entry.name)
                    found = look.entry(name, folder, above + name)
                    if found is not None:  # it has vanished: what is missing of an extracted tree shows
                        batch.append(found)
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
        yield batch


def _remove_unmade(plan: SwapPlan) -> None:
    """What a process that was killed right after it made it has left: empty folders, and nothing else."""
    try:
        with opened(plan.parent) as parent:
            with opened_at(parent, [plan.staging_name]) as folder, suppress(FileNotFoundError):
                os.rmdir("new", dir_fd=folder)
            os.rmdir(plan.staging_name, dir_fd=parent)
    except OSError as error:
        raise SwapImpossible(
            f"{plan.staging_path} is in the way, and is not what this restore made ({error.strerror}): move it away"
        ) from error


def _remove_emptied(plan: SwapPlan) -> None:
    with opened(plan.parent) as parent, suppress(FileNotFoundError):
        before = os.fstat(parent)
        os.rmdir(plan.staging_name, dir_fd=parent)
        if plan.mode != "exchange":  # the site's own folder: its time says nothing of us
            with suppress(PermissionError):
                os.utime(parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def _swap_mode(path: str) -> SwapMode:
    """Tried in a folder that is ours alone: where its tenant could move or remove what it is tried on, they could
    choose the way. Probes left by a process that was killed are removed by the next one."""
    if status(path).mount_point:
        return "entries"
    with opened(path.rstrip("/").rpartition("/")[0]) as parent:
        _remove_old_probes(parent)
        name = f"{_PROBE}{secrets.token_hex(8)}"
        try:
            with made_folder(parent, name) as probe:
                try:
                    for half in ("1", "2"):
                        os.mkdir(half, 0o700, dir_fd=probe)
                    rename(probe, probe, b"1", EXCHANGE, b"2")
                finally:
                    _remove_halves(probe)
        except FileNotFoundError as error:
            raise StagingLost(f"{name} beside {path} was removed by somebody while it was tried on") from error
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            return "entries"
        finally:
            with suppress(OSError):
                os.rmdir(name, dir_fd=parent)
    return "exchange"


#: The file system cannot exchange, or we may make nothing beside the site. No tenant can cause one of these.
_CANNOT = {
    errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM, errno.EROFS,
}  # fmt: skip
_PROBE = f"{STAGING_PREFIX}probe-"
_PROBE_SECONDS = 3600


def _remove_halves(probe: int) -> None:
    for half in ("1", "2"):
        with suppress(OSError):
            os.rmdir(half, dir_fd=probe)


def _remove_old_probes(parent: int) -> None:
    """Only empty folders go."""
    for name in os.listdir(parent):
        if name.startswith(_PROBE):
            with suppress(OSError):
                if os.stat(name, dir_fd=parent, follow_symlinks=False).st_mtime < time.time() - _PROBE_SECONDS:
                    with opened_at(parent, [name]) as probe:
                        _remove_halves(probe)
                    os.rmdir(name, dir_fd=parent)


def _add_missing(plan: SwapPlan, rules: MergeRules) -> int:
    with staging(plan) as ours, opened_at(ours, ["new"]) as new, opened(plan.target) as live:
        sync_file_system(new)

        def make(folder: int, target: int, name: bytes) -> None:
            with opened_at(folder, [name]) as model:
                place_folder(ours, model, target, name)

        return merge(new, live, rules, make, STAGING_PREFIX)

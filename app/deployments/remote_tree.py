"""File operations on a site's folder at another end, with nothing but a POSIX shell and its usual tools.

A script is started inside the folder it works on, which the wrapper has entered without following a link. A second
folder is reached through a descriptor (`/proc/self/fd/8`), never through its path. What a tenant could race with (its
own live tree) is only changed by rename(2) of top-level entries, which follows no link, or as the tenant itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from app.archives.streams import ByteStream
from app.deployments import remote_scripts as scripts
from app.deployments.base import (
    STAGING_PREFIX,
    CommandResult,
    Entry,
    MergeRules,
    SiteTree,
    SwapMode,
    SwapPlan,
    SwapReport,
    TreeStatus,
    User,
)
from app.deployments.remote_merge import NAMES, NOTES, RemoteMerge, notes_arguments
from app.errors import ArchiveDamaged, CommandFailed, NoSpace, SwapImpossible, TargetMissing

if TYPE_CHECKING:
    from app.deployments.remote import RemoteDeployment

Parts = tuple[bytes, ...]
_BATCH = 2000
_TYPES = {0o01: "p", 0o02: "c", 0o04: "d", 0o06: "b", 0o10: "f", 0o12: "l", 0o14: "s"}  # inode(7), st_mode >> 12


class RemoteTree(SiteTree):
    def __init__(self, deployment: RemoteDeployment) -> None:
        self._deployment = deployment

    async def status(self, path: str) -> TreeStatus:
        found = await self._script(scripts.STATUS, path)
        uid, gid, device, above, blocks, size = found.stdout.split()
        return TreeStatus(int(uid), int(gid), device != above, int(blocks) * int(size))

    async def swap_mode(self, path: str) -> SwapMode:
        """Exchanging two folders in one step needs renameat2, which no usual tool offers."""
        await self.status(path)
        return "entries"

    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        await self.discard(plan)
        who = f"{owner.uid}:{owner.gid}" if self._deployment.privileged else ""
        await self._script(scripts.PREPARE, plan.target, plan.staging_name, who)
        return _staged(plan, "new")

    async def inventory(self, path: str) -> AsyncGenerator[list[Entry], None]:
        gnu = await self._script(scripts.IS_GNU_FIND, path)
        entries = self._gnu_entries(path) if gnu.stdout.strip() == b"yes" else self._plain_entries(path)
        batch: list[Entry] = []
        async with aclosing(entries):
            async for entry in entries:
                batch.append(entry)
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
        yield batch

    async def _gnu_entries(self, path: str) -> AsyncGenerator[Entry, None]:
        argv = ["find", ".", "-mindepth", "1", *_WITHOUT_STAGING, "-printf", r"%y %s %U %G %P\0"]
        async with aclosing(_split(self._deployment.stream(argv, cwd=path), b"\0")) as records:
            async for record in records:
                kind, size, uid, gid, name = record.split(b" ", 4)
                yield Entry(name, kind.decode(), int(size) if kind == b"f" else 0, int(uid), int(gid))

    async def _plain_entries(self, path: str) -> AsyncGenerator[Entry, None]:
        """Names and facts from two walks of a tree that nobody else can change."""
        walk = ["find", ".", *_WITHOUT_STAGING]
        names = _split(self._deployment.stream([*walk, "-print0"], cwd=path), b"\0")
        stat = [*walk, "-exec", "stat", "-c", "%f %s %u %g", "{}", "+"]
        facts = _split(self._deployment.stream(stat, cwd=path), b"\n")
        async with aclosing(names), aclosing(facts):
            async for name in names:
                fact = await anext(facts, None)
                if fact is None:
                    raise SwapImpossible(f"{path} changed while it was being listed")
                mode, size, uid, gid = fact.split()
                kind = _TYPES[int(mode, 16) >> 12]
                if name != b".":
                    size = size if kind == "f" else b"0"
                    yield Entry(name.removeprefix(b"./"), kind, int(size), int(uid), int(gid))

    async def sync(self, path: str) -> None:
        await self._script("sync -f . 2>/dev/null || sync", path)

    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]]) -> None:
        groups: dict[str, list[bytes]] = {}
        for name, uid, gid in owners:
            groups.setdefault(f"{uid}:{gid}", []).append(name)
        for who, names in groups.items():  # chown clears set-uid and set-gid of files
            await self._script('exec xargs -0 chown -h -- "$1"', path, who, names=[b"./" + name for name in names])

    async def swap(self, plan: SwapPlan, confirm: Callable[[], Awaitable[None]]) -> SwapReport:
        report = SwapReport()
        if not plan.clear_existing:
            await self._as_owner(plan, "new", scripts.MERGE)
        await self._script(scripts.JOURNAL, plan.target, plan.staging_name)
        await confirm()
        await self._script(scripts.SWAP, plan.target, plan.staging_name)
        if not plan.clear_existing:
            done = await self._as_owner(plan, "old", scripts.CARRY_OVER)
            report.carried_over = sum(int(count) for count in done.stdout.split())
        return report

    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        merge = RemoteMerge(rules, lambda script, pairs: self._as_owner(plan, "new", script, names=pairs))
        new, wanted = _staged(plan, "new"), notes_arguments(rules)
        await merge.have(self._records(NAMES, plan.target, STAGING_PREFIX))
        await merge.staged(self._records(NAMES, new, STAGING_PREFIX))
        await merge.note(self._records(NOTES, plan.target, *wanted), live=True)
        await merge.note(self._records(NOTES, new, *wanted), live=False)
        await merge.add(self.inventory(new))
        await self.sync(plan.target)
        return merge.count

    def _records(self, script: str, path: str, *arguments: str) -> AsyncGenerator[bytes, None]:
        """What a script prints, with a NUL at each end."""
        return _split(self._deployment.stream(["sh", "-c", script, "sh", *arguments], cwd=path), b"\0")

    async def finish(self, plan: SwapPlan) -> bool:
        try:
            found = await self._script(scripts.FINISH, plan.target, plan.staging_name)
        except (TargetMissing, SwapImpossible):
            return False
        return found.stdout.strip() == b"done"

    async def discard(self, plan: SwapPlan) -> None:
        with suppress(TargetMissing):
            await self._script(scripts.DISCARD, plan.target, plan.staging_name)

    async def _as_owner(
        self, plan: SwapPlan, folder: str, script: str, *arguments: str, names: Sequence[bytes] | None = None
    ) -> CommandResult:
        """Inside staging, as whom the site belongs to: it can do nothing there that it could not do anyway."""
        status = await self.status(plan.target)
        user = User(status.uid, status.gid) if self._deployment.privileged else None
        return await self._script(script, _staged(plan, folder), plan.target, *arguments, names=names, user=user)

    async def _script(
        self, script: str, path: str, *arguments: str, names: Sequence[bytes] | None = None, user: User | None = None
    ) -> CommandResult:
        """Raises TargetMissing, NoSpace, SwapImpossible."""
        argv = ["sh", "-c", f"{scripts.COMMON}\n{script}", "sh", *arguments]
        input = None if names is None else _nul(names)
        try:
            return await self._deployment.run(argv, cwd=path, input=input, user=user)
        except CommandFailed as error:
            if "No space left" in error.stderr or "Disk quota" in error.stderr:
                raise NoSpace(f"No space left on the file system of {path}; free some and try again") from error
            raise SwapImpossible(f"{path}: {error.stderr.strip()[-500:] or error.message}") from error


def _staged(plan: SwapPlan, folder: str) -> str:
    return f"{plan.target.rstrip('/')}/{plan.staging_name}/{folder}"


_WITHOUT_STAGING = ("-path", f"./{STAGING_PREFIX}*", "-prune", "-o")


async def _nul(names: Sequence[bytes]) -> ByteStream:
    for start in range(0, len(names), _BATCH):
        yield b"".join(name + b"\0" for name in names[start : start + _BATCH])
        await asyncio.sleep(0)


async def _split(stream: ByteStream, separator: bytes) -> AsyncGenerator[bytes, None]:
    rest = b""
    async with aclosing(stream):
        async for chunk in stream:
            *whole, rest = (rest + chunk).split(separator)
            for record in whole:
                yield record
    if rest:
        raise ArchiveDamaged("A listing ended in the middle of a record")

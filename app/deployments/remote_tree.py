"""File operations on a site's folder at another end, with nothing but a POSIX shell and its usual tools.

A script is started inside the folder it works on, which the wrapper has entered without following a link. A second
folder is reached through a descriptor (`/proc/self/fd/8`), never through its path. What a tenant could race with is
changed as swap_scripts says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from app.archives.streams import ByteStream
from app.deployments import merge_scripts, owner_scripts, swap_scripts
from app.deployments import remote_scripts as scripts
from app.deployments.base import MAX_STDERR, CommandResult, Deployment, Outcome
from app.deployments.exclusions import find_matching, split
from app.deployments.mounts import mounts_below
from app.deployments.remote_links import LinkedTree
from app.deployments.remote_merge import NAMES, NOTES, RemoteMerge, notes_arguments
from app.deployments.swap import checked_paths, entries_of, pack, sides
from app.deployments.tree import (
    EVERYTHING,
    STAGING_PREFIX,
    Entry,
    MergeRules,
    SiteTree,
    Staged,
    SwapMode,
    SwapPlan,
    TreeStatus,
    User,
)
from app.errors import DeploymentUnreachable, NoSpace, StagingLost, SwapImpossible, TargetMissing

Parts = tuple[bytes, ...]
_BATCH = 2000
_TYPES = {0o01: "p", 0o02: "c", 0o04: "d", 0o06: "b", 0o10: "f", 0o12: "l", 0o14: "s"}  # inode(7), st_mode >> 12


class RemoteTree(SiteTree):
    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment

    async def status(self, path: str) -> TreeStatus:
        found = await self._script(scripts.STATUS, path)
        uid, gid, device, above, blocks, size = found.stdout.split()
        return TreeStatus(int(uid), int(gid), device != above, int(blocks) * int(size))

    async def swap_mode(self, path: str) -> SwapMode:
        """Exchanging two folders in one step needs renameat2, which no usual tool offers."""
        await self.status(path)
        return "entries"

    async def mounts(self, path: str) -> list[str]:
        try:
            table = await self._deployment.run(["cat", "/proc/self/mountinfo"], timeout=60)
        except TimeoutError as error:
            raise DeploymentUnreachable(f"What is mounted below {path} was not told within 60 seconds") from error
        return mounts_below(table.stdout.decode("utf-8", "surrogateescape"), path)

    async def immutable(self, path: str, *, deep: bool) -> list[str]:
        """As lsattr tells it, where it is installed. Source: lsattr(1) of e2fsprogs."""
        argv = ["sh", "-c", _IMMUTABLE, "sh", "-aR" if deep else "-a"]
        found = await self._deployment.run(argv, cwd=path, check=False)
        return found.stdout.decode("utf-8", "backslashreplace").splitlines()

    async def matching(self, path: str, patterns: Sequence[str]) -> list[bytes]:
        return await find_matching(self._deployment, path, patterns)

    async def prepare(self, plan: SwapPlan, owner: User) -> str:
        who = f"{owner.uid}:{owner.gid}" if self._deployment.privileged else ""
        made = await self._script(swap_scripts.PREPARE, plan.target, plan.staging_name, who)
        plan.staging = int(made.stdout)
        return f"{plan.staging_path}/new"

    async def inventory(self, path: str, *, live: bool = False) -> AsyncGenerator[list[Entry], None]:
        if "gnu find" not in self._deployment.tools:
            found = await self._script(scripts.IS_GNU_FIND, path)
            self._deployment.tools["gnu find"] = found.stdout.strip() == b"yes"
        if self._deployment.tools["gnu find"]:
            entries = self._gnu_entries(path, live)
        else:
            entries = self._live_entries(path) if live else self._plain_entries(path)
        batch: list[Entry] = []
        async with aclosing(entries):
            async for entry in entries:
                batch.append(entry)
                if len(batch) >= _BATCH:
                    yield batch
                    batch = []
        yield batch

    async def _gnu_entries(self, path: str, live: bool) -> AsyncGenerator[Entry, None]:
        argv = ["find", ".", "-mindepth", "1", *_WITHOUT_STAGING, "-printf", r"%y %s %U %G %T@ %P\0"]
        async with aclosing(
            split(self._deployment.stream(argv, cwd=path, accept=(0, 1) if live else (0,)), b"\0")
        ) as records:
            async for record in records:
                kind, size, uid, gid, mtime, name = record.split(b" ", 5)
                yield Entry(name, kind.decode(), int(size) if kind == b"f" else 0, int(uid), int(gid), float(mtime))

    async def _live_entries(self, path: str) -> AsyncGenerator[Entry, None]:
        """From one walk, a line each: a name with a line break is left out."""
        argv = ["find", ".", *_WITHOUT_STAGING, "-exec", "stat", "-c", "%f %s %u %g %Y %n", "{}", "+"]
        async with aclosing(split(self._deployment.stream(argv, cwd=path, accept=range(126)), b"\n")) as lines:
            async for line in lines:
                fields = line.split(b" ", 5)
                if len(fields) == 6 and fields[5].startswith(b"./"):
                    mode, size, uid, gid, mtime, name = fields
                    kind = _TYPES.get(int(mode, 16) >> 12, "f")
                    size = size if kind == "f" else b"0"
                    yield Entry(name[2:], kind, int(size), int(uid), int(gid), float(mtime))

    async def _plain_entries(self, path: str) -> AsyncGenerator[Entry, None]:
        """Names and facts from two walks of a tree that nobody else can change."""
        walk = ["find", ".", *_WITHOUT_STAGING]
        names = split(self._deployment.stream([*walk, "-print0"], cwd=path), b"\0")
        stat = [*walk, "-exec", "stat", "-c", "%f %s %u %g %Y", "{}", "+"]
        facts = split(self._deployment.stream(stat, cwd=path), b"\n")
        async with aclosing(names), aclosing(facts):
            async for name in names:
                fact = await anext(facts, None)
                if fact is None:
                    raise SwapImpossible(f"{path} changed while it was being listed")
                mode, size, uid, gid, mtime = fact.split()
                kind = _TYPES[int(mode, 16) >> 12]
                if name != b".":
                    size = size if kind == "f" else b"0"
                    yield Entry(name.removeprefix(b"./"), kind, int(size), int(uid), int(gid), float(mtime))

    async def sync(self, path: str) -> None:
        await self._script("sync -f . 2>/dev/null || sync", path)

    async def set_owners(self, path: str, owners: Sequence[tuple[bytes, int, int]], extracted: User) -> list[bytes]:
        groups: dict[str, list[bytes]] = {}
        for name, uid, gid in owners:
            groups.setdefault(f"{uid}:{gid}", []).append(name)
        refused: list[bytes] = []
        for who, names in groups.items():
            names.sort(key=lambda name: name.rpartition(b"/")[::2])
            arguments = (who, str(extracted.uid))
            done = await self._script(
                owner_scripts.SET_OWNERS, path, *arguments, names=[b"./" + name for name in names]
            )
            refused += [name.removeprefix(b"./") for name in done.stdout.split(b"\0") if name]
        return refused

    async def make_folder(self, path: str, owner: User) -> None:
        who = f"{owner.uid}:{owner.gid}" if self._deployment.privileged else ""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        await self._script(owner_scripts.MAKE_FOLDER, "/", who, *parts)

    async def merge(self, plan: SwapPlan, roots: Sequence[bytes]) -> None:
        await self._swap_script(merge_scripts.MERGE, plan)
        merged = LinkedTree(self._deployment, self._script, f"{plan.staging_path}/merged")
        await merged.add(f"{plan.staging_path}/new", EVERYTHING, "")
        await merged.add(plan.target, checked_paths(roots), STAGING_PREFIX)
        await merged.finish()

    async def measure(self, plan: SwapPlan) -> None:
        found = await self._swap_script(swap_scripts.MEASURE, plan, plan.tree, most=_MOST_LISTED)
        mode, *records = found.stdout.split(b"\0")
        if len(found.stdout) >= _MOST_LISTED:
            raise SwapImpossible(f"{plan.target} has more entries than a swap can journal; put them into subfolders")
        middle = records.index(b"")
        coming = {name.removeprefix(b"./") for name in records[:middle]}
        going = {name.removeprefix(b"./") for name in records[middle + 1 :]} - {b""}
        plan.mode_before = int(mode, 8)
        plan.names = pack(sides(coming, going))

    async def forward(self, plan: SwapPlan) -> list[str]:
        names, merges = entries_of(plan), "1" if plan.roots else ""
        done = await self._swap_script(swap_scripts.FORWARD, plan, plan.tree, merges, names=names)
        return [name.decode("utf-8", "backslashreplace")[2:] for name in done.stdout.split(b"\0") if name]

    async def backward(self, plan: SwapPlan) -> None:
        mode = "" if plan.mode_before is None else f"{plan.mode_before:o}"
        names, merges = entries_of(plan)[::-1], "1" if plan.roots else ""
        await self._swap_script(swap_scripts.BACKWARD, plan, plan.tree, merges, mode, names=names)

    async def carry_over(self, plan: SwapPlan, roots: Sequence[bytes]) -> int:
        """Raises SwapImpossible with the names of those that could not be carried over."""
        tops = [root if root == b"." else b"./" + root for root in checked_paths(roots)]
        argv = _argv(merge_scripts.CHANGED, plan.staging_name, str(plan.staging))
        listed = self._deployment.stream(argv, input=_nul(tops), cwd=plan.target, accept=range(126))
        changed: list[bytes] = []
        async with aclosing(split(listed, b"\0")) as names:
            async for name in names:
                changed.append(name)
        if not changed:
            return 0
        argv, old, user = _argv(merge_scripts.CARRY, plan.target), f"{plan.staging_path}/old", await self._owner(plan)
        done = await self._deployment.run(argv, cwd=old, input=_nul(changed), user=user)
        if done.stderr:
            raise SwapImpossible(
                f"{plan.target}: changed while it was swapped, and not carried over: {done.stderr[:500]}"
            )
        return sum(int(count) for count in done.stdout.split())

    async def add_missing(self, plan: SwapPlan, rules: MergeRules) -> int:
        merge = RemoteMerge(rules, lambda script, pairs: self._as_owner(plan, "new", script, names=pairs))
        new, wanted = f"{plan.staging_path}/new", notes_arguments(rules)
        await merge.have(self._records(NAMES, plan.target, STAGING_PREFIX))
        await merge.staged(self._records(NAMES, new, STAGING_PREFIX))
        owner = await self._owner(plan)
        await merge.note(self._records(NOTES, plan.target, *wanted, user=owner), live=True)
        await merge.note(self._records(NOTES, new, *wanted, user=owner), live=False)
        await merge.add(self.inventory(new))
        await self.sync(plan.target)
        return merge.count

    def _records(
        self, script: str, path: str, *arguments: str, user: User | None = None
    ) -> AsyncGenerator[bytes, None]:
        """What a script prints, with a NUL at each end."""
        return split(self._deployment.stream(["sh", "-c", script, "sh", *arguments], cwd=path, user=user), b"\0")

    async def holds_old(self, plan: SwapPlan) -> bool:
        if plan.staging is None:
            return False
        return bool((await self._swap_script(swap_scripts.HOLDS_OLD, plan)).stdout.strip())

    async def remove(self, plan: SwapPlan) -> None:
        mounted = await self.mounts(plan.staging_path)
        if mounted:
            raise SwapImpossible(f"{mounted[0]} is mounted in what is to be removed; unmount it")
        script = swap_scripts.REMOVE if plan.staging is not None else swap_scripts.REMOVE_UNMADE
        try:
            await self._swap_script(script, plan)
        except TargetMissing:
            await self._deployment.run(["true"])  # raises when it is the container that is gone, not the folder

    async def staged(self, path: str) -> list[Staged]:
        found = await self._script(swap_scripts.STAGED, path, STAGING_PREFIX)
        records = [record.split(b" ", 2) for record in found.stdout.split(b"\0")[:-1]]
        return [
            Staged(name.decode("utf-8", "backslashreplace"), int(inode), old == b"1") for inode, old, name in records
        ]

    async def _swap_script(
        self,
        script: str,
        plan: SwapPlan,
        *arguments: str,
        names: Sequence[bytes] | None = None,
        most: int = MAX_STDERR,
    ) -> CommandResult:
        """In staging."""
        inode = "" if plan.staging is None else str(plan.staging)
        return await self._script(script, plan.target, plan.staging_name, inode, *arguments, names=names, most=most)

    async def _as_owner(self, plan: SwapPlan, folder: str, script: str, *, names: Sequence[bytes]) -> CommandResult:
        """Inside staging, as whom the site belongs to: it can do nothing there that it could not do anyway."""
        user = await self._owner(plan)
        return await self._script(script, f"{plan.staging_path}/{folder}", plan.target, names=names, user=user)

    async def _owner(self, plan: SwapPlan) -> User | None:
        """Whom the site belongs to; None where commands are run as nobody else."""
        if not self._deployment.privileged:
            return None
        status = await self.status(plan.target)
        return User(status.uid, status.gid)

    async def _script(
        self,
        script: str,
        path: str,
        *arguments: str,
        names: Sequence[bytes] | None = None,
        user: User | None = None,
        most: int = MAX_STDERR,
    ) -> CommandResult:
        """`most`: how much of its output is kept, in bytes. Raises TargetMissing, NoSpace, SwapImpossible."""
        input = None if names is None else _nul(names)
        outcome, kept = Outcome(), bytearray()
        output = self._deployment.stream(
            _argv(script, *arguments), cwd=path, input=input, user=user, accept=range(256), outcome=outcome
        )  # fmt: skip
        async with aclosing(output):
            async for chunk in output:
                if len(kept) < most:
                    kept += chunk
        assert outcome.status is not None
        if outcome.status == 0:
            return CommandResult(0, bytes(kept), outcome.stderr)
        said = "\n".join(line for line in outcome.stderr.splitlines() if not line.startswith("xargs:"))
        if outcome.status == owner_scripts.A_LINK:
            raise TargetMissing(f"{said.strip()[-500:]}; give its real path")
        if outcome.status == swap_scripts.LOST:
            raise StagingLost(f"{path}: {said.strip()[-500:]}: somebody has replaced what the restore staged")
        if "No space left" in said or "Disk quota" in said:
            raise NoSpace(f"No space left on the file system of {path}; free some and try again")
        raise SwapImpossible(f"{path}: {said.strip()[-500:] or f'a command ended with {outcome.status}'}")


_MOST_LISTED = 64 << 20
# Flags come as suSDiad… and a path. sed, since a shell reads a pipe byte by byte.
_IMMUTABLE = r"""
command -v lsattr >/dev/null || exit 0
lsattr "$1" . 2>/dev/null |
  sed -n '/^[-s][-u][-S][-D][-a-zA-Z]*[ia][-a-zA-Z]* ./{ s/^[^ ]* //; s/^\.\///; p; }' |
  head -n 20
"""
_WITHOUT_STAGING = ("-path", f"./{STAGING_PREFIX}*", "-prune", "-o")


def _argv(script: str, *arguments: str) -> list[str]:
    return ["sh", "-c", f"{swap_scripts.COMMON}\n{script}", "sh", *arguments]


async def _nul(names: Sequence[bytes]) -> ByteStream:
    for start in range(0, len(names), _BATCH):
        yield b"".join(name + b"\0" for name in names[start : start + _BATCH])
        await asyncio.sleep(0)

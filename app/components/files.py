"""A site's files as a tar archive of its document root."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from app.archives.streams import ByteStream, Sink, SourceReader, transform
from app.archives.tar import Member, MemberList, TarScanner
from app.components.base import Component, Dump, Report, RestoreContext
from app.components.tar_tool import only_devices_failed, probe
from app.components.tree_dump import dump_tree
from app.deployments.base import Deployment, SwapMode, SwapPlan, User
from app.errors import (
    ArchiveDamaged,
    CommandFailed,
    ConsentRequired,
    MemberMismatch,
    NoSpace,
)

_NAMED = 20


@dataclass(frozen=True, slots=True)
class FilesTarget:
    """Where the files live; `reader` reads them, `owner` owns what is restored. `link`: the registered document root
    where that is a link to `document_root`.

    `allowed_uids` and `allowed_gids` are those other than `owner`'s that a restore may give files to.
    """

    document_root: str
    owner: User
    reader: User | None = None
    link: str | None = None
    exclusions: Sequence[str] = ()
    allowed_uids: frozenset[int] = frozenset()
    allowed_gids: frozenset[int] = frozenset()


class FilesComponent(Component):
    kind = "files"

    def __init__(self, deployment: Deployment, target: FilesTarget) -> None:
        self._deployment = deployment
        self._target = target

    @property
    def owner(self) -> User:
        """To whom restored files belong."""
        return self._target.owner

    async def dump(self) -> Dump:
        target = self._target
        dump = await dump_tree(self._deployment, target.document_root, target.reader, target.exclusions)
        if target.link is not None:
            dump.report.facts["document_root"] = {"link": target.link, "folder": target.document_root}
        return dump

    async def preflight(self, context: RestoreContext, plain_size: int) -> SwapMode:
        """How the swap will be done. Raises TargetMissing, NoSpace, ConsentRequired; touches nothing."""
        status = await self._deployment.tree.status(self._target.document_root)
        mode = await self._deployment.tree.swap_mode(self._target.document_root)
        if mode == "in_place" and (context.clear_existing or not context.allow_in_place):
            raise ConsentRequired(
                f"In {self._target.document_root} nothing can be moved or removed while its container does not run: "
                "start it, or add and overwrite files only (clear_existing false, allow_in_place true), which is not "
                "atomic"
            )
        if status.free >= plain_size + (64 << 20):
            return mode
        if context.allow_in_place and context.clear_existing:
            return "in_place"
        if context.allow_in_place:
            raise NoSpace("There is no room for a second copy, and restoring in place needs clear_existing")
        raise ConsentRequired(
            f"{self._target.document_root} has {status.free} bytes free, a second copy needs {plain_size}; "
            "free some, or allow restoring in place (allow_in_place), which is not atomic"
        )

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """Extract into staging, compare with the member list, swap. The live site is either old or new."""
        async with aclosing(source):
            report = Report()
            tree = self._deployment.tree
            if "plan" in context.journal and await self._finish(context):
                report.facts["resumed"] = True
                return report
            mode = await self.preflight(context, plain_size)
            report.facts["mode"] = mode
            plan = SwapPlan(self._target.document_root, context.operation, mode, context.clear_existing)
            await context.record({"plan": asdict(plan)})
            if mode == "in_place":
                await self._in_place(source, context, report)
                return report
            staging = await tree.prepare(plan, self._target.owner)
            try:
                await self.extract(source, staging, report)
                swap = await tree.swap(plan, context.confirm)
                report.facts["carried_over"] = swap.carried_over
            except BaseException:
                await asyncio.shield(self._end(plan))
                raise
            return report

    async def tidy(self, journal: dict[str, Any]) -> None:
        """The site is live already: removing a large old tree takes longer than swapping it."""
        if "plan" in journal:
            await self._deployment.tree.discard(SwapPlan(**journal["plan"]))

    async def _end(self, plan: SwapPlan) -> None:
        """Complete a swap that was interrupted, and remove staging, whatever happened before."""
        await self._deployment.tree.finish(plan)
        await self._deployment.tree.discard(plan)

    async def _finish(self, context: RestoreContext) -> bool:
        """Complete what an earlier attempt began; True when its tree is in place."""
        plan = SwapPlan(**context.journal["plan"])
        return plan.mode != "in_place" and await self._deployment.tree.finish(plan)

    async def extract(self, source: ByteStream, staging: str, report: Report, *, whole: bool = True) -> None:
        """Extract into a folder and compare with the member list. `whole`: nothing else may be there.

        Raises MemberMismatch, NoSpace.
        """
        members = MemberList()
        try:
            await self._unpack(listed(source, members), staging, members, report)
            syncing = asyncio.create_task(self._deployment.tree.sync(staging))  # the disk and a core at once
            try:
                await self._compare(staging, members, whole=whole)
            finally:
                await syncing
            await self._owners(staging, members, report)
            report.facts["members"] = members.count
        finally:
            members.close()

    async def _unpack(self, source: ByteStream, staging: str, members: MemberList, report: Report) -> None:
        async with aclosing(source):
            tool = await probe(self._deployment, report)
            if tool is None:
                assert self._deployment.archive is not None
                await self._deployment.archive.write(staging, source, self._kept)
                return
            user = self._target.owner if self._deployment.privileged else None
            result = await self._deployment.run(tool.extract(), input=source, cwd=staging, user=user, check=False)
        devices = members.devices(_NAMED)
        for path in devices:
            report.warn("device_left_out", "a device, which only root can make", _shown(path))
        if result.status != 0 and not (devices and only_devices_failed(result.stderr)):
            if "No space left" in result.stderr or "Disk quota" in result.stderr:
                raise NoSpace(f"No space left while restoring {self._target.document_root}; nothing was changed")
            raise CommandFailed("tar", result.status, result.stderr[-2000:])

    async def _compare(self, staging: str, members: MemberList, *, whole: bool) -> None:
        """tar's status 0 proves nothing: what is there must be what the archive said."""
        differences: list[str] = []
        async with aclosing(self._deployment.tree.inventory(staging)) as batches:
            async for batch in batches:
                found = [(entry.path, entry.type, entry.size) for entry in batch]
                differences += await asyncio.to_thread(members.compare, found, extra=not whole)
                if len(differences) > _NAMED:
                    break
        differences += [f"{_shown(path)} was not extracted" for path in members.missing(_NAMED)]
        if differences:
            named = "; ".join(differences[:_NAMED])
            raise MemberMismatch(f"What was extracted is not what the archive holds; nothing was changed: {named}")

    async def _owners(self, staging: str, members: MemberList, report: Report) -> None:
        allowed: list[tuple[bytes, int, int]] = []
        owner = self._target.owner
        for path, uid, gid in members.owned_by_others(owner.uid, owner.gid):
            kept = self._kept(uid, gid)
            if self._deployment.privileged and kept != (owner.uid, owner.gid):
                allowed.append((path, *kept))
            if not self._deployment.privileged or kept != (uid, gid):
                report.warn("owner_changed", f"belonged to {uid}:{gid}, which is not on the allow-list", _shown(path))
        if allowed:
            await self._deployment.tree.set_owners(staging, allowed)

    def _kept(self, uid: int, gid: int) -> tuple[int, int]:
        """Whom a member is given to: another than the owner only when that is allowed."""
        target = self._target
        return (
            uid if uid in target.allowed_uids else target.owner.uid,
            gid if gid in target.allowed_gids else target.owner.gid,
        )

    async def _in_place(self, source: ByteStream, context: RestoreContext, report: Report) -> None:
        """Not atomic, and only with consent: empty the folder, where that is possible, then extract into it."""
        root = self._target.document_root
        await context.confirm()
        if context.clear_existing:
            await self._deployment.run(["find", ".", "-mindepth", "1", "-delete"], cwd=root)
        await self.extract(source, root, report, whole=context.clear_existing)
        report.warn("in_place", "restored in place: the site was incomplete while it was being written")


def listed(source: ByteStream, members: MemberList) -> ByteStream:
    """Pass a tar stream on and note its members. Raises ArchiveDamaged when it does not end."""

    def work(reader: SourceReader, sink: Sink) -> None:
        scanner = TarScanner()
        for chunk in reader.chunks():
            found: list[Member] = list(scanner.feed(chunk))
            if found:
                members.add(found)
            sink.write(chunk)
        if not scanner.ended:
            raise ArchiveDamaged("The tar archive has no end-of-archive marker")

    return transform(source, work, "member list")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")

"""A tar stream into a folder, and proof that all of it arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from typing import Any

from app.archives.members import MemberList
from app.archives.streams import ByteStream, watched
from app.archives.tar import TarScanner
from app.components.base import Report
from app.components.tar_tool import only_devices_failed, probe
from app.deployments.base import Deployment, User
from app.deployments.tree import SwapPlan
from app.errors import ArchiveDamaged, CommandFailed, MemberMismatch, NoSpace

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


def journalled(plan: SwapPlan) -> dict[str, Any]:
    """A part's journal of its swap. `unsettled`: to be finished or undone. `tidy`: something is to be removed."""
    whole = plan.state == "tidied" or plan.mode == "in_place" or plan.cleared
    return {"plan": asdict(plan), "unsettled": plan.state == "begun" and not whole, "tidy": not whole}


class Extraction:
    def __init__(self, deployment: Deployment, target: FilesTarget) -> None:
        self._deployment = deployment
        self._target = target
        self._made: set[tuple[int, int]] = set()  # whose is what was extracted

    async def run(
        self,
        source: ByteStream,
        folder: str,
        members: MemberList,
        report: Report,
        *,
        whole: bool = True,
        meanwhile: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Extract into a folder, note in `members` what there is, and compare. `whole`: nothing else may be there.
        `meanwhile`: done once it is compared, while the disk still writes.

        Raises MemberMismatch, NoSpace.
        """
        await self._unpack(listed(source, members), folder, members, report)
        syncing = asyncio.create_task(self._deployment.tree.sync(folder))  # the disk and a core at once
        try:
            await self._compare(folder, members, whole=whole)
            if meanwhile is not None:
                await meanwhile()
        except BaseException:  # this is what is told, not what the sync may end with
            await asyncio.gather(syncing, return_exceptions=True)
            raise
        await syncing
        await self._owners(folder, members, report)
        report.facts["members"] = members.count

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
                self._made.update((entry.uid, entry.gid) for entry in batch)
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
        if not self._deployment.privileged:
            self._told(members, report)
            return
        for path, uid, gid in members.owned_by_others(owner.uid, owner.gid):
            kept = self._kept(uid, gid)
            if kept != (owner.uid, owner.gid):
                allowed.append((path, *kept))
            if kept != (uid, gid):
                report.warn("owner_changed", f"belonged to {uid}:{gid}, which is not on the allow-list", _shown(path))
        for path in await self._deployment.tree.set_owners(staging, allowed, owner) if allowed else ():
            report.warn(
                "owner_kept", "belongs to somebody else than who restored it: its owner was left", _shown(path)
            )

    def _told(self, members: MemberList, report: Report) -> None:
        """Where nothing can be given away, as in a pod that does not run as root: all belongs to whoever
        extracted it, not to whom the folder belongs to."""
        for path, uid, gid in members.owned_by_others(self._target.owner.uid, self._target.owner.gid):
            if (uid, gid) not in self._made:
                message = f"belonged to {uid}:{gid}; only root could give it back, and commands there run as another"
                report.warn("owner_changed", message, _shown(path))

    def _kept(self, uid: int, gid: int) -> tuple[int, int]:
        """Whom a member is given to: another than the owner only when that is allowed."""
        target = self._target
        return (
            uid if uid in target.allowed_uids else target.owner.uid,
            gid if gid in target.allowed_gids else target.owner.gid,
        )


def listed(source: ByteStream, members: MemberList) -> ByteStream:
    """Pass a tar stream on and note its members. Raises ArchiveDamaged when it does not end."""

    scanner = TarScanner()

    def note(chunk: bytes) -> None:
        if found := list(scanner.feed(chunk)):
            members.add(found)

    def end() -> None:
        if not scanner.ended:
            raise ArchiveDamaged("The tar archive has no end-of-archive marker")

    return watched(source, note, end, "member list")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")

"""A site's files as a tar archive of its document root."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from contextlib import aclosing, closing
from typing import Any, TypeVar

from app.archives.members import MemberList
from app.archives.streams import ByteStream
from app.archives.tar import TarScanner
from app.components.base import Component, Dump, Report, RestoreContext, Settled, still_ours
from app.components.extraction import Extraction, FilesTarget, journalled, listed
from app.components.survey import Survey
from app.components.tar_tool import probe
from app.components.tree_dump import dump_tree
from app.deployments.base import Deployment, User
from app.deployments.swap import Swap
from app.deployments.swap_scripts import CLEAR
from app.deployments.tree import EVERYTHING, SwapMode, SwapPlan
from app.errors import ConsentRequired, LiberuError, NoSpace, TargetProtected
from app.sizes import human_size

log = logging.getLogger(__name__)
_RESERVE = 64 << 20
_LOOKED_INTO = 8 << 20
T = TypeVar("T")
U = TypeVar("U")


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
        dump = await dump_tree(self._deployment, target.document_root, target.reader, target.exclusions, target.owner)
        if target.link is not None:
            dump.report.facts["document_root"] = {"link": target.link, "folder": target.document_root}
        return dump

    async def preflight(self, context: RestoreContext, plain_size: int) -> SwapMode:
        """How the swap will be done. Raises TargetMissing, TargetProtected, NoSpace, ConsentRequired; touches
        nothing."""
        await self._require_movable(deep=False)
        return await self._mode(context, plain_size)

    async def _mode(self, context: RestoreContext, plain_size: int) -> SwapMode:
        """As `preflight`, but for what cannot be moved, which is looked at again right before the swap."""
        root = self._target.document_root
        status = await self._deployment.tree.status(root)
        mode = await self._deployment.tree.swap_mode(root)
        if mode == "in_place" and (context.clear_existing or not context.allow_in_place):
            raise ConsentRequired(
                f"In {root} nothing can be moved or removed while its container does not run: "
                "start it, or add and overwrite files only (clear_existing false, allow_in_place true), which is not "
                "atomic"
            )
        if status.free >= plain_size + _RESERVE:
            return mode
        if context.allow_in_place and context.clear_existing:
            return "in_place"
        if context.allow_in_place:
            raise NoSpace("There is no room for a second copy, and restoring in place needs clear_existing")
        raise ConsentRequired(
            f"{root} has {human_size(status.free)} free, a second copy needs {human_size(plain_size + _RESERVE)} "
            f"with the reserve of {human_size(_RESERVE)}: free some, or allow restoring in place (allow_in_place), "
            "which is not atomic"
        )

    async def _require_movable(self, *, deep: bool) -> None:
        """Raises TargetProtected, with names, for what could be neither moved nor removed."""
        root = self._target.document_root
        tree = self._deployment.tree
        mounted, fixed = await _at_once(tree.mounts(root), tree.immutable(root, deep=deep))
        if mounted:
            raise TargetProtected(
                f"File systems are mounted inside {root}, and a restore moves nothing across them: "
                f"{', '.join(mounted[:20])}. Unmount them for the restore, or make them part of another domain"
            )
        self._refuse_fixed(fixed)

    def _refuse_fixed(self, fixed: Sequence[str]) -> None:
        if fixed:
            raise TargetProtected(
                f"In {self._target.document_root} some entries are immutable or append-only: {', '.join(fixed)}. "
                "Remove that (chattr -i -a) and try again"
            )

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """Extract into staging, compare with the member list, swap. The live site is either old or new."""
        async with aclosing(source):
            report = Report()
            previous = _planned(context.journal)
            if previous is not None and previous.state in ("swapped", "tidied"):
                report.facts["resumed"] = True
                return report
            if previous is not None and previous.mode != "in_place":
                await self._swap(previous, context).tidy()  # it alone knows which folder it had made
            mode = await self._mode(context, plain_size)
            report.facts["mode"] = mode
            plan = SwapPlan(self._target.document_root, context.operation, mode, context.clear_existing)
            if mode == "in_place":
                await self._in_place(source, plan, context, report)
                return report
            await _save(context, plan)
            swap = self._swap(plan, context)
            try:
                await self._replace(source, swap, context, report)
            except BaseException:
                await asyncio.shield(self._clear(swap))
                raise
            await self._tell(swap, context, report)
            return report

    async def _replace(self, source: ByteStream, swap: Swap, context: RestoreContext, report: Report) -> None:
        staging = await swap.prepare(self._target.owner)

        async def survey() -> None:
            report.facts["live"] = await self._surveyed(members, context, await self._excluded(context))

        with closing(MemberList()) as members:
            extraction = Extraction(self._deployment, self._target)
            await extraction.run(source, staging, members, report, meanwhile=survey)
            lost = self._emptied(members, report.facts["live"], context)
        if lost is not None:
            raise ConsentRequired(f"{lost}. Nothing was changed")
        # The exclusions as they are now: the disk may have taken long.
        stays = await self._excluded(context) if context.clear_existing else EVERYTHING
        await swap.run(stays, context.confirm)

    def _emptied(self, members: MemberList, live: dict[str, Any], context: RestoreContext) -> str | None:
        """What a restore would do that leaves no file where there are some, as far as nobody has agreed to it."""
        if members.files or not live["goes"]["files"] or context.allow_empty:
            return None
        return (
            f"There is no file in what is to be restored, and {live['goes']['files']} files of "
            f"{self._target.document_root} would go: the site would be empty. Set allow_empty if it is to be"
        )

    async def _excluded(self, context: RestoreContext) -> Sequence[bytes]:
        """What the backup left out on purpose, as far as it is live: it stays."""
        patterns = self._target.exclusions if context.exclusions is None else context.exclusions
        return await self._deployment.tree.matching(self._target.document_root, patterns)

    async def _tell(self, swap: Swap, context: RestoreContext, report: Report) -> None:
        """The site is live: nothing of this may fail the restore."""
        plan = swap.plan
        report.facts["carried_over"] = swap.carried_over
        for name in swap.arrived:
            report.warn("arrived_meanwhile", f"came while it was restored; kept in {plan.staging_path}/arrived", name)
        for trouble in swap.troubles:
            report.warn("not_carried_over", f"{trouble}; what was live is in {plan.staging_path}/{plan.old_tree}")
        lost_otherwise = bool(swap.arrived or swap.troubles)
        if not lost_otherwise and (not plan.clear_existing or context.keep_hours == 0):
            return
        reason = None if lost_otherwise else await self._why_not_kept(plan, context)
        if reason is not None:
            report.warn("replaced_not_kept", f"what was live is not kept: {reason}")
            return
        hours = max(context.keep_hours, 24) if lost_otherwise else context.keep_hours
        await context.record({"keep_hours": hours, "only_copy": lost_otherwise})
        report.facts["replaced"] = {"folder": f"{plan.staging_path}/{plan.old_tree}", "hours": hours}

    async def _why_not_kept(self, plan: SwapPlan, context: RestoreContext) -> str | None:
        try:
            tool = await probe(self._deployment, Report())
            if tool is None or not tool.gnu:
                return "the tar there could not leave it out of a backup"
            free = (await self._deployment.tree.status(plan.target)).free
        except LiberuError as error:
            return error.message
        if free < context.keep_free:
            return f"only {human_size(free)} are free, and {human_size(context.keep_free)} must stay free"
        return None

    async def rehearse(self, source: ByteStream, context: RestoreContext) -> Report:
        report = Report()
        with closing(MemberList()) as members:
            async with aclosing(listed(source, members)) as stream:
                async for _ in stream:
                    pass
            report.facts["live"] = await self._surveyed(members, context, await self._excluded(context))
            if (lost := self._emptied(members, report.facts["live"], context)) is not None:
                report.facts["needs"] = {"allow_empty": lost}
        return report

    async def _surveyed(
        self, members: MemberList, context: RestoreContext, excluded: Sequence[bytes]
    ) -> dict[str, Any]:
        """What a restore changes of the live tree. One walk, where it tells what is immutable too.

        Raises TargetProtected for what could be neither moved nor removed.
        """
        tree = self._deployment.tree
        survey = Survey(members, context, excluded)
        await _at_once(
            self._require_movable(deep=not tree.tells_fixed),
            survey.run(tree.inventory(self._target.document_root, live=True)),
        )
        self._refuse_fixed(survey.fixed)
        return survey.facts()

    async def _holds_files(self) -> bool:
        """Whether anything but folders is live."""
        async with aclosing(self._deployment.tree.inventory(self._target.document_root, live=True)) as batches:
            async for batch in batches:
                if any(entry.type != "d" for entry in batch):
                    return True
        return False

    async def settle(self, context: RestoreContext) -> Settled:
        plan = _planned(context.journal)
        if plan is None:
            return Settled()
        if plan.mode == "in_place":
            incomplete = f"{plan.target} was being restored in place: it is incomplete, restore it again"
            return Settled("untouched", incomplete if plan.state == "begun" else None)
        swap = self._swap(plan, context)
        state = await swap.settle(back=not context.resumes)
        if state == "undone":
            return Settled("undone", f"{plan.target} is as it was before the restore")
        if state == "swapped":
            report = Report()
            await self._tell(swap, context, report)
            told = [f"{warning.subject or ''} {warning.message}".strip() for warning in report.warnings]
            if "replaced" in report.facts:
                told.append(
                    "what it replaced is kept in {folder} for {hours} hours".format(**report.facts["replaced"])
                )
            return Settled("done", "; ".join([f"{plan.target} is restored", *told]))
        return Settled("done", f"{plan.target} is restored") if state == "tidied" else Settled()

    async def tidy(self, journal: dict[str, Any]) -> None:
        """The site is live already: removing a large old tree takes longer than swapping it."""
        plan = _planned(journal)
        if plan is not None and plan.mode != "in_place":

            async def save(plan: SwapPlan) -> None:
                journal.update(journalled(plan))

            async def owned() -> bool:
                return True

            await Swap(self._deployment.tree, plan, save, owned).tidy()

    def _swap(self, plan: SwapPlan, context: RestoreContext) -> Swap:
        return Swap(self._deployment.tree, plan, lambda plan: _save(context, plan), lambda: still_ours(context))

    @staticmethod
    async def _clear(swap: Swap) -> None:
        """After a failure. What cannot be removed now is removed by housekeeping."""
        if swap.plan.state in ("planned", "undone"):
            try:
                await swap.tidy()
            except Exception as error:  # noqa: BLE001,RUF100  the restore's own error is what people must see
                log.warning("What a restore staged cannot be removed yet: %s %s", type(error).__name__, error)

    async def _in_place(self, source: ByteStream, plan: SwapPlan, context: RestoreContext, report: Report) -> None:
        """Not atomic, and only with consent: empty the folder, where that is possible, then extract into it."""
        root = self._target.document_root
        if self._deployment.archive is None:
            await self._require_movable(deep=True)
        if context.clear_existing and not context.allow_empty:
            source, files = await _looked_into(source)
            if not files and await self._holds_files():
                raise ConsentRequired(
                    f"There is no file in what is to be restored: {root} would be empty. Set allow_empty if it is to "
                    "be. Nothing was changed"
                )
        await context.confirm()
        plan.state = "begun"
        await _save(context, plan)
        if context.clear_existing:
            await self._deployment.run(["sh", "-ec", CLEAR], cwd=root)
        with closing(MemberList()) as members:
            extraction = Extraction(self._deployment, self._target)
            await extraction.run(source, root, members, report, whole=context.clear_existing)
        report.warn("in_place", "restored in place: the site was incomplete while it was being written")
        plan.state = "tidied"
        await _save(context, plan)


async def _looked_into(source: ByteStream) -> tuple[ByteStream, bool]:
    """The same tar stream, and whether there is a file in it; as much of it is read as that takes, 8 MiB at most."""
    scanner, kept, files = TarScanner(), list[bytes](), False
    async for chunk in source:
        kept.append(chunk)
        files = any(member.type in "fh" for member in scanner.feed(chunk))
        if files or sum(map(len, kept)) > _LOOKED_INTO:
            break

    async def whole() -> ByteStream:
        async with aclosing(source):
            for chunk in kept:
                yield chunk
            async for chunk in source:
                yield chunk

    return whole(), files


async def _at_once(first: Coroutine[Any, Any, T], second: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Elsewhere a command is mostly waiting. When one fails the other is cancelled, and the error raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(first), group.create_task(second)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return tasks[0].result(), tasks[1].result()


def _planned(journal: dict[str, Any]) -> SwapPlan | None:
    return SwapPlan(**journal["plan"]) if journal.get("plan") else None


async def _save(context: RestoreContext, plan: SwapPlan) -> None:
    await context.record(journalled(plan))

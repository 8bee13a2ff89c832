"""A domain's mail: maildirs as a tar archive; a restore only adds what is missing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

from app.archives.members import MemberList
from app.archives.streams import ByteStream
from app.components.base import NOT_REMOVED, STAGING_LEFT, Component, Dump, Report, RestoreContext
from app.components.extraction import Extraction, FilesTarget, journalled
from app.components.maildir import MaildirRules
from app.components.tree_dump import dump_tree
from app.components.tree_survey import report_no_mail
from app.deployments.base import Deployment, User
from app.deployments.swap import Swap
from app.deployments.tree import SwapPlan
from app.errors import NoSpace, TargetMissing
from app.sizes import human_size

#: Bytes that a restore leaves free.
_RESERVE = 64 << 20
#: As the owner, in what only the owner has extracted; some builds of busybox know no -delete.
_OTHERS = ["find", ".", "-xdev", "!", "-type", "d", "!", "-type", "f"]
_NO_MAIL = [*_OTHERS, "-print0", "-exec", "rm", "-f", "--", "{}", "+"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MailTarget:
    """`folder` holds one maildir for each address, named by the full address."""

    folder: str
    mailboxes: Sequence[str]
    owner: User


class MailComponent(Component):
    kind = "mail"

    def __init__(self, deployment: Deployment, target: MailTarget) -> None:
        self._deployment = deployment
        self._target = target

    @property
    def owner(self) -> User:
        """To whom restored mail belongs."""
        return self._target.owner

    async def dump(self) -> Dump:
        """Every maildir of the folder; a mailbox that is listed and not there is a warning."""
        dump = await dump_tree(self._deployment, self._target.folder, None, (), self._target.owner, only_files=True)
        for address in self._target.mailboxes:
            try:
                await self._deployment.tree.status(f"{self._target.folder}/{address}")
            except TargetMissing:
                dump.report.warn(
                    "mailbox_missing", "has no maildir: nothing was ever delivered, or it was moved", address
                )
        return dump

    async def preflight(self, context: RestoreContext, plain_size: int) -> str:
        """Raises TargetMissing, NoSpace."""
        status = await self._deployment.tree.status(self._target.folder)
        if status.free < plain_size + _RESERVE:
            raise NoSpace(
                f"{self._target.folder} has {human_size(status.free)} free, its mail needs "
                f"{human_size(plain_size + _RESERVE)} with the reserve of {human_size(_RESERVE)}: free some"
            )
        return "merge"

    async def restore(self, source: ByteStream, context: RestoreContext, plain_size: int) -> Report:
        """Add messages that are not there; nothing delivered since the backup is lost."""
        async with aclosing(source):
            report = Report()
            await self.tidy(context.journal)  # of an earlier attempt: it alone knows which folder it had made
            report.facts["mode"] = await self.preflight(context, plain_size)
            # Staged inside the folder: on its file system, so that adding a message is one hard link.
            swap = self._swap(
                SwapPlan(self._target.folder, context.operation, "entries", False),
                lambda plan: context.record(journalled(plan)),
            )
            await context.record(journalled(swap.plan))
            try:
                staging = await swap.prepare(self._target.owner)
                files = Extraction(self._deployment, FilesTarget(self._target.folder, self._target.owner))
                with closing(MemberList()) as members:
                    await files.run(source, staging, members, report)
                await self._only_mail(staging, report)
                await context.confirm()
                rules = MaildirRules()
                report.facts["added"] = await self._deployment.tree.add_missing(swap.plan, rules)
                if rules.letters_dropped:
                    report.warn(
                        "mail_keywords_dropped",
                        f"{rules.letters_dropped} keywords of restored messages are not kept: their folders' "
                        "dovecot-keywords have no letter for them",
                    )
            finally:
                await asyncio.shield(self._clear(swap, report))
            return report

    async def _only_mail(self, staging: str, report: Report) -> None:
        """Remove what is neither a folder nor a file: by a link, whoever reads mail would read what it leads to."""
        user = self._target.owner if self._deployment.privileged else None
        found = await self._deployment.run(_NO_MAIL, cwd=staging, user=user)
        names = [name.removeprefix(b"./") for name in found.stdout.split(b"\0")[:-1]]
        report_no_mail(names, report)

    @staticmethod
    async def _clear(swap: Swap, report: Report) -> None:
        """Nothing live was moved. What cannot be removed now is removed by housekeeping."""
        try:
            await swap.tidy()
        except Exception as error:  # noqa: BLE001,RUF100  the restore's own error, if any, is what people must see
            log.warning("What a restore of mail staged cannot be removed yet: %s %s", type(error).__name__, error)
            report.warn(STAGING_LEFT, NOT_REMOVED.format(why=error), swap.plan.staging_path)

    async def tidy(self, journal: dict[str, Any]) -> None:
        if journal.get("plan"):

            async def save(plan: SwapPlan) -> None:
                journal.update(journalled(plan))

            await self._swap(SwapPlan(**journal["plan"]), save).tidy()

    def _swap(self, plan: SwapPlan, save: Callable[[SwapPlan], Awaitable[None]]) -> Swap:
        async def owned() -> bool:
            return True

        return Swap(self._deployment.tree, plan, save, owned)
